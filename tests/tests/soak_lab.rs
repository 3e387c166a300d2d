//! Soak: eight guests on two hosts, two hundred volumes on two shared datastores, random operations, and kills of
//! everything that can die, for as long as asked.
//!
//! ```text
//!   make 200 ─► rounds: guests work, chaos kills ─► all heals ─► quiet: nothing open, figures ─► … ─► read all ─► remove
//! ```
//! A guest is a machine of its own with a plugin in it, spoken to as an engine would; its containers are processes that
//! write numbered lines into a volume, each flushed before it is acknowledged, and read what all before them wrote. After
//! the first rounds one host's programs and one guest's plugin are spared, so that memory and descriptors of programs
//! that worked all the while can be compared from quiet moment to quiet moment.
//!
//! `VDVS_SOAK_MINUTES` says how long (an ordinary run: half of one), `VDVS_SEED` which operations and kills are drawn;
//! when they hit is the machine's doing.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

#[path = "soak_lab/chaos.rs"]
mod chaos;
#[path = "bare/dice.rs"]
#[allow(dead_code, reason = "this suite uses its own part of it")]
mod dice;
#[path = "soak_lab/figures.rs"]
mod figures;
#[path = "soak_lab/guest.rs"]
mod guest;
#[path = "soak_lab/known.rs"]
mod known;

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use vdvs_testkit::lab::{Datastore, LabConfig, each};
use vdvs_testkit::wait::until_true;
use vdvs_tests::rig::{Program, Rig, Setup};

use dice::{Dice, seed};
use figures::Figures;
use guest::Guest;
use known::{Known, VOLUMES};

const GUESTS: u8 = 8;
/// Of an ordinary run, in minutes. Filling, quiet moments and reading all take more than that again.
const MINUTES: f64 = 0.5;
/// In the first of them everything dies, in those after it some programs are spared.
const SPARED_AFTER: u32 = 2;
/// Each round ends with a quiet moment, which takes its time: a short run has few of them.
const ROUNDS: u32 = 4;
const ROUNDS_OF_A_LONG_RUN: u32 = 6;
/// Locks of a dead host are held so long.
const LAPSE: Duration = Duration::from_secs(3);
/// Seconds a Mount may take; the agent waits ten less.
const MOUNT_BUDGET: u64 = 15;
/// After the chaos, until everything half-done is done.
const HEALING: Duration = Duration::from_secs(240);

pub(crate) const DATASTORES: [&str; 2] = ["vmfs1", "nfs1"];

#[test]
fn guests_and_volumes_outlive_everything_that_dies_and_nothing_leaks() -> Result<()> {
    let minutes = env::var("VDVS_SOAK_MINUTES")
        .ok()
        .and_then(|text| text.parse().ok());
    let time = Duration::from_secs_f64(60.0 * minutes.unwrap_or(MINUTES));
    let dice = Dice::new(seed("soak"));
    let Some(rig) = up()? else { return Ok(()) };
    let known = Known::default();
    let mut figures = Figures::default();
    fill(&rig, &known, &dice)?;
    quiet(&rig, &known)?;
    figures.take(&rig, "before")?;
    let long = time >= figures::TELLS;
    let rounds = if long { ROUNDS_OF_A_LONG_RUN } else { ROUNDS };
    for round in 1..=rounds {
        let spare = round > SPARED_AFTER;
        let dice = dice.branch(u64::from(round));
        work(&rig, &known, &dice, time / rounds, spare)?;
        quiet(&rig, &known).with_context(|| format!("after round {round}"))?;
        figures.take(&rig, &format!("after round {round}"))?;
        rig.one_writer()?;
    }
    known.print();
    read_all(&rig, &known)?;
    quiet(&rig, &known)?;
    figures.must_be_flat(time)?;
    remove_all(&rig, &known)?;
    rig.finish_empty()
}

fn up() -> Result<Option<Rig>> {
    let datastores = [(DATASTORES[0], "vmfs"), (DATASTORES[1], "nfs")]
        .map(|(n, k)| Datastore::new(n, k).lapsing(LAPSE));
    let config = LabConfig::spread("e-soak", GUESTS, 2).with_datastores(&datastores);
    let setup = Setup {
        no_engines: true,
        mount_budget: Some(MOUNT_BUDGET),
        ..Setup::default()
    };
    let Some(mut rig) = Rig::up_lab(&config, setup)? else {
        return Ok(None);
    };
    rig.watch_writers()?;
    for (by, text, why) in EXPECTED {
        rig.expect_complaint(*by, text, why);
    }
    each(&rig.lab().nodes()?, |node| {
        rig.wait_plugin(node.name())?;
        guest::install(node)
    })?;
    Ok(Some(rig))
}

/// Two hundred volumes, made by all guests at once.
fn fill(rig: &Rig, known: &Known, dice: &Dice) -> Result<()> {
    let begun = Instant::now();
    let nodes = rig.lab().nodes()?;
    let mut first = Guest::new(rig, known, "swarm01", dice.branch(1000));
    for datastore in DATASTORES {
        first.create_on(&format!("@{datastore}"))?;
    }
    each(&nodes, |node| {
        let number = u64::from(node.record()?.index);
        let mut guest = Guest::new(rig, known, node.name(), dice.branch(1000 + number));
        while known.count() < VOLUMES {
            guest.create()?;
        }
        Ok(())
    })?;
    let made = known.count();
    rig.note(
        "volumes made",
        &format!("{made} in {:.1?}", begun.elapsed()),
    );
    Ok(())
}

/// Guests work and things die for so long; then everything is alive again.
fn work(rig: &Rig, known: &Known, dice: &Dice, time: Duration, spare: bool) -> Result<()> {
    let stop = AtomicBool::new(false);
    let until = Instant::now() + time;
    thread::scope(|scope| {
        let guests: Vec<_> = rig
            .lab()
            .nodes()?
            .iter()
            .map(|node| {
                let name = node.name().to_owned();
                let number: u64 = name.trim_start_matches("swarm").parse()?;
                let (stop, dice) = (&stop, dice.branch(number));
                Ok(scope.spawn(move || Guest::new(rig, known, &name, dice).work(stop)))
            })
            .collect::<Result<_>>()?;
        let chaos = chaos::until(rig, known, dice.branch(99), until, spare);
        stop.store(true, Ordering::SeqCst);
        let mut ended = vec![chaos];
        for guest in guests {
            let end = guest.join().map_err(|_| anyhow!("a guest panicked"));
            ended.push(end.and_then(|end| end));
        }
        ended.into_iter().collect::<Result<()>>()
    })
}

/// Waits until nothing is open anywhere, and no operation unfinished.
fn quiet(rig: &Rig, known: &Known) -> Result<()> {
    let begun = Instant::now();
    let mut open = Vec::new();
    until_true(HEALING, "nothing is open", || {
        open = figures::open(rig)?;
        Ok(open.is_empty())
    })
    .with_context(|| open.join("; "))?;
    known.healed(begun.elapsed());
    Ok(())
}

/// Every volume is mounted once more, by somebody.
fn read_all(rig: &Rig, known: &Known) -> Result<()> {
    let begun = Instant::now();
    let names = known.names();
    each(&rig.lab().nodes()?, |node| {
        let index = usize::from(node.record()?.index);
        let mut guest = Guest::new(rig, known, node.name(), Dice::new(7));
        let own = names.iter().skip(index - 1).step_by(usize::from(GUESTS));
        own.into_iter().try_for_each(|name| guest.read(name))
    })?;
    let text = format!("{} in {:.1?}", names.len(), begun.elapsed());
    rig.note("volumes read at the end", &text);
    Ok(())
}

fn remove_all(rig: &Rig, known: &Known) -> Result<()> {
    let unsure = known.unsure_names();
    rig.note("volumes made or not", &unsure.len().to_string());
    let names = [known.names(), unsure].concat();
    each(&rig.lab().nodes()?, |node| {
        let index = usize::from(node.record()?.index);
        let mut guest = Guest::new(rig, known, node.name(), Dice::new(7));
        let own = names.iter().skip(index - 1).step_by(usize::from(GUESTS));
        own.into_iter().try_for_each(|name| guest.must_remove(name))
    })
}

/// What the chaos causes.
const EXPECTED: &[(Program, &str, &str)] = &[
    (
        Program::Plugin,
        "no agent; the journal answers",
        "agents die",
    ),
    (
        Program::Plugin,
        "mount failed",
        "volumes are held by others",
    ),
    (Program::Plugin, "dockerd lost the Unmount", "plugins die"),
    (
        Program::Plugin,
        "is lost to this guest",
        "hosts lose datastores",
    ),
    (
        Program::Hypervisor,
        "lost: its disks are cut off",
        "hosts lose datastores",
    ),
    (
        Program::Hypervisor,
        "cannot renew the lease",
        "hosts lose datastores",
    ),
    (Program::Agent, "labhv does not listen", "hypervisors die"),
    (Program::Agent, "no answer from the host", "hypervisors die"),
    (Program::Agent, "the host failed to", "hypervisors die"),
    (Program::Agent, "cannot be read", "hosts lose datastores"),
    (
        Program::Agent,
        "it is being resolved",
        "guests and hosts die in the middle of an attach",
    ),
    (
        Program::Agent,
        "cleaned up later",
        "hosts lose datastores in the middle of a Create",
    ),
    (
        Program::Plugin,
        "the host did not detach the disk",
        "hypervisors and agents die under it",
    ),
];
