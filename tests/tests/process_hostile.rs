//! Hostile peers: ten thousand requests at the plugin's socket and ten thousand connections at the agent's socket of one
//! VM, none of them right. Plugin and agent stay healthy and do not grow, and every call of another VM is answered
//! meanwhile. How long those calls take is printed here and judged by `cargo xtask bench --only hostile`.
//!
//! Has the machine to itself while it runs. Every attack follows from a seed that is printed. `VDVS_HOSTILE` is another number than ten thousand.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

mod bare;
#[path = "process_hostile/garbage.rs"]
mod garbage;
#[path = "process_hostile/http.rs"]
mod http;
#[path = "process_hostile/neighbour.rs"]
mod neighbour;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vdvs_testkit::process::{Cmd, ProcId};
use vdvs_testkit::wait::until_true;

use bare::dice::{Dice, seed};
use bare::{Bare, SOON, descriptors, docker, memory_kib};
use neighbour::Neighbour;

/// Attacks, unless the environment says another number.
const ATTACKS: usize = 10_000;
/// Attacks before memory is measured: allocators and caches reach their size.
const WARM_UP: usize = 1_000;
/// What a debug build's allocator may add between two measurements of the same.
const MEMORY_SLACK_KIB: u64 = 8 * 1024;
/// Connections that close at this moment.
const DESCRIPTOR_SLACK: usize = 4;
/// Attack and pause alternate so often; latency is compared over all of each.
const ROUNDS: usize = 8;
/// A pause between attacks, for the neighbour's undisturbed calls.
const CALM: Duration = Duration::from_millis(700);

fn attacks() -> usize {
    let given = env::var("VDVS_HOSTILE")
        .ok()
        .and_then(|text| text.parse().ok());
    given.unwrap_or(ATTACKS)
}

/// Size of a process.
#[derive(Debug, Clone, Copy)]
struct Size {
    memory_kib: u64,
    descriptors: usize,
}

impl Size {
    fn of(process: ProcId) -> Result<Self> {
        Ok(Self {
            memory_kib: memory_kib(process, "VmRSS")?,
            descriptors: descriptors(process)?,
        })
    }

    /// Waits until the process has given back what an attack made it open.
    fn must_not_have_grown(self, name: &str, process: ProcId) -> Result<()> {
        until_true(SOON, &format!("{name} closes what attacks opened"), || {
            Ok(descriptors(process)? <= self.descriptors + DESCRIPTOR_SLACK)
        })?;
        let now = Self::of(process)?;
        eprintln!("figure: {name}: before {self:?}, after {now:?}");
        ensure!(
            now.memory_kib <= self.memory_kib + MEMORY_SLACK_KIB,
            "{name} grew: {self:?} → {now:?}"
        );
        Ok(())
    }
}

/// Attacks in rounds with pauses, from several threads, each attack by its number; the neighbour must get every answer.
fn besiege(
    what: &str,
    neighbour: &Neighbour,
    threads: usize,
    attack: impl Fn(usize) -> Result<()> + Sync,
) -> Result<()> {
    // What attacks runs in a VM, which has processors of its own: it does not take the host's from the agent.
    thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            stand_back()?;
            besiege_from_here(what, neighbour, threads, &attack)
        });
        attacker.join().unwrap()
    })
}

/// This thread and those it makes run when nobody else wants to.
fn stand_back() -> Result<()> {
    let own = fs::read_link("/proc/thread-self")?;
    let own = own.file_name().context("a thread has a number")?;
    lowest_priority(&own.to_string_lossy())
}

fn lowest_priority(thread: &str) -> Result<()> {
    let renice = Cmd::new("/usr/bin/renice").args(["--priority", "19", "--pid", thread]);
    renice.run().map(drop)
}

fn besiege_from_here(
    what: &str,
    neighbour: &Neighbour,
    threads: usize,
    attack: &(impl Fn(usize) -> Result<()> + Sync),
) -> Result<()> {
    let all = attacks();
    let begin = Instant::now();
    for round in 0..ROUNDS {
        neighbour.calm();
        thread::sleep(CALM);
        // On a busy machine a pause is as long as it takes to say something about it.
        until_true(SOON, "the neighbour's calls in a pause", || {
            Ok(neighbour.calm_calls() * ROUNDS >= (round + 1) * neighbour::ENOUGH)
        })?;
        neighbour.attacked();
        let next = AtomicUsize::new(all * round / ROUNDS);
        let end = all * (round + 1) / ROUNDS;
        let results: Vec<Result<()>> = thread::scope(|scope| {
            let run = || -> Result<()> {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= end {
                        return Ok(());
                    }
                    attack(number)?;
                }
            };
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            running.into_iter().map(|t| t.join().unwrap()).collect()
        });
        results.into_iter().collect::<Result<()>>()?;
    }
    neighbour.calm();
    let latency = neighbour.latency()?;
    let took = begin.elapsed();
    eprintln!("figure: {what}: {all} in {took:.1?}; another VM's GetVolume: {latency}");
    Ok(())
}

fn start() -> Result<Bare> {
    let mut bare = Bare::sim(&["hostile", "good"])?;
    bare.start_plugin("hostile")?;
    docker::call(&bare.plugin_socket(), "Create", &json!({"Name": "canary"}))?;
    // The plugin runs in the VM that is attacked or attacks.
    for thread in fs::read_dir(format!("/proc/{}/task", bare.plugin()?.pid))? {
        lowest_priority(&thread?.file_name().to_string_lossy())?;
    }
    Ok(bare)
}

/// Everything still works for those who ask properly.
fn healthy(bare: &Bare) -> Result<()> {
    let socket = bare.plugin_socket();
    let listed = docker::call(&socket, "List", &json!({}))?;
    let volumes = listed["Volumes"].as_array().into_iter().flatten();
    let mut names: Vec<_> = volumes.filter_map(|one| one["Name"].as_str()).collect();
    names.sort_unstable();
    ensure!(
        names == ["canary@vsanDatastore", "neighbour@vsanDatastore"],
        "something was created: {listed}"
    );
    docker::call(&socket, "Create", &json!({"Name": "after"}))?;
    let got = docker::call(&socket, "Get", &json!({"Name": "after"}))?;
    ensure!(got["Volume"]["Name"] == "after", "{got}");
    docker::call(&socket, "Remove", &json!({"Name": "after"}))?;
    bare.assert_quiet()
}

#[test]
fn ten_thousand_hostile_requests_leave_the_plugin_as_it_was() -> Result<()> {
    let dice = Dice::new(seed("hostile requests"));
    let bare = start()?;
    let neighbour = Neighbour::of(&bare, "good")?;
    let socket = bare.plugin_socket();
    let log_before = fs::metadata(bare.plugin_log())?.len();
    let tally = http::Tally::default();
    let attack = |number: usize| {
        let mut dice = dice.branch(u64::try_from(number)?);
        http::attack(&socket, &mut dice, &tally)
    };
    for number in 0..WARM_UP {
        attack(usize::MAX / 2 + number)?;
    }
    let (plugin, agent) = (Size::of(bare.plugin()?)?, Size::of(bare.agent()?)?);
    besiege("hostile requests", &neighbour, 12, attack)?;
    http::slow(&socket)?;
    eprintln!("figure: hostile requests: {}", tally.text());
    plugin.must_not_have_grown("vdvs-plugin", bare.plugin()?)?;
    agent.must_not_have_grown("vdvsd", bare.agent()?)?;
    let logged = fs::metadata(bare.plugin_log())?.len() - log_before;
    let requests = u64::try_from(tally.all())?;
    eprintln!(
        "figure: hostile requests: {} bytes of log each",
        logged / requests
    );
    ensure!(
        logged / requests < 512,
        "hostile requests fill the log: {logged} bytes"
    );
    healthy(&bare)
}

#[test]
fn ten_thousand_garbage_connections_leave_the_agent_as_it_was() -> Result<()> {
    let dice = Dice::new(seed("garbage connections"));
    let bare = start()?;
    let neighbour = Neighbour::of(&bare, "good")?;
    let socket = bare.vsock("hostile");
    let log_before = fs::metadata(bare.agent_log())?.len();
    let counts = Mutex::new(BTreeMap::new());
    let attack = |number: usize| {
        let mut dice = dice.branch(u64::try_from(number)?);
        let kind = garbage::attack(&socket, &mut dice)?;
        *counts.lock().unwrap().entry(kind).or_insert(0_usize) += 1;
        Ok(())
    };
    for number in 0..WARM_UP / 4 {
        attack(usize::MAX / 2 + number)?;
    }
    let (plugin, agent) = (Size::of(bare.plugin()?)?, Size::of(bare.agent()?)?);
    // A VM has eight connections, one is its plugin's.
    besiege("garbage connections", &neighbour, 6, attack)?;
    garbage::silence(&socket)?;
    eprintln!("figure: garbage connections: {:?}", counts.lock().unwrap());
    plugin.must_not_have_grown("vdvs-plugin", bare.plugin()?)?;
    agent.must_not_have_grown("vdvsd", bare.agent()?)?;
    let logged = fs::metadata(bare.agent_log())?.len() - log_before;
    eprintln!("figure: garbage connections: {logged} bytes of log in all");
    ensure!(logged < 256 * 1024, "garbage fills the log: {logged} bytes");
    healthy(&bare)
}
