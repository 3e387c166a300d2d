//! What a volume can be ordered with, as containers see it: mount options, the folder's owner, a source; and what
//! `doctor` says of a node where all is well, and of one where it is not.

use anyhow::{Context, Result, ensure};
use vdvs_tests::rig::{Program, Rig, refusal, run_in};

fn create(name: &str, options: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = ["volume", "create", "-d", "vsphere", "--name", name]
        .map(str::to_owned)
        .to_vec();
    for option in options {
        all.extend(["-o".to_owned(), (*option).to_owned()]);
    }
    all
}

#[test]
fn mount_options_owner_and_mode_are_what_was_ordered() -> Result<()> {
    let Some(rig) = Rig::up("options", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    let cases = [
        ("ext4", "size=20mb", "noatime,nosuid,commit=30", "commit=30"),
        (
            "xfs",
            "size=320mb",
            "noatime,nosuid,allocsize=64k",
            "allocsize=64k",
        ),
        (
            "btrfs",
            "size=200mb",
            "noatime,nosuid,compress=zstd:3",
            "compress=zstd:3",
        ),
    ];
    for (kind, size, options, shown) in cases {
        let (fstype, options) = (format!("fstype={kind}"), format!("mount-options={options}"));
        let ordered = [size, &fstype, &options, "uid=999", "gid=2000", "mode=2770"];
        docker.run(&create(kind, &ordered))?;
        for round in 0..2 {
            let seen = docker.run(&run_in(
                kind,
                "stat -c '%u:%g %a' /data; grep ' /data ' /proc/mounts",
            ))?;
            let (stat, mount) = seen.split_once('\n').context("two lines")?;
            let words: Vec<&str> = mount
                .split(' ')
                .nth(3)
                .unwrap_or_default()
                .split(',')
                .collect();
            for option in ["noatime", "nosuid", "nodev", shown] {
                ensure!(words.contains(&option), "{kind}: no {option} in {mount}");
            }
            // Given once: what a container changes stays changed.
            let expected = if round == 0 {
                "999:2000 2770"
            } else {
                "0:0 711"
            };
            ensure!(stat == expected, "{kind}: {stat}");
            docker.run(&run_in(kind, "chown 0:0 /data && chmod 711 /data"))?;
        }
        docker.run(&["volume", "rm", kind])?;
    }
    let refused = |options: &[&str]| refusal(docker.run(&create("no", options)));
    let text = refused(&["fstype=ext5"])?;
    ensure!(
        text.contains("Supported filesystems found: ") && text.contains("Did you mean 'ext4'?"),
        "{text}"
    );
    let text = refused(&["mount-options=noatim"])?;
    ensure!(text.contains("Did you mean 'noatime'?"), "{text}");
    rig.finish_empty()
}

#[test]
fn a_clone_is_used_beside_its_source_and_goes_its_own_way() -> Result<()> {
    let Some(rig) = Rig::up("clones", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    for (kind, size) in [
        ("ext4", "size=20mb"),
        ("xfs", "size=320mb"),
        ("btrfs", "size=200mb"),
    ] {
        let fstype = format!("fstype={kind}");
        let (source, copy, frozen) = (
            format!("{kind}-a"),
            format!("{kind}-b"),
            format!("{kind}-c"),
        );
        docker.run(&create(
            &source,
            &[size, &fstype, "uid=7", "gid=8", "mode=750"],
        ))?;
        docker.run(&run_in(&source, "echo one > /data/f; sync"))?;
        let from = format!("clone-from={source}");
        docker.run(&create(&copy, &[&from]))?;
        docker.run(&create(&frozen, &[&from, "access=read-only"]))?;
        let mounts = [
            format!("{source}:/a"),
            format!("{copy}:/b"),
            format!("{frozen}:/c:nocopy"),
        ];
        for _ in 0..2 {
            let script = "cat /a/f /b/f /c/f; stat -c '%u:%g %a' /b; touch /c/x || echo two >> /b/f; sync; cat /a/f";
            let mut args = vec!["run".to_owned(), "--rm".into()];
            args.extend(
                mounts
                    .iter()
                    .flat_map(|mount| ["-v".to_owned(), mount.clone()]),
            );
            args.extend(["bb:1", "sh", "-c", script].map(str::to_owned));
            let seen = docker.run(&args)?;
            let lines: Vec<&str> = seen
                .lines()
                .filter(|line| !line.contains("Read-only"))
                .collect();
            ensure!(
                lines.iter().filter(|line| **line == "one").count() == 4,
                "{kind}: {seen}"
            );
            ensure!(lines.contains(&"7:8 750"), "{kind}: {seen}");
        }
        let seen = docker.run(&run_in(&copy, "cat /data/f"))?;
        ensure!(seen == "one\ntwo\ntwo", "{kind}: {seen}");
        for name in [&copy, &frozen, &source] {
            rig.wait_detached(name)?;
            docker.run(&["volume", "rm", name])?;
        }
    }
    rig.finish_empty()
}

#[test]
fn thick_disks_own_their_room_at_once_and_vics_options_mean_ours() -> Result<()> {
    let Some(rig) = Rig::up("thick", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    for (name, options, least) in [
        ("lazy", ["size=64mb", "diskformat=zeroedthick"], 64),
        ("eager", ["Capacity=64", "diskformat=eagerzeroedthick"], 64),
        ("thin", ["size=64MiB", "VolumeStore=vsanDatastore"], 0),
    ] {
        docker.run(&create(name, &options))?;
        let seen = docker.json(&["volume", "inspect", name, "--format", "{{json .Status}}"])?;
        ensure!(seen["capacity"]["size"] == "64MB", "{seen}");
        let text = seen["capacity"]["allocated"].as_str().unwrap_or("0B");
        let megabytes: u32 = text
            .strip_suffix("MB")
            .and_then(|n| n.split('.').next())
            .map_or(0, |n| n.parse().unwrap_or(0));
        ensure!(
            megabytes >= least && (least > 0 || megabytes < 8),
            "{name}: {seen}"
        );
    }
    // A thin clone of zeros is small, a thick clone of little is not.
    docker.run(&create("copy", &["clone-from=eager"]))?;
    docker.run(&create(
        "full",
        &["clone-from=thin", "diskformat=zeroedthick"],
    ))?;
    let text = docker.run(&[
        "volume",
        "inspect",
        "copy",
        "full",
        "-f",
        "{{.Status.capacity.allocated}}",
    ])?;
    let (copy, full) = text.split_once('\n').unwrap_or_default();
    ensure!(!copy.starts_with("64") && full.starts_with("64"), "{text}");
    for name in ["copy", "full", "lazy", "eager", "thin"] {
        docker.run(&["volume", "rm", name])?;
    }
    rig.finish_empty()
}

#[test]
fn doctor_is_content_where_all_is_well_and_names_what_is_not() -> Result<()> {
    let Some(rig) = Rig::up("doctor", 1)? else {
        return Ok(());
    };
    let docker = rig.docker("swarm01");
    rig.create("data")?;
    let keep = [
        "run",
        "-d",
        "--name",
        "holder",
        "-v",
        "data:/data",
        "bb:1",
        "sleep",
        "600",
    ];
    docker.run(&keep)?;
    let node = rig.node("swarm01")?;
    let doctor = || -> Result<String> {
        node.sh("/opt/vdvs/vdvs-plugin doctor --agent unix:/run/vdvs-vsock/1019; echo exit $?")
    };
    let said = doctor()?;
    ensure!(said.ends_with("exit 0"), "{said}");
    ensure!(
        said.contains("1 volumes mounted") && said.contains("all mounted disks answer"),
        "{said}"
    );

    // A local volume of the same name, made while nobody of ours was there.
    docker.run(&["volume", "create", "-d", "local", "shade"])?;
    rig.create("shade@vsanDatastore")?;
    let said = doctor()?;
    ensure!(said.ends_with("exit 1"), "{said}");
    ensure!(
        said.contains("shade") && said.contains("docker volume rm shade"),
        "{said}"
    );
    docker.run(&["volume", "rm", "shade"])?;
    docker.run(&["volume", "rm", "shade@vsanDatastore"])?;

    rig.expect_complaint(
        Program::Plugin,
        "no agent; the journal answers",
        "the agent was killed",
    );
    rig.kill_agent()?;
    let said = doctor()?;
    ensure!(said.ends_with("exit 2"), "{said}");
    ensure!(
        said.contains("nobody listens on unix:/run/vdvs-vsock/1019"),
        "{said}"
    );
    rig.start_agent()?;
    docker.run(&["rm", "-f", "holder"])?;
    rig.wait_detached("data")?;
    docker.run(&["volume", "rm", "data"])?;
    rig.finish_empty()
}
