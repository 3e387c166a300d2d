//! Two hosts, one engine on each, no swarm: what a cluster's high availability does with the machines of a dead host.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use vdvs_testkit::lab::{DEFAULT_DATASTORE, Datastore, LabConfig};
use vdvs_tests::rig::{Rig, Setup, run_in};

/// Locks of a dead host are held so long; a host whose renewal hangs for three quarters of it loses its disks.
const LAPSE: Duration = Duration::from_secs(6);
/// The lapse, the five seconds in which a free lock proves a death, and what a container's start takes: several times.
const TAKEOVER: Duration = Duration::from_secs(60);

#[test]
fn a_machine_restarted_on_another_host_finds_its_own_volume_and_no_disk_that_was_taken_over()
-> Result<()> {
    let datastore = Datastore::new(DEFAULT_DATASTORE, "vmfs").lapsing(LAPSE);
    let config = LabConfig::spread("e-ha", 2, 2).with_datastores(&[datastore]);
    let Some(mut rig) = Rig::up_lab(&config, Setup::default())? else {
        return Ok(());
    };
    rig.watch_writers()?;
    let (one, two) = (rig.docker("swarm01"), rig.docker("swarm02"));
    for volume in ["kept", "taken"] {
        let script = format!("echo {volume} > /data/f; sync; sleep 600");
        let mount = format!("{volume}:/data");
        rig.create(volume)?;
        two.run(&[
            "run", "-d", "--name", volume, "-v", &mount, "bb:1", "sh", "-c", &script,
        ])?;
        rig.wait_output("swarm02", &["exec", volume, "cat", "/data/f"], volume)?;
    }
    let begun = Instant::now();
    rig.crash_host("esx02")?;
    ensure!(one.run(&run_in("taken", "cat /data/f"))? == "taken");
    let took = begun.elapsed();
    rig.note("takeover from a dead host", &format!("{took:?}"));
    ensure!(took >= LAPSE && took < TAKEOVER, "{took:?}");
    rig.wait_detached("taken")?;

    // The dead machine begins anew beside the one that took its volume, with the configuration it had.
    rig.lab().move_node("swarm02", "esx01")?;
    let held = rig.holders("kept")?;
    ensure!(held == ["swarm02"], "'kept' is attached to {held:?}");
    rig.wait_detached("taken")?;
    rig.power_on("swarm02")?;
    for volume in ["kept", "taken"] {
        ensure!(two.run(&run_in(volume, "cat /data/f"))? == volume);
    }
    // Its old host has nothing to say in this any more.
    rig.lab().boot_host("esx02")?;
    for volume in ["kept", "taken"] {
        ensure!(one.run(&run_in(volume, "cat /data/f"))? == volume);
        two.run(&["rm", "-f", volume]).ok();
        rig.wait_detached(volume)?;
        one.run(&["volume", "rm", volume])?;
    }
    rig.finish_empty()
}
