//! From luck to steps.
//!
//! Each seed draws first which kinds of trouble it has at all: about half of them. Schedules in which everything
//! happens at once reach fewer corners than schedules of few kinds that happen again and again.

use std::time::Duration;

use vdvs_host_sim::{Fault, When};

use super::dice::Dice;
use super::plan::Shape;
use super::step::{Admin, Death, Link, Step, Timed};

/// Fewest and most steps.
const STEPS: (u64, u64) = (6, 26);
/// Longest pause between two steps, in milliseconds: longer than everything but mount budgets.
const LONG_PAUSE: u64 = 45_000;
/// By then a plugin has doubted the counts it had at the beginning.
const DOUBTED: u64 = 200_000;

pub(super) fn shape(dice: &mut Dice) -> Shape {
    let hosts = 2 + dice.index(2);
    let vms = hosts + dice.index(3);
    let volumes = 2 + dice.index(3);
    let fenced: Vec<bool> = (0..volumes).map(|_| dice.once_in(2)).collect();
    // Each volume is some service's; a service may have two.
    let mut services: Vec<Vec<usize>> = Vec::new();
    for volume in 0..volumes {
        match services.last_mut() {
            Some(last) if last.len() == 1 && dice.once_in(4) => last.push(volume),
            _ => services.push(vec![volume]),
        }
    }
    Shape {
        hosts,
        vms,
        datastores: 1 + dice.index(2),
        fenced,
        services,
        lapse: dice.millis(4, 20) * 1000,
        driver_named: !dice.once_in(3),
        // Nothing: hosts meet where schedules let them, and the exhaustive search walks through the meetings inside a change.
        pace: 0,
    }
}

/// A kind of step and how often it is drawn beside the others.
struct Kind {
    weight: u64,
    make: fn(&mut Dice, &Shape) -> Step,
}

const fn kind(weight: u64, make: fn(&mut Dice, &Shape) -> Step) -> Kind {
    Kind { weight, make }
}

/// What the world is there for: drawn in every seed.
const WORK: &[Kind] = &[
    kind(4, |d, s| Step::Deploy(d.index(s.services.len()))),
    kind(2, |d, s| Step::Retire(d.index(s.services.len()))),
    kind(2, |d, s| Step::Create(d.index(s.vms), d.index(4))),
    kind(2, |d, s| Step::Remove(d.index(s.vms), d.index(4))),
    kind(1, |d, _| Step::Rush(d.index(4))),
    kind(1, |d, s| Step::List(d.index(s.vms))),
    kind(2, |d, s| {
        let secs = d.millis(500, 40_000);
        Step::RunOnce(d.index(s.vms), d.index(4), secs)
    }),
    kind(4, |_, _| Step::Pause),
];

/// Trouble: each kind is in about half of the seeds.
const TROUBLE: &[Kind] = &[
    kind(3, |d, s| Step::PowerCut(d.index(s.vms), d.any())),
    kind(2, |d, s| Step::PowerOn(d.index(s.vms))),
    kind(1, |d, s| {
        let secs = d.millis(1000, 60_000);
        Step::Suspend(d.index(s.vms), secs)
    }),
    kind(1, |d, s| Step::Snapshot(d.index(s.vms))),
    kind(1, |d, s| Step::Revert(d.index(s.vms))),
    kind(2, |d, s| {
        let down = d.millis(100, 20_000);
        Step::KillPlugin(d.index(s.vms), down)
    }),
    kind(1, |d, s| Step::GuestFull(d.index(s.vms), d.once_in(2))),
    kind(1, |d, s| Step::TearJournal(d.index(s.vms))),
    kind(3, |d, s| {
        let vm = d.index(s.vms);
        Step::Link(vm, link(d))
    }),
    kind(3, |d, s| Step::Partition(d.index(s.vms), !d.once_in(3))),
    kind(2, |d, s| Step::VMotion(d.index(s.vms), d.index(s.hosts))),
    kind(1, |d, s| Step::Twin(d.index(s.vms), d.index(s.hosts))),
    kind(3, |d, s| {
        let down = d.millis(100, 40_000);
        Step::KillAgent(d.index(s.hosts), down)
    }),
    kind(2, |d, s| {
        let down = match d.once_in(5) {
            true => Duration::from_secs(7 * 24 * 3600),
            false => d.millis(5_000, 90_000),
        };
        Step::CrashHost(d.index(s.hosts), down, d.once_in(2))
    }),
    kind(2, |d, s| Step::Isolate(d.index(s.hosts), !d.once_in(3))),
    kind(1, |d, s| {
        let (host, ds) = (d.index(s.hosts), d.index(s.datastores));
        Step::Reach(host, ds, d.once_in(3))
    }),
    kind(1, |d, s| {
        let (host, ds) = (d.index(s.hosts), d.index(s.datastores));
        Step::Hang(host, ds, !d.once_in(3))
    }),
    kind(1, |d, _| Step::HideLocks(d.once_in(2))),
    kind(1, |d, s| Step::Full(d.index(s.datastores), d.once_in(2))),
    kind(5, |d, s| {
        let (host, later) = (d.index(s.hosts), d.below(80));
        Step::Fault(host, later, fault(d))
    }),
    kind(1, |d, s| {
        let jumps = [-86_400, -3_600, -30, 30, 3_600, 86_400];
        let host = d.index(s.hosts);
        Step::ClockJump(host, d.pick(&jumps).copied().unwrap_or(30))
    }),
    kind(2, |d, s| {
        let (host, volume) = (d.index(s.hosts), d.index(s.fenced.len()));
        Step::Admin(host, volume, admin(d))
    }),
    kind(1, |d, s| Step::Clone(d.index(s.vms), d.index(4))),
    kind(1, |d, s| Step::Embrace(d.index(s.vms), d.index(s.vms))),
    kind(2, |d, s| {
        let down = d.millis(100, 20_000);
        match d.once_in(3) {
            true => Step::StopPlugin(d.index(s.vms), down),
            false => Step::KillDockerd(d.index(s.vms), down),
        }
    }),
    kind(2, |d, s| {
        let vm = d.index(s.vms);
        match d.once_in(2) {
            true => Step::LoseUnmounts(vm, few(d)),
            false => Step::DelayUnmount(vm, d.millis(1000, 20_000)),
        }
    }),
    kind(2, |d, s| Step::CopyFrom(d.index(s.vms))),
    kind(1, |d, s| {
        let jumps = [-86_400, -3_600, -130, 130, 3_600, 86_400];
        let vm = d.index(s.vms);
        Step::Skew(vm, d.pick(&jumps).copied().unwrap_or(130))
    }),
    kind(1, |d, s| {
        let how_long = d.millis(1000, 60_000);
        Step::Pin(d.index(s.vms), how_long)
    }),
    kind(5, |d, s| {
        let (host, verb) = (d.index(s.hosts), verb(d));
        Step::FaultAt(host, verb, fault(d), few(d))
    }),
    kind(5, |d, s| {
        let (vm, volume) = (d.index(s.vms), d.index(4));
        let (verbs, step) = match d.below(3) {
            0 => (MAKING, Step::Create(vm, volume)),
            1 => (UNMAKING, Step::Remove(vm, volume)),
            _ => {
                let how_long = d.millis(500, 20_000);
                (USING, Step::RunOnce(vm, volume, how_long))
            }
        };
        let verb = d.pick(verbs).copied().unwrap_or("write");
        Step::Amid(verb, fault(d), Box::new(step))
    }),
    kind(2, |d, s| {
        let how_long = d.millis(500, 20_000);
        Step::Rivals(d.index(s.fenced.len()), how_long)
    }),
    kind(3, |d, s| {
        let late = d.millis(5_000, 30_000);
        Step::Stale(d.index(s.vms), d.index(4), late)
    }),
    kind(1, |d, s| {
        Step::Grope(d.index(s.vms), d.index(s.fenced.len()))
    }),
    kind(2, |d, s| Step::Unreadable(d.index(s.vms), few(d))),
    kind(2, |d, s| Step::Blind(d.index(s.hosts), d.once_in(3))),
    kind(3, |d, s| {
        let (host, down) = (d.index(s.hosts), d.millis(20_000, 120_000));
        let verb = d.pick(&["attach", "detach"]).copied().unwrap_or("attach");
        Step::Strike(host, verb, when(d), down)
    }),
];

fn link(dice: &mut Dice) -> Link {
    let few = few(dice);
    match dice.below(8) {
        7 => Link::Late(few, dice.millis(100, 90_000)),
        0 | 1 => Link::LoseReplies(few),
        6 => Link::LoseRequests(few),
        2 => Link::Duplicate(few),
        3 => Link::Delay(few, dice.millis(100, 30_000)),
        4 => Link::Cut,
        _ => Link::Mend,
    }
}

fn few(dice: &mut Dice) -> u32 {
    u32::try_from(1 + dice.below(3)).unwrap_or(1)
}

/// What making a volume calls.
const MAKING: &[&str] = &["create_new", "write", "create_disk", "create_disk"];
/// What removing one calls.
const UNMAKING: &[&str] = &["delete_disk", "delete_disk", "write", "remove"];
/// What using one calls.
const USING: &[&str] = &["attach", "attach", "detach", "detach", "write", "disks"];

/// Calls that matter most: those that change VMs and disks, and those whose answers decide.
fn verb(dice: &mut Dice) -> &'static str {
    let verbs = [
        "attach",
        "attach",
        "detach",
        "detach",
        "fence",
        "disks",
        "lock",
        "create_new",
        "write",
        "write",
        "create_disk",
        "clone_disk",
        "delete_disk",
        "remove",
        "read_dir",
    ];
    dice.pick(&verbs).copied().unwrap_or("attach")
}

fn when(dice: &mut Dice) -> When {
    match dice.below(3) {
        0 => When::Before,
        1 => When::Half,
        _ => When::After,
    }
}

fn fault(dice: &mut Dice) -> Fault {
    match dice.below(8) {
        0 => Fault::Fail,
        1..=3 => Fault::Crash(when(dice)),
        4 | 5 => Fault::NoAnswer(when(dice)),
        6 => Fault::Twice,
        _ => Fault::Slow(dice.millis(100, 20_000)),
    }
}

fn admin(dice: &mut Dice) -> Admin {
    match dice.below(7) {
        0 | 1 => Admin::Look,
        2 | 3 => Admin::Take,
        4 => Admin::TakeByForce,
        5 => Admin::Remove,
        _ => Admin::SetFailover(dice.once_in(2)),
    }
}

fn death(dice: &mut Dice) -> Death {
    let all = [
        Death::Vm,
        Death::Host,
        Death::Isolated,
        Death::Restarted,
        Death::Partitioned,
    ];
    dice.pick(&all).copied().unwrap_or(Death::Vm)
}

fn draw(dice: &mut Dice, kinds: &[&Kind], shape: &Shape) -> Option<Step> {
    let total = kinds.iter().map(|k| k.weight).sum();
    let mut at = dice.below(total);
    for kind in kinds {
        match at.checked_sub(kind.weight) {
            Some(left) => at = left,
            None => return Some((kind.make)(dice, shape)),
        }
    }
    None
}

fn pause(dice: &mut Dice) -> Duration {
    match dice.below(4) {
        // Into the middle of what the last step began.
        0 => dice.millis(0, 40),
        1 => dice.millis(0, 1500),
        2 => dice.millis(1000, 12_000),
        3 if dice.once_in(6) => dice.millis(LONG_PAUSE, DOUBTED),
        _ => dice.millis(5000, LONG_PAUSE),
    }
}

pub(super) fn steps(dice: &mut Dice, shape: &Shape) -> Vec<Timed> {
    let trouble = TROUBLE.iter().filter(|_| dice.once_in(2));
    let kinds: Vec<&Kind> = WORK.iter().chain(trouble.collect::<Vec<_>>()).collect();
    let count = STEPS.0 + dice.below(STEPS.1 - STEPS.0 + 1);
    let mut steps = vec![Timed {
        after: dice.millis(0, 2000),
        step: Step::Deploy(0),
    }];
    for _ in 0..count {
        let after = pause(dice);
        let step = draw(dice, &kinds, shape).unwrap_or(Step::Pause);
        steps.push(Timed { after, step });
    }
    // The last one has time to have its effect.
    steps.push(Timed {
        after: pause(dice),
        step: Step::Pause,
    });
    // Measured last, when everything was healed.
    if dice.once_in(3) {
        steps.push(Timed {
            after: Duration::ZERO,
            step: Step::Takeover(dice.index(shape.services.len()), death(dice)),
        });
    }
    steps
}
