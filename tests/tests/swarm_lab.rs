//! The lab's swarm: three engines find each other over the lab's switch, and the manager notices a pulled cable, a
//! power cut and a return.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::unistd::geteuid;
use vdvs_testkit::lab::{DRIVER, LabConfig, Swarm, TemporaryLab};

/// Docker's default heartbeat gives a silent node 11 to 13 s; five times that.
const NOTICED: Duration = Duration::from_secs(65);

#[test]
fn a_swarm_of_three_notices_what_happens_to_its_nodes() -> Result<()> {
    if !geteuid().is_root() {
        eprintln!("skipped: a lab needs root");
        return Ok(());
    }
    let begin = Instant::now();
    let lab = TemporaryLab::up(&LabConfig::new("s-lab", 3))?;
    eprintln!("three nodes up after {:.1?}", begin.elapsed());
    let begin = Instant::now();
    let swarm = Swarm::form(&lab.nodes()?)?;
    eprintln!("swarm ready after {:.1?}", begin.elapsed());
    swarm.wait_driver(DRIVER)?;
    eprintln!("driver known everywhere after {:.1?}", begin.elapsed());
    let (cut, pulled) = (lab.node("swarm02")?, lab.node("swarm03")?);

    cut.power_cut()?;
    pulled.set_cable(false)?;
    swarm.wait_node_state("swarm02", "down", NOTICED)?;
    swarm.wait_node_state("swarm03", "down", NOTICED)?;
    assert!(
        pulled.docker().answers(),
        "a node without network still runs"
    );

    pulled.set_cable(true)?;
    cut.power_on()?;
    swarm.wait_all_ready(NOTICED)?;
    // The plugin makes itself known to the scheduler after a boot without anybody's help.
    swarm.wait_driver(DRIVER)?;
    lab.down()
}
