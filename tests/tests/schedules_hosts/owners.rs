//! The owner is dead, silent, cut off from its disk, or comes back when its disk is somebody else's.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use vdvs_testkit::lab::{DEFAULT_DATASTORE, Daemon};
use vdvs_testkit::wait::until_true;
use vdvs_tests::rig::lines;

use super::stage::{ESX01, ESX02, LAPSE, ONE, PATIENCE, Stage, TWO};

/// A free lock proves a death when it was seen free for so long.
const PROOF: Duration = Duration::from_secs(5);
/// The longest a takeover may take beyond lapse and proof: the promise is five seconds more.
const TAKEOVER: Duration = Duration::from_secs(40);

/// Takes the volume over, which needs the lapse and the proof; says how long it took.
fn taken_over(stage: &Stage, volume: &str, begun: Instant) -> Result<()> {
    stage.rig.start_writer(ONE, volume)?;
    let took = begun.elapsed();
    stage
        .rig
        .note(volume, &format!("taken over after {took:.1?}"));
    ensure!(took >= LAPSE, "before the lock could have lapsed: {took:?}");
    ensure!(took < LAPSE + PROOF + TAKEOVER, "{took:?}");
    // It may still be listed where nobody can reach it.
    stage.written_on(ONE, volume)
}

pub(crate) fn the_owners_host_dies(stage: &Stage) -> Result<()> {
    let volume = "dead-host";
    stage.written(volume, TWO, &[])?;
    let begun = Instant::now();
    stage.rig.crash_host(ESX02)?;
    taken_over(stage, volume, begun)?;
    stage.rig.lab().boot_host(ESX02)?;
    stage.back(TWO)?;
    stage.belongs_to(ONE, volume)?;
    stage.remove(volume)
}

/// The cluster registers the machine on the living host, with the configuration it had, and boots it there: what was
/// taken from it meanwhile stays with the other, and what nobody wanted is free and its own again for the asking.
pub(crate) fn the_old_machine_restarts_on_another_host(stage: &Stage) -> Result<()> {
    let (kept, taken) = ("ha-kept", "ha-taken");
    stage.written(taken, TWO, &[])?;
    stage.rig.stop_writer(TWO, taken)?;
    stage.rig.wait_detached(taken)?;
    stage.written(kept, TWO, &[])?;
    // Both are in its configuration when it dies.
    stage.docker(TWO).run(&[
        "run",
        "-d",
        "--name",
        "holder",
        "-v",
        "ha-taken:/data:nocopy",
        "bb:1",
        "sleep",
        "600",
    ])?;
    let begun = Instant::now();
    stage.rig.crash_host(ESX02)?;
    taken_over(stage, taken, begun)?;
    stage.rig.lab().move_node(TWO, ESX01)?;
    // It is off, so it needs neither; with another's disk in its configuration it could not boot.
    stage.back(TWO)?;
    ensure!(stage.rig.holders(taken)? == [ONE]);
    stage.docker(TWO).run(&["rm", "-f", kept, "holder"])?;
    stage.rig.start_writer(TWO, kept)?;
    stage.belongs_to(TWO, kept)?;
    stage.belongs_to(ONE, taken)?;
    stage.remove(taken)?;
    // Back where it was, with the host's own boot in between.
    stage.remove(kept)?;
    stage.rig.lab().boot_host(ESX02)?;
    stage.rig.power_cut(TWO)?;
    stage.rig.lab().move_node(TWO, ESX02)?;
    stage.back(TWO)
}

/// The host is back before its agent: nobody has taken the disk out of the configuration yet, and the hypervisor alone
/// has to say no.
pub(crate) fn the_old_machine_is_powered_on_while_its_disk_belongs_to_another(
    stage: &Stage,
) -> Result<()> {
    let volume = "autostart";
    stage.written(volume, TWO, &[])?;
    let begun = Instant::now();
    stage.rig.crash_host(ESX02)?;
    taken_over(stage, volume, begun)?;
    stage.rig.start(ESX02, Daemon::Labhv)?;
    let said = stage.rig.node(TWO)?.power_on();
    let said = format!("{:#}", said.err().unwrap_or_else(|| anyhow!("it is on")));
    ensure!(
        said.contains("open elsewhere") || said.contains("lock"),
        "{said}"
    );
    stage
        .rig
        .note(volume, &format!("powering on was refused: {said}"));
    stage.written_on(ONE, volume)?;
    stage.rig.start(ESX02, Daemon::Agent)?;
    stage.back(TWO)?;
    stage.belongs_to(ONE, volume)?;
    stage.remove(volume)
}

/// Nobody hears from the host, its machine is off the network, and goes on writing: it keeps its disk, whatever the
/// others would like, also the one that may be fenced. When the host is heard again, the fence is done.
pub(crate) fn the_owners_host_is_silent_but_alive(stage: &Stage) -> Result<()> {
    let (waits, fenced) = ("silent-wait", "silent-fence");
    stage.written(waits, TWO, &[])?;
    stage.create(fenced, &["failover=fence", "fence-after=2"])?;
    stage.docker(TWO).run(&[
        "run",
        "-d",
        "--name",
        fenced,
        "-v",
        "silent-fence:/data:nocopy",
        "bb:1",
        "sh",
        "-c",
        "while echo x >> /data/x && sync; do usleep 20000; done",
    ])?;
    let node = stage.rig.node(TWO)?;
    stage.rig.freeze(ESX02, Daemon::Agent, true)?;
    node.set_cable(false)?;
    thread::scope(|scope| {
        let both = [waits, fenced].map(|volume| scope.spawn(move || stage.refused(ONE, volume)));
        for refused in both {
            let said = refused.join().map_err(|_| anyhow!("a thread panicked"))??;
            ensure!(said.contains(TWO), "the holder is not named: {said}");
        }
        Ok(())
    })?;
    for volume in [waits, fenced] {
        ensure!(stage.rig.holders(volume)? == [TWO]);
    }
    stage.rig.writer_goes_on(TWO, waits)?;
    stage.rig.freeze(ESX02, Daemon::Agent, false)?;
    node.set_cable(true)?;
    stage.rig.start_writer(ONE, fenced)?;
    stage.belongs_to(ONE, fenced)?;
    stage.remove(fenced)?;
    stage.belongs_to(TWO, waits)?;
    stage.remove(waits)
}

/// The host's path to the datastore is dead. Its machine runs on, and every write of it fails before anybody else may
/// take the disk; it does not get it back when the path is there again.
pub(crate) fn the_owners_host_loses_the_datastore(stage: &Stage) -> Result<()> {
    let volume = "lost-path";
    stage.written(volume, TWO, &[])?;
    let begun = Instant::now();
    stage.rig.isolate(ESX02, DEFAULT_DATASTORE, true)?;
    taken_over(stage, volume, begun)?;
    let node = stage.rig.node(TWO)?;
    let before = lines::acknowledged(&node, volume)?.len();
    stage.rig.isolate(ESX02, DEFAULT_DATASTORE, false)?;
    stage.rig.writer_goes_on(ONE, volume)?;
    ensure!(
        lines::acknowledged(&node, volume)?.len() == before,
        "the old owner was told that lines are flushed"
    );
    until_true(PATIENCE, "the old owner has the disk no more", || {
        Ok(stage.rig.holders(volume)? == [ONE])
    })?;
    stage.belongs_to(ONE, volume)?;
    stage.docker(TWO).run(&["rm", "-f", volume])?;
    stage.belongs_to(ONE, volume)?;
    stage.remove(volume)
}
