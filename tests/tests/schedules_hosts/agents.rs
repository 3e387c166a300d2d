//! What dies or is lost after each change of a volume's record: the moments between two steps of every operation.
//!
//! A record is a row of files on the datastore, one for each change of it (its operation before, its result after each
//! call of the hypervisor). So "after the n-th file that is new" walks through attach, format and detach step by step,
//! and no list of moments has to be kept.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use vdvs_testkit::lab::{DEFAULT_DATASTORE, Daemon};
use vdvs_testkit::wait::until;
use vdvs_tests::rig::run_in;

use super::relay::Relay;
use super::stage::{ESX02, PATIENCE, Stage, TWO};

/// Changes of a record from the first attach to the detach: attach begun and done, format begun and done, detach begun
/// and done.
const CHANGES: usize = 6;
/// How long replies are lost, then the connection breaks.
const LOST: Duration = Duration::from_millis(300);
/// So often all changes are walked through, at most, until a reply was lost.
const ROUNDS: usize = 5;

/// Whichever change the agent dies after: the same requests, asked again, are answered by the next agent.
pub(crate) fn the_agent_dies_in_the_middle_of_attach_and_of_detach(stage: &Stage) -> Result<()> {
    for change in 1..=CHANGES {
        let volume = format!("agent-dies-{change}");
        stage.create(&volume, &[])?;
        after_change(stage, &volume, change, || {
            stage.rig.kill(ESX02, Daemon::Agent)?;
            stage.rig.start(ESX02, Daemon::Agent)
        })?;
        whole(stage, &volume)?;
    }
    Ok(())
}

/// What the agent says is lost on the way, then the connection breaks: the guest asks again with the same request, and
/// nothing happens twice.
pub(crate) fn replies_are_lost(stage: &Stage) -> Result<()> {
    let relay = Relay::between(&stage.rig, ESX02, TWO)?;
    let mut lost = 0;
    for round in 1.. {
        lost += replies_of_each_change_are_lost(stage, &relay, round)?;
        // On a busy machine every reply of a round may have come before it could be lost.
        if lost > 0 || round == ROUNDS {
            break;
        }
    }
    stage
        .rig
        .note("replies lost", &format!("{lost} bytes of them"));
    ensure!(lost > 0, "no reply was on its way");
    relay.away(&stage.rig)
}

fn replies_of_each_change_are_lost(stage: &Stage, relay: &Relay, round: usize) -> Result<usize> {
    let mut lost = 0;
    for change in 1..=CHANGES {
        let volume = format!("reply-lost-{round}-{change}");
        stage.create(&volume, &[])?;
        after_change(stage, &volume, change, || {
            lost += relay.lose_replies(LOST);
            Ok(())
        })?;
        whole(stage, &volume)?;
    }
    Ok(lost)
}

/// Runs a container that writes into the volume and ends; does something right after so many changes of its record.
fn after_change(
    stage: &Stage,
    volume: &str,
    change: usize,
    act: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let begun = newest(stage, volume)?;
    let wanted = begun + u64::try_from(change)?;
    let run = run_in(volume, "echo once >> /data/f; sync; cat /data/f");
    let said = thread::scope(|scope| {
        let runs = scope.spawn(|| stage.docker(TWO).run(&run));
        until_now(stage, volume, wanted)?;
        act()?;
        runs.join().map_err(|_| anyhow!("a thread panicked"))?
    })?;
    ensure!(said == "once", "{volume}: the container said {said}");
    Ok(())
}

/// As `wait::until`, without a pause: what follows shall hit the next step. A folder that changes while it is listed may
/// show neither the slot that goes nor the one that comes.
fn until_now(stage: &Stage, volume: &str, wanted: u64) -> Result<()> {
    // The first look tells that the folder can be read; the rest is a race that must not be lost to a pause.
    until(PATIENCE, "the record changes", || {
        for _ in 0..1000 {
            if seen(stage, volume)? >= Some(wanted) {
                return Ok(Some(()));
            }
            thread::yield_now();
        }
        Ok(None)
    })
}

/// What was written once is there once, and the volume can go.
fn whole(stage: &Stage, volume: &str) -> Result<()> {
    stage.rig.wait_detached(volume)?;
    let said = stage.docker(TWO).run(&run_in(volume, "cat /data/f"))?;
    ensure!(said == "once", "{volume} holds {said}");
    stage.remove(volume)
}

/// The number of the record's newest version.
fn newest(stage: &Stage, volume: &str) -> Result<u64> {
    until(PATIENCE, "the record is there", || seen(stage, volume))
}

/// The same in one look; `None`: it showed no version.
fn seen(stage: &Stage, volume: &str) -> Result<Option<u64>> {
    let dockvols = stage
        .rig
        .host()
        .datastore(DEFAULT_DATASTORE)
        .join("dockvols");
    let begin = format!("{volume}.");
    let mut newest = None;
    for group in fs::read_dir(&dockvols)?.flatten() {
        for file in fs::read_dir(group.path())?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let slot = name
                .strip_prefix(&begin)
                .and_then(|rest| rest.split_once(".vdvs."))
                .and_then(|(_, slot)| slot.parse::<u64>().ok());
            newest = newest.max(slot);
        }
    }
    Ok(newest)
}
