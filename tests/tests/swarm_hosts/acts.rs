//! Machines without power, hosts without power, programs that die, and services that are told to move.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use uuid::Uuid;
use vdvs_testkit::lab::Daemon;
use vdvs_testkit::postgres::{SERVICE, deploy};
use vdvs_tests::rig::{Program, Rig};

use super::story::{LINES, STACK, Story};

/// How long programs are killed under writers that stay where they are.
const CHAOS: Duration = Duration::from_secs(8);
/// Pauses between two kills, and between a kill and the next start: milliseconds up to this.
const PAUSE_MS: u64 = 800;

pub(crate) fn a_power_cut_moves_the_volumes_to_the_other_host(story: &Story) -> Result<()> {
    let (from, to) = story.workers()?;
    let moment = story.moment(&to)?;
    story.rig.power_cut(from.name())?;
    let (rows, lines) = story.wait_both_on(&to, &moment)?;
    let text = format!("rows after {rows:?}, lines after {lines:?}");
    story.rig.note("power cut", &text);
    // The dead machine may boot now: it would find no disk that is somebody else's.
    story.rig.wait_bare(from.name())?;
    story.rig.power_on(from.name())?;
    story.is_back(&from)?;
    story.goes_on(&to)?;
    story.one_holder(&to)?;
    story.all_there(&to, "a power cut")
}

pub(crate) fn a_host_crashes_with_all_its_machines(story: &Story) -> Result<()> {
    let (from, to) = story.workers()?;
    let (host, other) = (from.record()?.host, to.record()?.host);
    ensure!(host != other, "both workers are on {host}");
    story.rig.expect_complaint(
        Program::Plugin,
        "no agent; the journal answers",
        "the host's agent died with it, or was killed",
    );
    let moment = story.moment(&to)?;
    story.rig.crash_host(&host)?;
    let (rows, lines) = story.wait_both_on(&to, &moment)?;
    let text = format!("rows after {rows:?}, lines after {lines:?}");
    story.rig.note("host crash", &text);
    story.rig.lab().boot_host(&host)?;
    story.rig.wait_bare(from.name())?;
    story.rig.power_on(from.name())?;
    story.is_back(&from)?;
    story.goes_on(&to)?;
    story.one_holder(&to)?;
    story.all_there(&to, "a host's crash")
}

/// First under writers that stay where they are and must not notice, then under writers that move.
pub(crate) fn programs_are_killed_under_running_writers(story: &Story) -> Result<()> {
    for text in [
        "labhv does not listen",
        "the host failed to",
        "no answer from the host",
    ] {
        let why = "the hypervisor's stand-in was killed while the agent talked to it";
        // The plugin hands the agent's words on when it has to ask again.
        for by in [Program::Agent, Program::Plugin] {
            story.rig.expect_complaint(by, text, why);
        }
    }
    let (on, _) = story.workers()?;
    let tasks = story.tasks()?;
    let kills = while_killing(&story.rig, || {
        story.rig.after(CHAOS);
        story.goes_on(&on)
    })?;
    ensure!(
        story.tasks()? == tasks,
        "a task was replaced while programs outside died"
    );
    story.one_holder(&on)?;
    let moved = while_killing(&story.rig, || story.drain("while programs are killed"))?;
    let (on, _) = story.workers()?;
    story.one_holder(&on)?;
    let text = format!("{kills} under resting writers, {moved} while they moved");
    story.rig.note("programs killed", &text);
    story.all_there(&on, "programs were killed")
}

/// Kills an agent or a hypervisor of either host at random, again and again, while something else is done.
fn while_killing(rig: &Rig, act: impl FnOnce() -> Result<()>) -> Result<usize> {
    let stop = AtomicBool::new(false);
    let (seed, _) = Uuid::new_v4().as_u64_pair();
    eprintln!("kills with seed {seed}");
    thread::scope(|scope| {
        let killer = scope.spawn(|| kill_until(rig, seed, &stop));
        let done = act();
        stop.store(true, Ordering::Relaxed);
        let kills = killer.join().map_err(|_| anyhow!("the killer panicked"))?;
        done.and(kills)
    })
}

fn kill_until(rig: &Rig, mut seed: u64, stop: &AtomicBool) -> Result<usize> {
    let mut next = |below: u64| {
        // Knuth's generator; the upper half is the random one.
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut kills = 0;
    while !stop.load(Ordering::Relaxed) {
        let host = if next(2) == 0 { "esx01" } else { "esx02" };
        let daemon = if next(2) == 0 {
            Daemon::Agent
        } else {
            Daemon::Labhv
        };
        rig.kill(host, daemon)?;
        rig.after(Duration::from_millis(next(PAUSE_MS)));
        rig.start(host, daemon)?;
        kills += 1;
        rig.after(Duration::from_millis(next(PAUSE_MS)));
    }
    Ok(kills)
}

/// The lines' writer uses its whole grace of four seconds, which is less than the eight after which it would be fenced.
/// Neither was anybody fenced who was dead, or whose programs were.
pub(crate) fn drained_and_forced_nobody_is_fenced(story: &Story) -> Result<()> {
    force(story)?;
    // With copying the new node mounts before the old one has let go: it waits.
    let copying = STACK.replace("nocopy: true", "nocopy: false");
    ensure!(copying != STACK, "the stack file names nocopy");
    let took = story.updated(|| deploy(story.rig.lab(), &story.swarm, &copying))?;
    story.rig.note("update with copying", &format!("{took:?}"));
    story.gather("swarm02")?;
    story.drain("with copying")?;

    let fences = story.rig.fences()?;
    ensure!(fences == 0, "{fences} fences");
    let (on, _) = story.workers()?;
    story.all_there(&on, "drains and updates")
}

fn force(story: &Story) -> Result<()> {
    let took = story.updated(|| {
        for service in [SERVICE, LINES] {
            let args = ["service", "update", "--force", "--detach", service];
            story.docker().run(&args)?;
        }
        Ok(())
    })?;
    story.rig.note("update --force", &format!("{took:?}"));
    Ok(())
}
