//! The plugin's volume service, stopped at every call to its journal, its devices and its agent.
//!
//! The service and the journal's files are the real ones; the files are cut where a death in the middle of a call would
//! cut them: in half, and before the new one takes the old one's place. Disks and agent are in memory and survive.

mod gate;
mod life;
mod ops;
mod ports;

use std::fmt;
use std::time::Duration;

use tokio::time::sleep;

use self::gate::{Call, Port, Wrong};
use self::life::{Guest, none};
pub(crate) use self::ops::{ALL, GuestOperation};
use crate::strike::block_on;
use vdvs_matrix::{Case, Points};

struct Struck {
    op: &'static GuestOperation,
    /// Number of the call, from 0, and what it is; none: all of them.
    at: Option<(u64, Call)>,
    wrong: Wrong,
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin: {}", self.op.name)?;
        match self.at {
            Some((at, call)) => write!(f, ", call {at} ({} of {:?})", call.verb, call.port)?,
            None => f.write_str(", every call")?,
        }
        write!(f, ", {:?}", self.wrong)
    }
}

/// A guest in which one volume is in use, whatever is struck.
async fn prepared(op: &GuestOperation) -> Guest {
    let guest = Guest::new();
    guest.restart().await;
    guest.agent.add("other", &none());
    guest.volumes().mount("other", "x").await.unwrap();
    guest.use_disk("other", true);
    (op.prepare)(&guest).await;
    guest
}

async fn calls(op: &GuestOperation) -> Vec<Call> {
    let guest = prepared(op).await;
    let gate = guest.gate();
    gate.begin_trace();
    let said = (op.act)(&guest).await;
    let points = gate.end_trace();
    said.unwrap_or_else(|why| panic!("{}, undisturbed: {why}", op.name));
    if op.used {
        guest.use_disk("db", true);
    }
    guest.pass(20).await;
    guest.check(&["db", "other"], op.name).await;
    (op.holds)(&guest).await;
    points
}

impl Struck {
    async fn run(&self) {
        let text = self.to_string();
        let guest = prepared(self.op).await;
        let gate = guest.gate();
        match self.at {
            Some((at, _)) => gate.plan(at, self.wrong),
            None => gate.twice(true),
        }
        let mut first = tokio::select! {
            biased;
            () = gate.died() => None,
            said = (self.op.act)(&guest) => Some(said),
        };
        gate.twice(false);
        if gate.is_dead() {
            // What it still said reached nobody.
            first = None;
            match self.op.starts {
                true => drop(guest.next_life()),
                false => guest.restart().await,
            }
        }
        let first = first.map(|said| said.unwrap_or_else(|why| panic!("{text}: {why}")));
        let second = match (&first, self.op.starts) {
            (Some(first), true) => first.clone(),
            _ => self.again(&guest, &text).await,
        };
        if let Some(first) = &first {
            assert_eq!(second, *first, "{text}: another answer");
        }
        if self.op.used {
            guest.use_disk("db", true);
        }
        self.check(&guest, &text).await;
        let third = self.again(&guest, &text).await;
        assert_eq!(third, second, "{text}: another answer");
        self.check(&guest, &text).await;
        self.let_go(&guest, &text).await;
    }

    /// The same request, until its answer is final.
    async fn again(&self, guest: &Guest, text: &str) -> String {
        let mut last = String::new();
        for _ in 0..10 {
            if self.op.starts {
                guest.next_life();
            }
            match (self.op.act)(guest).await {
                Ok(said) => return said,
                Err(why) if self.op.once && why.contains("not found") => {
                    return "removed".to_owned();
                }
                Err(why) => last = why,
            }
            guest.pass(10).await;
        }
        panic!("{text}: repeated: {last}");
    }

    async fn check(&self, guest: &Guest, text: &str) {
        guest.pass(20).await;
        guest.check(&["db", "other"], text).await;
        (self.op.holds)(guest).await;
        if self.op.unmounts {
            return;
        }
        let id = guest.volume("other").id;
        let held = guest.journal().into_iter().find(|h| h.volume == id);
        let held = held.unwrap_or_else(|| panic!("{text}: the volume in use is forgotten"));
        assert!(
            guest.is_here("other"),
            "{text}: the volume in use was detached"
        );
        let target = format!("{}/{id}", life::ROOT);
        let mounted = guest.mounted().await;
        assert!(
            mounted.iter().any(|at| at.display().to_string() == target),
            "{text}: the volume in use was unmounted: {held:?}"
        );
    }

    /// Nothing is in use any more: everything is let go by itself, however the counts are.
    async fn let_go(&self, guest: &Guest, text: &str) {
        for name in ["db", "other"] {
            if guest.agent.volume(name).is_some() {
                guest.use_disk(name, false);
            }
        }
        guest.pass(400).await;
        for name in ["db", "other"] {
            assert!(!guest.is_here(name), "{text}: {name} is never let go");
        }
        let mounted = guest.mounted().await;
        assert!(mounted.is_empty(), "{text}: {mounted:?} stay");
        sleep(Duration::from_millis(1)).await;
        guest.check(&["db", "other"], text).await;
    }
}

fn wrongs(at: u64, call: Call) -> Vec<Wrong> {
    let mut all = Vec::new();
    if at == 0 {
        all.push(Wrong::DiesBefore);
    }
    if call.writes {
        all.extend([Wrong::DiesTorn, Wrong::DiesBeforeRename]);
    }
    all.push(Wrong::DiesAfter);
    if call.port != Port::Agent {
        // What the agent is asked carries a request id: repeated below this port, it is the same request.
        all.push(Wrong::Twice);
    }
    all
}

/// Everything that can go wrong with one operation.
pub(crate) fn points(op: &'static GuestOperation) -> Points {
    let calls = block_on(calls(op));
    assert!(!calls.is_empty(), "{} does nothing", op.name);
    let number = calls.len();
    let each = (0u64..).zip(calls);
    let struck = each.flat_map(|(at, call)| {
        let wrongs = wrongs(at, call).into_iter();
        wrongs.map(move |wrong| (Some((at, call)), wrong))
    });
    let case = |(at, wrong)| {
        let struck = Struck { op, at, wrong };
        Case {
            name: struck.to_string(),
            run: Box::new(move || block_on(struck.run())),
        }
    };
    let all = [(None, Wrong::Twice)].into_iter().chain(struck);
    Points {
        number,
        cases: all.map(case).collect(),
    }
}
