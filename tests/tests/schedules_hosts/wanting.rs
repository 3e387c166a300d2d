//! Volumes that are wanted while others hold them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use vdvs_testkit::wait::until_true;
use vdvs_tests::rig::lines;

use super::stage::{ONE, PATIENCE, Stage, TWO};

/// `fence-after` of the volume that is fenced.
const FENCE_AFTER: Duration = Duration::from_secs(3);
/// Promised: it is mounted elsewhere within five seconds after that; the machine is shared.
const FENCED_WITHIN: Duration = Duration::from_secs(25);
/// Programs that write beside the one whose lines are counted.
const LOAD: &str = "for i in 1 2 3; do (while dd if=/dev/zero of=/data/load$i bs=65536 count=16 conv=fsync \
                    2> /dev/null; do :; done) & done; wait";

/// Both wait, neither gets it, both are told who has it, and nobody else is kept waiting by that; what one lets go of,
/// the other has at once.
pub(crate) fn each_holds_what_the_other_wants(stage: &Stage) -> Result<()> {
    let (left, right) = ("left", "right");
    stage.written(left, ONE, &[])?;
    stage.written(right, TWO, &[])?;
    let begun = Instant::now();
    thread::scope(|scope| {
        let one = scope.spawn(|| stage.refused(ONE, right));
        let two = scope.spawn(|| stage.refused(TWO, left));
        stage.rig.wait_for_waiter(left)?;
        stage.rig.wait_for_waiter(right)?;
        // Somebody who wants nothing of theirs does not notice.
        stage.create("beside", &[])?;
        stage.rig.start_writer(ONE, "beside")?;
        stage.rig.stop_writer(ONE, "beside")?;
        let aside = begun.elapsed();
        stage
            .rig
            .note("two guests", &format!("a third volume beside, {aside:.1?}"));
        for (said, holder) in [(one.join(), TWO), (two.join(), ONE)] {
            let said = said.map_err(|_| anyhow!("a thread panicked"))??;
            ensure!(said.contains(holder), "the holder is not named: {said}");
        }
        Ok(())
    })?;
    stage.belongs_to(ONE, left)?;
    stage.belongs_to(TWO, right)?;
    // Now one of them waits, and the other lets go.
    thread::scope(|scope| {
        let waits = scope.spawn(|| stage.rig.start_writer(TWO, left));
        stage.rig.wait_for_waiter(left)?;
        stage.docker(ONE).run(&["rm", "-f", left])?;
        waits.join().map_err(|_| anyhow!("a thread panicked"))?
    })?;
    let holders = stage.rig.holders(left)?;
    ensure!(holders == [TWO], "{left} is attached to {holders:?}");
    stage.rig.writer_goes_on(TWO, left)?;
    for volume in [left, right, "beside"] {
        stage.remove(volume)?;
    }
    Ok(())
}

/// The owner lives, writes with several programs, and does not let go.
pub(crate) fn a_fence_under_load(stage: &Stage) -> Result<()> {
    let volume = "fenced";
    let after = format!("fence-after={}", FENCE_AFTER.as_secs());
    stage.written(volume, TWO, &["failover=fence", &after])?;
    stage.docker(TWO).run(&[
        "run",
        "-d",
        "--name",
        "load",
        "-v",
        "fenced:/data:nocopy",
        "bb:1",
        "sh",
        "-c",
        LOAD,
    ])?;
    stage.rig.writer_goes_on(TWO, volume)?;
    let (begun, fences) = (Instant::now(), stage.rig.fences()?);
    stage.rig.start_writer(ONE, volume)?;
    let took = begun.elapsed();
    stage.rig.note(
        volume,
        &format!("fenced and written elsewhere after {took:.1?}"),
    );
    ensure!(took >= FENCE_AFTER, "fenced too early, after {took:?}");
    ensure!(took <= FENCE_AFTER + FENCED_WITHIN, "{took:?}");
    ensure!(stage.rig.fences()? == fences + 1, "one fence");
    let node = stage.rig.node(TWO)?;
    let before = lines::acknowledged(&node, volume)?.len();
    stage.belongs_to(ONE, volume)?;
    ensure!(lines::acknowledged(&node, volume)?.len() == before);
    // Its file system told the old writer that the disk is gone.
    let state = ["inspect", "--format", "{{.State.ExitCode}}", volume];
    until_true(PATIENCE, "the old writer gets an I/O error", || {
        Ok(stage.docker(TWO).run(&state)? == "5")
    })?;
    stage.docker(TWO).run(&["rm", "-f", volume, "load"])?;
    stage.belongs_to(ONE, volume)?;
    stage.remove(volume)
}
