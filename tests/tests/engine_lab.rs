//! The lab itself: a node runs a real engine, and a lab that goes down leaves nothing.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::unistd::geteuid;
use vdvs_testkit::lab::{
    BUSYBOX, Images, Lab, LabConfig, Layout, PACKAGES, Service, TemporaryLab, ensure_packages,
    leftovers,
};

/// True if this machine cannot run a lab; says so.
fn skipped() -> bool {
    let skip = !geteuid().is_root();
    if skip {
        eprintln!("skipped: a lab needs root");
    }
    skip
}

fn say(line: &str) {
    eprintln!("{line}");
}

#[test]
fn a_node_runs_a_real_engine_and_nothing_is_left_after_it() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    ensure_packages(PACKAGES, &say)?;
    let images = Images::prepare()?;
    let begin = Instant::now();
    let lab = TemporaryLab::up(&LabConfig::new("t-one", 1))?;
    say(&format!("one node up after {:?}", begin.elapsed()));
    let node = lab.node("swarm01")?;
    images.import_busybox(&node.docker())?;
    let said = node
        .docker()
        .run(&["run", "--rm", "--pull", "never", BUSYBOX, "echo", "hi"])?;
    assert_eq!(said, "hi");
    assert_eq!(node.sh("hostname")?, "swarm01");

    // The host's devices and mounts are not the node's.
    assert_eq!(node.sh("ls /dev | grep -c '^loop' || true")?, "0");

    // A node that lost power comes back with what its disk held.
    node.power_cut()?;
    assert!(!node.is_on()?);
    node.power_on()?;
    assert!(node.docker().has_image(BUSYBOX)?);

    node.shutdown()?;
    assert!(!node.is_on()?);
    let layout = lab.layout().clone();
    lab.down()?;
    assert_eq!(leftovers(&layout)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn up_completes_what_is_missing_and_changes_nothing_that_runs() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let config = LabConfig::new("t-again", 1);
    let lab = TemporaryLab::up(&config)?;
    let first = lab.node("swarm01")?.init()?;
    let lab_again = Lab::up(&LabConfig::new("t-again", 2))?;
    assert_eq!(lab_again.node("swarm01")?.init()?, first);
    assert!(lab_again.node("swarm02")?.docker().answers());
    let reaches = format!("ping -c 1 -W 5 {}", lab_again.node("swarm01")?.address()?);
    lab_again
        .node("swarm02")?
        .exec("/bin/busybox", reaches.split(' '))?
        .run()?;
    lab.down()
}

#[test]
fn an_engine_that_dies_is_started_again_unless_held() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = TemporaryLab::up(&LabConfig::new("t-service", 1))?;
    let node = lab.node("swarm01")?;
    let limit = Duration::from_secs(60);
    node.stop_service(Service::Engine, limit)?;
    assert!(!node.docker().answers());
    node.release_service(Service::Engine)?;
    node.docker().wait_ready(limit)?;
    lab.down()
}

#[test]
fn down_clears_a_lab_whose_record_is_lost() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let lab = TemporaryLab::up(&LabConfig::new("t-lost", 1))?;
    fs::remove_file(lab.layout().state_file())?;
    let layout = lab.layout().clone();
    assert!(
        leftovers(&layout)?
            .iter()
            .any(|line| line.starts_with("process"))
    );
    lab.down()?;
    assert_eq!(leftovers(&layout)?, Vec::<String>::new());
    Ok(())
}

#[test]
fn two_labs_live_side_by_side() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let a = TemporaryLab::up(&LabConfig::new("t-a", 1))?;
    let b = TemporaryLab::up(&LabConfig::new("t-b", 1))?;
    a.down()?;
    assert!(b.node("swarm01")?.docker().answers());
    assert!(leftovers(&Layout::for_name("t-a")?)?.is_empty());
    b.down()
}
