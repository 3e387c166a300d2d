//! Real virtual machines: a guest kernel of its own, disks on its PVSCSI controllers, its way to the agent a real
//! vSocket. What a namespace cannot show is shown here.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vdvs_host_lab::protocol::{LockState, Place};
use vdvs_testkit::lab::Daemon;
use vdvs_testkit::lab::qemu::{Guest, Machine};
use vdvs_testkit::wait::{until, until_true};
use vdvs_tests::qemu::{SOON, VirtualRig};
use vdvs_tests::rig::Program;

/// The plugin's Mount waits as long as this for another VM.
const TAKEOVER: Duration = Duration::from_secs(120);

/// The block device a folder's file system is on, `sda`.
fn device_of(machine: &Machine, folder: &str) -> Result<String> {
    let source = machine.sh(&format!(
        "awk -v at={folder} 'index(at, $2) == 1 && length($2) > l {{ l = length($2); d = $1 }} END {{ print d }}' /proc/mounts"
    ))?;
    let name = source.strip_prefix("/dev/");
    name.map(str::to_owned)
        .with_context(|| format!("{folder} is on '{source}'"))
}

fn status(machine: &Machine, volume: &str) -> Result<Value> {
    let said = machine.volume("Get", &json!({ "Name": volume }))?;
    said.get("Volume")
        .cloned()
        .context("no volume in the answer")
}

#[test]
fn what_one_vm_was_told_is_safe_the_next_one_reads_after_its_power_was_cut() -> Result<()> {
    let Some(rig) = VirtualRig::up("story", 2, Guest::Small)? else {
        return Ok(());
    };
    let (first, second) = (rig.machine("vm01")?, rig.machine("vm02")?);
    rig.create(&first, "story", &[])?;
    let folder = first.mount("story", "a")?;
    let device = device_of(&first, &folder)?;

    // The disk is where the hypervisor says, under the driver a guest on ESXi has, by the name of its slot.
    let disks = rig.disks(&first)?;
    let place = disks.first().and_then(|disk| disk.place);
    ensure!(
        place
            == Some(Place {
                pci_slot: 160,
                target: 0
            }),
        "{disks:?}"
    );
    let seen = first.sh(&format!(
        "cat /sys/bus/pci/slots/160/address; readlink -f /sys/block/{device}/device/../../../driver; \
         readlink -f /sys/block/{device}; cat /sys/block/{device}/device/vendor /sys/block/{device}/device/wwid"
    ))?;
    for part in [
        "0000:01:00",
        "vmw_pvscsi",
        "target",
        ":0:0:0/block/",
        "VMware",
        "naa.6000c29",
    ] {
        ensure!(seen.contains(part), "no '{part}' in {seen}");
    }
    // The way to the agent is a vSocket from a privileged port.
    let modules = first.sh("cat /proc/modules")?;
    ensure!(modules.contains("vmw_vsock_virtio_transport"), "{modules}");
    let agent = first.sh("tr '\\0' '\\n' </proc/$(cat /run/vdvs-plugin.pid)/cmdline")?;
    ensure!(!agent.contains("unix:"), "{agent}");

    first.sh(&format!(
        "echo acknowledged >{folder}/a && sync {folder}/a && echo unsynced >{folder}/b"
    ))?;
    let refused = rig
        .host()
        .hypervisor()
        .attach("vm02", &disks[0].disk, false);
    ensure!(refused.is_err(), "a second writer: {refused:?}");
    rig.power_cut(&first)?;
    ensure!(
        rig.lock(&disks[0])? == LockState::Free,
        "the lock outlived its VM"
    );

    let folder = second.mount("story", "b")?;
    ensure!(second.sh(&format!("cat {folder}/a"))? == "acknowledged");
    // This VM's first controller is the one on the root bus.
    let disks = rig.disks(&second)?;
    let place = disks.first().and_then(|disk| disk.place);
    ensure!(
        place
            == Some(Place {
                pci_slot: 17,
                target: 0
            }),
        "{disks:?}"
    );
    rig.unmount(&second, "story", "b")?;
    until_true(SOON, "the disk leaves the VM", || {
        Ok(rig.disks(&second)?.is_empty()
            && second.outcome(&format!("test -e /dev/{device}"))?.0 != 0)
    })?;

    // The first VM boots again and has nothing of it; then the volume is its own again.
    first.power_on()?;
    first.start_plugin()?;
    let folder = first.mount("story", "c")?;
    ensure!(first.sh(&format!("cat {folder}/a"))? == "acknowledged");
    rig.unmount(&first, "story", "c")?;
    until_true(SOON, "the volume is removed", || {
        Ok(rig.remove(&first, "story").is_ok())
    })?;
    rig.finish()
}

#[test]
fn a_disk_that_is_taken_from_a_vm_under_load_fails_there_and_serves_the_next() -> Result<()> {
    let Some(rig) = VirtualRig::up("fence", 2, Guest::Small)? else {
        return Ok(());
    };
    let (first, second) = (rig.machine("vm01")?, rig.machine("vm02")?);
    rig.expect_complaint(
        Program::Plugin,
        "volume is lost to this guest",
        "it is fenced",
    );
    rig.create(
        &first,
        "fenced",
        &[("failover", "fence"), ("fence-after", "2s")],
    )?;
    let folder = first.mount("fenced", "a")?;
    // A writer that notes what it was told is safe, until it is told something else.
    first.sh(&format!(
        "(n=0; while n=$((n+1)); echo $n >>{folder}/log && sync {folder}/log; do echo $n >/run/safe; done \
         >/run/end 2>&1; echo ended >>/run/end) >/dev/null 2>&1 &"
    ))?;
    until_true(SOON, "the writer writes", || {
        Ok(first.outcome("test -s /run/safe")?.0 == 0)
    })?;

    let folder = second.mount("fenced", "b")?;
    until_true(SOON, "the writer hears of it", || {
        Ok(first.outcome("grep -q ended /run/end")?.0 == 0)
    })?;
    let heard = first.sh("cat /run/end")?;
    ensure!(
        heard.contains("I/O error")
            || heard.contains("Input/output error")
            || heard.contains("Read-only file system"),
        "the writer heard: {heard}"
    );
    let safe: u64 = first.sh("cat /run/safe")?.parse()?;
    let kept = second.sh(&format!("cat {folder}/log"))?;
    let lines: Vec<&str> = kept.lines().collect();
    ensure!(
        lines.contains(&safe.to_string().as_str()),
        "{safe} was safe; there are {} lines",
        lines.len()
    );
    until_true(SOON, "the first VM's plugin knows that it is lost", || {
        Ok(first.plugin_log()?.contains("volume is lost to this guest"))
    })?;
    // What the guest's engine still says about it is acknowledged, and hurts nobody.
    rig.unmount(&first, "fenced", "a")?;
    second.sh(&format!("echo more >>{folder}/log && sync {folder}/log"))?;
    rig.unmount(&second, "fenced", "b")?;
    until_true(TAKEOVER, "the volume is removed", || {
        Ok(rig.remove(&second, "fenced").is_ok())
    })?;
    rig.finish()
}

#[test]
fn programs_that_are_killed_and_started_again_find_the_vm_and_its_disk() -> Result<()> {
    let Some(rig) = VirtualRig::up("again", 1, Guest::Small)? else {
        return Ok(());
    };
    let vm = rig.machine("vm01")?;
    rig.expect_complaint(
        Program::Plugin,
        "no agent; the journal answers",
        "the agent was killed",
    );
    // It finds that out by a connection that breaks, or by one that cannot be made.
    for text in ["labhv does not listen", "no answer from the host"] {
        rig.expect_complaint(Program::Agent, text, "it was killed, too");
    }
    rig.create(&vm, "kept", &[])?;
    let folder = vm.mount("kept", "a")?;
    vm.sh(&format!("echo here >{folder}/f && sync {folder}/f"))?;
    let before = rig.disks(&vm)?;

    vm.kill_plugin()?;
    vm.start_plugin()?;
    ensure!(vm.sh(&format!("cat {folder}/f"))? == "here");
    ensure!(status(&vm, "kept")?["Mountpoint"] == json!(folder));

    rig.restart(Daemon::Agent)?;
    until(SOON, "the plugin reaches the new agent", || {
        Ok(rig.create(&vm, "after", &[]).ok())
    })?;

    // The hypervisor's stand-in asks QEMU what it has.
    rig.restart(Daemon::Labhv)?;
    ensure!(rig.disks(&vm)? == before, "{:?}", rig.disks(&vm)?);
    ensure!(rig.lock(&before[0])? == LockState::Held);
    ensure!(vm.sh(&format!("cat {folder}/f"))? == "here");

    // Suspended, it has let go of its disks; resumed, it goes on with them where it stood.
    let hypervisor = vm.hypervisor()?;
    hypervisor.suspend("vm01")?;
    ensure!(rig.lock(&before[0])? == LockState::Free);
    rig.restart(Daemon::Labhv)?;
    ensure!(rig.lock(&before[0])? == LockState::Free);
    hypervisor.resume("vm01")?;
    ensure!(rig.lock(&before[0])? == LockState::Held);
    vm.sh(&format!("echo more >>{folder}/f && sync {folder}/f"))?;

    rig.unmount(&vm, "kept", "a")?;
    for volume in ["kept", "after"] {
        until_true(SOON, "the volume is removed", || {
            Ok(rig.remove(&vm, volume).is_ok())
        })?;
    }
    rig.finish()
}

#[test]
fn a_vm_that_boots_before_its_agent_is_served_when_the_agent_comes() -> Result<()> {
    let Some(rig) = VirtualRig::make("before", 1, Guest::Small)? else {
        return Ok(());
    };
    let vm = rig.machine("vm01")?;
    rig.expect_complaint(Program::Plugin, "no agent", "there is none yet");
    rig.host().stop(Daemon::Agent)?;
    vm.power_on()?;
    vm.start_plugin()?;
    // It answers what it can and waits for the rest: a name it never saw is neither there nor not there.
    let listed = vm.volume("List", &json!({}))?;
    ensure!(listed["Volumes"] == json!([]), "{listed}");
    rig.host().start(Daemon::Agent)?;
    until(SOON, "the plugin reaches the agent", || {
        Ok(rig.create(&vm, "late", &[]).ok())
    })?;
    let folder = vm.mount("late", "a")?;
    vm.sh(&format!("echo late >{folder}/f"))?;
    rig.unmount(&vm, "late", "a")?;
    until_true(SOON, "the volume is removed", || {
        Ok(rig.remove(&vm, "late").is_ok())
    })?;
    rig.finish()
}
