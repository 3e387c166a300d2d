//! One engine (20.10.24 as packaged), the real plugin and agent, disks that are loop devices: what people do with
//! volumes on a good day.
//!
//! Every test has a lab of its own and asks at its end what is left behind: nothing may be.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use vdvs_tests::rig::{Rig, refusal, run_in};

/// How late a waiter may have what was let go of, and how much an unmount may be slowed.
const SECOND: Duration = Duration::from_secs(1);
/// A container that holds a volume until it is removed.
fn holder(name: &str, mount: &str) -> Vec<String> {
    [
        "run", "-d", "--name", name, "-v", mount, "bb:1", "sleep", "600",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn a_volume_is_created_listed_inspected_used_and_removed() -> Result<()> {
    let Some(rig) = Rig::up("life", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    let create = [
        "volume",
        "create",
        "-d",
        "vsphere",
        "--name",
        "v1",
        "-o",
        "size=100mb",
    ];
    docker.run(&create)?;
    // Docker asks first and does not even pass the second one on.
    docker.run(&create)?;
    let listed = docker.run(&["volume", "ls", "--format", "{{.Driver}} {{.Name}}"])?;
    ensure!(
        listed == "vsphere v1@vsanDatastore" || listed == "vsphere v1",
        "{listed}"
    );

    let seen = docker.json(&["volume", "inspect", "v1", "--format", "{{json .}}"])?;
    let status = seen.get("Status").cloned().unwrap_or_default();
    for key in [
        "access",
        "attach-as",
        "capacity",
        "clone-from",
        "created",
        "created by VM",
        "datastore",
        "diskformat",
        "fstype",
        "status",
    ] {
        ensure!(
            status.get(key).is_some(),
            "inspect shows no '{key}': {status}"
        );
    }
    ensure!(status["capacity"]["size"] == "100MB", "{status}");
    ensure!(
        status["status"] == "detached" && status["created by VM"] == "swarm01",
        "{status}"
    );
    for key in ["id", "full_name", "vmgroup", "epoch", "failover", "answer"] {
        ensure!(
            status["vdvs"].get(key).is_some(),
            "inspect shows no vdvs '{key}': {status}"
        );
    }
    ensure!(status["vdvs"]["answer"] == "live", "{status}");
    ensure!(seen["Scope"] == "global", "{seen}");
    ensure!(
        seen["CreatedAt"].as_str().unwrap_or("0001") > "2020",
        "{seen}"
    );

    docker.run(&run_in("v1", "echo hello > /data/f; sync"))?;
    // The container is gone; the data is not.
    ensure!(docker.run(&run_in("v1", "cat /data/f; ls -A /data"))? == "hello\nf");
    docker.run(&["volume", "rm", "v1"])?;
    ensure!(docker.run(&["volume", "ls", "-q"])?.is_empty());

    // The original's texts, which scripts match.
    let create = |option| {
        refusal(docker.run(&[
            "volume", "create", "-d", "vsphere", "--name", "v1", "-o", option,
        ]))
    };
    let text = create("size=20")?;
    ensure!(text.contains("Invalid format for size."), "{text}");
    let text = create("fstype=nofs")?;
    ensure!(text.contains("Not found mkfs for nofs"), "{text}");
    rig.finish_empty()
}

#[test]
fn a_volume_has_the_file_system_and_the_access_that_were_asked_for() -> Result<()> {
    let Some(rig) = Rig::up("kinds", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    for (kind, size) in [
        ("ext4", "size=20mb"),
        ("xfs", "size=320mb"),
        ("btrfs", "size=200mb"),
    ] {
        let fstype = format!("fstype={kind}");
        let create = [
            "volume", "create", "-d", "vsphere", "--name", kind, "-o", size, "-o", &fstype,
        ];
        docker.run(&create)?;
        let seen = docker.run(&run_in(
            kind,
            "echo x > /data/f; sync; grep ' /data ' /proc/mounts",
        ))?;
        ensure!(seen.split(' ').nth(2) == Some(kind), "{seen}");
        ensure!(docker.run(&run_in(kind, "cat /data/f"))? == "x", "{kind}");
        docker.run(&["volume", "rm", kind])?;
    }
    // What the image has at the mount point is copied into a new volume: nothing of the file system's own is in the way.
    rig.create("copied")?;
    let count = [
        "run",
        "--rm",
        "-v",
        "copied:/bin",
        "bb:1",
        "sh",
        "-c",
        "ls /bin | wc -l",
    ];
    ensure!(docker.run(&count)?.trim().parse::<u32>()? > 100);
    ensure!(docker.run(&run_in("copied", "test -x /data/busybox && echo there"))? == "there");
    docker.run(&["volume", "rm", "copied"])?;

    // Never formatted and read-only: the plugin formats it all the same, and nobody writes to it.
    let create = [
        "volume",
        "create",
        "-d",
        "vsphere",
        "--name",
        "ro",
        "-o",
        "size=20mb",
        "-o",
        "access=read-only",
    ];
    docker.run(&create)?;
    let nocopy = [
        "run",
        "--rm",
        "-v",
        "ro:/data:nocopy",
        "bb:1",
        "sh",
        "-c",
        "touch /data/x",
    ];
    let text = refusal(docker.run(&nocopy))?;
    ensure!(text.contains("Read-only file system"), "{text}");
    docker.run(&["volume", "rm", "ro"])?;
    rig.finish_empty()
}

#[test]
fn two_containers_share_a_volume_and_one_may_leave() -> Result<()> {
    let Some(rig) = Rig::up("share", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    rig.create("v1")?;
    docker.run(&holder("first", "v1:/data"))?;
    docker.run(&holder("second", "v1:/data"))?;
    docker.run(&["exec", "first", "sh", "-c", "echo one > /data/f"])?;
    docker.run(&["rm", "-f", "first"])?;
    ensure!(docker.run(&["exec", "second", "cat", "/data/f"])? == "one");
    docker.run(&["exec", "second", "sh", "-c", "echo two > /data/f; sync"])?;
    ensure!(rig.attached("v1")?, "b still runs");

    // Docker sends Mount and Unmount with the running container's own id for a copy.
    let file = rig.scratch("copied", "from outside\n")?;
    docker.run(&["cp", &file, "second:/data/copied"])?;
    ensure!(docker.run(&["exec", "second", "cat", "/data/copied"])? == "from outside");
    docker.run(&["exec", "second", "sh", "-c", "echo more > /data/g; sync"])?;
    ensure!(rig.attached("v1")?, "b still runs");

    // A restart is an Unmount and a Mount with a new id.
    docker.run(&["restart", "-t", "0", "second"])?;
    ensure!(docker.run(&["exec", "second", "cat", "/data/g"])? == "more");
    docker.run(&["rm", "-f", "second"])?;
    rig.wait_detached("v1")?;
    docker.run(&["volume", "rm", "v1"])?;
    rig.finish_empty()
}

#[test]
fn a_volume_in_use_is_not_removed() -> Result<()> {
    let Some(rig) = Rig::up("inuse", 2)? else {
        return Ok(());
    };
    let (one, two) = (rig.docker("swarm01"), rig.docker("swarm02"));
    rig.create("v1")?;
    one.run(&holder("first", "v1:/data"))?;
    let text = refusal(one.run(&["volume", "rm", "v1"]))?;
    ensure!(text.contains("in use"), "{text}");
    // The other node's engine knows nothing of that container: only the agent can refuse.
    let text = refusal(two.run(&["volume", "rm", "v1"]))?;
    ensure!(text.contains("in use by VM = swarm01"), "{text}");
    // What the other tests look for at their end is found while it is there.
    let left = rig.left_of_volumes()?.join("\n");
    for trace in [
        "/sys/block/loop",
        "devices.json holds",
        "swarm01 has /mnt/vdvs/",
        "swarm01 has /dev/loop",
        "the engine of swarm02 lists vsphere v1",
        "ledger.",
        "/v1.vdvs",
        "-flat.vmdk",
        "attached of the agent",
    ] {
        ensure!(left.contains(trace), "no '{trace}' in:\n{left}");
    }
    ensure!(one.run(&["exec", "first", "touch", "/data/x"]).is_ok());
    one.run(&["rm", "-f", "first"])?;
    rig.wait_detached("v1")?;
    two.run(&["volume", "rm", "v1"])?;
    rig.finish_empty()
}

#[test]
fn a_waiting_mount_does_not_slow_the_unmount_it_waits_for() -> Result<()> {
    let Some(rig) = Rig::up("wait", 2)? else {
        return Ok(());
    };
    let (one, two) = (rig.docker("swarm01"), rig.docker("swarm02"));
    rig.create("v1")?;
    let (a, b) = (
        holder("first", "v1:/data:nocopy"),
        holder("second", "v1:/data:nocopy"),
    );
    // How long it takes when nobody waits.
    one.run(&a)?;
    let begun = Instant::now();
    one.run(&["rm", "-f", "first"])?;
    let usual = begun.elapsed();
    rig.wait_detached("v1")?;
    let begun = Instant::now();
    two.run(&b)?;
    let start = begun.elapsed();
    two.run(&["rm", "-f", "second"])?;
    rig.wait_detached("v1")?;

    one.run(&a)?;
    let waiter = {
        let two = two.clone();
        thread::spawn(move || two.run(&b).map(|_| Instant::now()))
    };
    rig.wait_for_waiter("v1")?;
    let seen = one.json(&[
        "volume",
        "inspect",
        "v1",
        "--format",
        "{{json .Status.vdvs}}",
    ])?;
    ensure!(
        seen["waiting"]
            .as_str()
            .is_some_and(|why| why.contains("swarm02")),
        "{seen}"
    );
    let begun = Instant::now();
    one.run(&["rm", "-f", "first"])?;
    let (freed, took) = (Instant::now(), begun.elapsed());
    let mounted = waiter.join().expect("the waiter does not panic")?;
    ensure!(
        took <= usual * 2 + SECOND,
        "usually {usual:?}, with a waiter {took:?}"
    );
    let after = mounted.saturating_duration_since(freed);
    // The start of the container is in this figure.
    ensure!(
        after <= start * 2 + SECOND,
        "usually {start:?}, B ran {after:?} after A let go"
    );
    rig.note(
        "waiting mount",
        &format!("unmount usually {usual:?}, with a waiter {took:?}; B runs {after:?} later, usually within {start:?}"),
    );
    two.run(&["rm", "-f", "second"])?;
    rig.wait_detached("v1")?;
    one.run(&["volume", "rm", "v1"])?;
    rig.finish_empty()
}
