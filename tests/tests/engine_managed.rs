//! The managed plugin on a real engine (20.10.24 as packaged): Docker itself runs our program from the root file
//! system that `cargo xtask dist` makes, starts it again when it dies, and replaces it by another version.
//!
//! Containers that run must notice none of it. The last test is of the other form, the service.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use vdvs_testkit::lab::Docker;
use vdvs_testkit::wait::until_true;
use vdvs_tests::rig::managed::{self, NAME};
use vdvs_tests::rig::{Program, Registry, Rig, Setup, refusal, run_in};

/// For what takes a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);
/// Appends a number to a file until it is told to stop, each on disk before the next.
const COUNTS: &str =
    "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i >> /data/log; sync; done";
/// Nothing was lost or written twice, from the first line on.
const CONTINUOUS: &str =
    "i=0; while read n; do i=$((i+1)); [ $n = $i ] || exit 9; done < /data/log; echo $i";

fn up(name: &str) -> Result<Option<Rig>> {
    // Said before a lab is made in vain.
    managed::folder()?;
    Rig::up_with(
        name,
        1,
        Setup {
            managed: true,
            ..Setup::default()
        },
    )
}

fn create(docker: &Docker, volume: &str, options: &[&str]) -> Result<()> {
    let mut args = vec!["volume", "create", "-d", "vsphere", "--name", volume];
    for option in options {
        args.extend(["-o", option]);
    }
    docker.run(&args).map(drop)
}

fn writer(docker: &Docker, name: &str, volume: &str) -> Result<()> {
    let mount = format!("{volume}:/data:nocopy");
    let args = [
        "run", "-d", "--name", name, "-v", &mount, "bb:1", "sh", "-c", COUNTS,
    ];
    docker.run(&args).map(drop)
}

/// Lines the writer has on disk.
fn written(docker: &Docker, container: &str) -> Result<u64> {
    let said = docker.run(&["exec", container, "sh", "-c", "wc -l < /data/log"])?;
    said.trim()
        .parse()
        .with_context(|| format!("a number: {said}"))
}

/// The writer gets on with its work.
fn goes_on(docker: &Docker, container: &str) -> Result<()> {
    let before = written(docker, container)?;
    until_true(
        SOON,
        &format!("{container} writes on after line {before}"),
        || Ok(written(docker, container)? > before),
    )
}

#[test]
fn docker_runs_the_plugin_and_every_file_system_can_be_made_with_what_it_brings() -> Result<()> {
    let Some(rig) = up("m-life")? else {
        return Ok(());
    };
    let plugin = rig.install_managed(&managed::folder()?)?;
    let docker = rig.docker("swarm01");
    // Swarm schedules onto a node whose plugins it knows: a managed one at once, though nothing has used it yet.
    let address = rig.node("swarm01")?.address()?;
    docker.run(&["swarm", "init", "--advertise-addr", &address])?;
    let plugins = "{{json .Description.Engine.Plugins}}";
    let listed = docker.run(&["node", "inspect", "self", "--format", plugins])?;
    ensure!(listed.contains(NAME), "{listed}");

    for (kind, size) in [("ext4", "20mb"), ("xfs", "320mb"), ("btrfs", "200mb")] {
        create(
            &docker,
            kind,
            &[&format!("size={size}"), &format!("fstype={kind}")],
        )?;
        let seen = docker.run(&run_in(
            kind,
            "echo x > /data/f; sync; grep ' /data ' /proc/mounts",
        ))?;
        ensure!(seen.split(' ').nth(2) == Some(kind), "{seen}");
        ensure!(docker.run(&run_in(kind, "cat /data/f"))? == "x", "{kind}");
        docker.run(&["volume", "rm", kind])?;
    }
    let text = refusal(create(&docker, "none", &["fstype=nofs"]).map(|()| String::new()))?;
    ensure!(text.contains("Not found mkfs for nofs"), "{text}");

    create(&docker, "v1", &["size=20mb"])?;
    writer(&docker, "first", "v1")?;
    writer(&docker, "second", "v1")?;
    let seen = docker.json(&["volume", "inspect", "v1", "--format", "{{json .}}"])?;
    ensure!(
        seen["Driver"] == NAME && seen["Scope"] == "global",
        "{seen}"
    );
    ensure!(seen["Status"]["vdvs"]["refcount"] == 2, "{seen}");
    docker.run(&["rm", "-f", "first"])?;
    goes_on(&docker, "second")?;
    // What it brings along is of this root file system and not of the machine's.
    ensure!(plugin.propagated()?.join(".state/held").exists());
    docker.run(&["rm", "-f", "second"])?;
    rig.wait_detached("v1")?;
    docker.run(&["volume", "rm", "v1"])?;
    rig.finish_empty()
}

/// After an engine was killed, now and then nothing that the plugin mounts appears in the engine's folder, so no container
/// can have it (docs/adr/0045). A person disables and enables the plugin, and so does this.
fn used_after_a_killed_engine(rig: &Rig, docker: &Docker, volume: &str) -> Result<()> {
    let read = run_in(volume, "test -s /data/log");
    let Err(refused) = docker.run(&read) else {
        return Ok(());
    };
    let text = format!("{refused:#}");
    ensure!(
        text.contains("propagated-mount") && text.contains("no such file or directory"),
        "{text}"
    );
    rig.note("managed plugin", "the engine's folder was without mounts");
    docker.run(&["plugin", "disable", "-f", NAME])?;
    docker.run(&["plugin", "enable", NAME])?;
    docker.run(&read).map(drop)
}

#[test]
fn a_plugin_or_an_engine_that_dies_costs_no_container_its_volume() -> Result<()> {
    let Some(rig) = up("m-crash")? else {
        return Ok(());
    };
    let plugin = rig.install_managed(&managed::folder()?)?;
    let docker = rig.docker("swarm01");
    create(&docker, "v1", &["size=100mb"])?;
    writer(&docker, "first", "v1")?;
    goes_on(&docker, "first")?;
    let took = plugin.kill()?;
    rig.note(
        "managed plugin",
        &format!("killed, and started again after {took:?}"),
    );
    goes_on(&docker, "first")?;
    // It took over what was mounted, with the counts.
    docker.run(&run_in("v1", "test -s /data/log"))?;
    goes_on(&docker, "first")?;
    ensure!(rig.attached("v1")?);
    docker.run(&["stop", "-t", "0", "first"])?;
    docker.run(&run_in("v1", CONTINUOUS))?;

    rig.expect_complaint(
        Program::Plugin,
        "somebody still uses the device",
        "an engine that was killed unmounts the plugin's volumes before it ends what runs",
    );
    // An engine that ends takes its containers and the plugin with it; what starts next finds the journal.
    docker.run(&["start", "first"])?;
    rig.restart_dockerd("swarm01", Signal::SIGTERM)?;
    docker.run(&run_in("v1", "test -s /data/log"))?;
    docker.run(&["start", "first"])?;
    rig.restart_dockerd("swarm01", Signal::SIGKILL)?;
    used_after_a_killed_engine(&rig, &docker, "v1")?;

    // A machine that loses its power comes back with the plugin enabled, and with what was on disk.
    docker.run(&["start", "first"])?;
    goes_on(&docker, "first")?;
    rig.power_cut("swarm01")?;
    rig.node("swarm01")?.power_on()?;
    docker.run(&run_in("v1", "test -s /data/log"))?;
    docker.run(&["rm", "-f", "first"])?;
    rig.wait_detached("v1")?;
    docker.run(&["volume", "rm", "v1"])?;
    rig.finish_empty()
}

#[test]
fn another_version_takes_over_from_the_one_before_while_containers_write() -> Result<()> {
    let Some(rig) = up("m-upgrade")? else {
        return Ok(());
    };
    let plugin = rig.install_managed(&managed::folder()?)?;
    let docker = rig.docker("swarm01");
    create(&docker, "v1", &["size=100mb"])?;
    create(&docker, "v2", &["size=20mb"])?;
    writer(&docker, "first", "v1")?;
    goes_on(&docker, "first")?;
    let id = plugin.id()?;
    let text = refusal(docker.run(&["plugin", "disable", NAME]))?;
    ensure!(text.contains("is in use"), "{text}");
    rig.expect_complaint(
        Program::Plugin,
        "somebody still uses the device",
        "Docker unmounts the volumes of a plugin it disables; the containers keep theirs",
    );

    // Docker unmounts what a disabled plugin had mounted, everywhere but in the containers that use it.
    docker.run(&["plugin", "disable", "-f", NAME])?;
    goes_on(&docker, "first")?;
    docker.run(&["plugin", "enable", NAME])?;
    docker.run(&run_in("v1", "test -s /data/log"))?;
    goes_on(&docker, "first")?;
    ensure!(rig.attached("v1")?, "the writer has it");

    // The way of people who have a registry. Everything stays: the id, the settings, the journal.
    let _registry = Registry::start(&rig.node("swarm01")?)?;
    let newer = format!("{}/vdvs:2", Registry::AT);
    plugin.create(&newer, &managed::other_version(&rig, "2")?)?;
    docker.run(&["plugin", "push", &newer])?;
    docker.run(&["plugin", "rm", &newer])?;
    docker.run(&["plugin", "disable", "-f", NAME])?;
    let upgrade = [
        "plugin",
        "upgrade",
        "--grant-all-permissions",
        "--skip-remote-check",
        NAME,
        &newer,
    ];
    docker.run(&upgrade)?;
    // The environment's settings stay. So do, to look at, those of mounts; they work only once they are set again.
    let settings = [
        "plugin",
        "inspect",
        "--format",
        "{{json .Settings.Env}}",
        NAME,
    ];
    let settings = docker.run(&settings)?;
    ensure!(
        settings.contains("VDVS_AGENT=unix:/run/vdvs-agent/1019"),
        "{settings}"
    );
    plugin.configure()?;
    docker.run(&["plugin", "enable", NAME])?;
    ensure!(plugin.id()? == id, "the id is another");
    ensure!(plugin.version()? == "2");
    goes_on(&docker, "first")?;
    docker.run(&run_in("v2", "echo x > /data/f; sync"))?;

    // The way of people who have none: another plugin of the same name. It has no journal, and asks the host.
    docker.run(&["plugin", "disable", "-f", NAME])?;
    docker.run(&["plugin", "rm", "-f", NAME])?;
    goes_on(&docker, "first")?;
    let begun = Instant::now();
    plugin.create(NAME, &managed::other_version(&rig, "3")?)?;
    plugin.configure()?;
    docker.run(&["plugin", "enable", NAME])?;
    rig.note(
        "managed plugin",
        &format!("replaced within {:?}", begun.elapsed()),
    );
    ensure!(plugin.id()? != id && plugin.version()? == "3");
    goes_on(&docker, "first")?;
    ensure!(docker.run(&run_in("v2", "cat /data/f"))? == "x");
    docker.run(&run_in("v1", "test -s /data/log"))?;
    goes_on(&docker, "first")?;
    ensure!(rig.attached("v1")?, "the writer has it");
    docker.run(&["stop", "-t", "0", "first"])?;
    rig.wait_detached("v1")?;
    docker.run(&run_in("v1", CONTINUOUS))?;
    docker.run(&["rm", "-f", "first"])?;
    for volume in ["v1", "v2"] {
        rig.wait_detached(volume)?;
        docker.run(&["volume", "rm", volume])?;
    }
    rig.finish_empty()
}

#[test]
fn the_service_is_installed_looked_at_and_uninstalled_and_never_from_under_a_volume() -> Result<()>
{
    let Some(rig) = Rig::up("m-service", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    let node = rig.node("swarm01")?;
    let plugin = |args: &[&str]| node.exec("/opt/vdvs/vdvs-plugin", args)?.output();
    let status = ["status", "--agent", "unix:/run/vdvs-vsock/1019"];
    rig.create("v1")?;
    writer(&docker, "first", "v1")?;
    let said = plugin(&status)?;
    for part in [
        "vdvsd 0.1.0 on esx01, where this VM is swarm01",
        "20.10.24",
        "1 mounted: v1",
    ] {
        ensure!(
            said.stdout.contains(part),
            "no '{part}' in:\n{}{}",
            said.stdout,
            said.stderr
        );
    }
    ensure!(said.status.code() == Some(0), "{}", said.stdout);

    // No systemd in a lab's node: what can be done is done, and the rest is said.
    let install = ["install", "--bin-dir", "/opt/bin"];
    let said = plugin(&install)?;
    ensure!(said.success(), "{}", said.stderr);
    for part in [
        "created   /opt/bin/vdvs-plugin",
        "kept      /etc/vsphere-storage-for-docker.conf",
        "skipped   systemd does not run here",
        "to do     have whatever starts services here start '/opt/bin/vdvs-plugin run'",
    ] {
        ensure!(
            said.stdout.contains(part),
            "no '{part}' in:\n{}",
            said.stdout
        );
    }
    let said = plugin(&install)?;
    ensure!(
        said.stdout.contains("unchanged /opt/bin/vdvs-plugin"),
        "{}",
        said.stdout
    );
    node.exec("/opt/bin/vdvs-plugin", ["--version"])?.run()?;

    let said = plugin(&["uninstall"])?;
    ensure!(said.status.code() == Some(1), "{}", said.stdout);
    ensure!(
        said.stderr.contains("1 volume is mounted here: v1"),
        "{}",
        said.stderr
    );
    node.sh("test -x /opt/bin/vdvs-plugin")?;
    docker.run(&["rm", "-f", "first"])?;
    rig.wait_detached("v1")?;
    let said = plugin(&["uninstall"])?;
    ensure!(said.success(), "{}", said.stderr);
    for part in [
        "removed   /opt/bin/vdvs-plugin",
        "a plugin still runs",
        "remains   the journal",
    ] {
        ensure!(
            said.stdout.contains(part),
            "no '{part}' in:\n{}",
            said.stdout
        );
    }
    node.sh("test ! -e /opt/bin/vdvs-plugin && test -e /etc/vsphere-storage-for-docker.conf")?;

    docker.run(&["volume", "rm", "v1"])?;
    rig.hold_plugin("swarm01")?;
    let said = plugin(&status)?;
    ensure!(said.status.code() == Some(2), "{}", said.stdout);
    ensure!(
        said.stdout.contains("BROKEN: nothing answers at"),
        "{}",
        said.stdout
    );
    rig.release_plugin("swarm01")?;
    rig.finish_empty()
}
