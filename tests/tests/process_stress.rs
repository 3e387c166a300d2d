//! Many at once against the real agent: 64 requests to create, clone and delete on two datastores, while `kill -9` hits
//! the agent again and again. Whoever had no answer asks again with the same request id, or gives up. In the end claims,
//! records, ledgers and disks agree to the file, what was acknowledged is so, and every clone holds its source's bytes.
//!
//! Seeded, and the seed is printed; where the kills hit is the machine's doing. `VDVS_STRESS_ROUNDS` is another number
//! of rounds. The same on simulated hosts, with a thousand rounds in minutes: `vdvs-engine`, test `stress`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

mod bare;
#[path = "process_stress/books.rs"]
mod books;

use std::collections::BTreeMap;
use std::env;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::Status;
use vdvs_api::{RemoteError, v1};
use vdvs_domain::ErrorKind;
use vdvs_testkit::wait::until_true;

use bare::dice::{Dice, seed};
use bare::{Bare, Guest, head};
use books::Books;

const DATASTORES: [&str; 2] = ["vsanDatastore", "nfs1"];
const VMS: [&str; 3] = ["swarm01", "swarm02", "swarm03"];
/// Of an ordinary run.
const ROUNDS: usize = 2;
const REQUESTS: usize = 64;
/// Deaths of the agent in a round.
const DEATHS: usize = 2;
/// Between two tries of a caller who had no answer.
const AGAIN: Duration = Duration::from_millis(50);
/// Tries of a caller before he gives up for good.
const TRIES: usize = 400;
/// Leftovers of an agent that died might be another host's work under way, so they are watched for a minute first.
const SETTLE: Duration = Duration::from_secs(300);

#[derive(Debug, Clone)]
enum Verb {
    Create,
    Clone { source: String },
    Delete,
}

#[derive(Debug, Clone)]
struct Request {
    verb: Verb,
    /// With its datastore.
    name: String,
    /// Asks again so often.
    tries: usize,
}

/// How it ended for the caller.
#[derive(Debug)]
enum End {
    Done,
    Refused(RemoteError),
    /// He never heard.
    Unknown,
}

impl Request {
    async fn run(self, mut guest: Guest) -> (Self, End) {
        let head = head();
        for _ in 0..self.tries {
            let answer = self
                .ask(&mut guest, head.clone())
                .await
                .map_err(RemoteError::from);
            match answer {
                Ok(()) => return (self, End::Done),
                // Nobody there, or the answer got lost.
                Err(error) if error.transport => sleep(AGAIN).await,
                // Told to try again: a claim that a dead agent left without a record is watched for a minute, and the
                // host has places for so many connections, those of the dead agent included. A source that is being
                // cloned stays so for longer than a caller waits.
                Err(error) if error.kind.row().retry && error.kind != ErrorKind::InUse => {
                    sleep(AGAIN).await;
                }
                Err(error) => return (self, End::Refused(error)),
            }
        }
        (self, End::Unknown)
    }

    async fn ask(&self, guest: &mut Guest, head: Option<v1::RequestHead>) -> Result<(), Status> {
        let name = self.name.clone();
        let options = match &self.verb {
            Verb::Create => [("size".to_owned(), "64mb".to_owned())],
            Verb::Clone { source } => [("clone-from".to_owned(), source.clone())],
            Verb::Delete => {
                let request = v1::DeleteVolumeRequest {
                    head,
                    name,
                    volume_id: String::new(),
                };
                return guest.delete_volume(request).await.map(drop);
            }
        };
        let options = options.into();
        let request = v1::CreateVolumeRequest {
            head,
            name,
            options,
        };
        guest.create_volume(request).await.map(drop)
    }
}

/// What the callers know.
#[derive(Debug, Default)]
struct Known {
    /// Volumes that are there for sure, with the mark their disk bears.
    there: BTreeMap<String, Option<u64>>,
    /// Nobody knows: its caller gave up.
    open: BTreeMap<String, Option<u64>>,
    tally: BTreeMap<String, usize>,
}

impl Known {
    /// 64 requests, each about a volume of its own; sources are volumes nobody deletes meanwhile.
    fn requests(&mut self, dice: &mut Dice, round: usize) -> Vec<Request> {
        let all: Vec<String> = self.there.keys().cloned().collect();
        let (doomed, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|_| dice.once_in(2));
        let mut doomed = doomed.into_iter();
        let make = |number: usize| {
            let tries = if dice.once_in(4) { 1 } else { TRIES };
            let name = format!("r{round}n{number}@{}", dice.pick(&DATASTORES));
            let (verb, name) = match dice.below(8) {
                0..=2 if !kept.is_empty() => {
                    let source = dice.pick(&kept).clone();
                    (Verb::Clone { source }, name)
                }
                3..=5 => match doomed.next() {
                    Some(name) => (Verb::Delete, name),
                    None => (Verb::Create, name),
                },
                _ => (Verb::Create, name),
            };
            Request { verb, name, tries }
        };
        (0..REQUESTS).map(make).collect()
    }

    fn learn(&mut self, request: Request, end: End) -> Result<()> {
        let verb = match &request.verb {
            Verb::Create => "create",
            Verb::Clone { .. } => "clone",
            Verb::Delete => "delete",
        };
        let how = match &end {
            End::Done => "done".to_owned(),
            End::Refused(error) => error.kind.to_string(),
            End::Unknown => "unknown".to_owned(),
        };
        *self.tally.entry(format!("{verb} {how}")).or_default() += 1;
        let mark = match &request.verb {
            Verb::Clone { source } => self.there.get(source).copied().flatten(),
            _ => None,
        };
        match (&request.verb, end) {
            (Verb::Create | Verb::Clone { .. }, End::Done) => {
                self.there.insert(request.name, mark);
            }
            (Verb::Create | Verb::Clone { .. }, End::Unknown) => {
                self.open.insert(request.name, mark);
            }
            (Verb::Delete, End::Done) => drop(self.there.remove(&request.name)),
            (Verb::Delete, End::Unknown) => {
                let mark = self.there.remove(&request.name).flatten();
                self.open.insert(request.name, mark);
            }
            // Its first try was obeyed, and the answer died with the agent.
            (Verb::Delete, End::Refused(error)) if how == "NOT_FOUND" => {
                drop((self.there.remove(&request.name), error));
            }
            // Somebody else clones the same source.
            (Verb::Clone { .. }, End::Refused(error)) if error.kind.row().retry => {
                self.open.insert(request.name, mark);
            }
            (_, End::Refused(error)) => {
                bail!("{request:?} was refused: {error:?}");
            }
        }
        Ok(())
    }
}

fn round(bare: &mut Bare, dice: &mut Dice, known: &mut Known, number: usize) -> Result<()> {
    let requests = known.requests(dice, number);
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut running = JoinSet::new();
    {
        let _inside = runtime.enter();
        let clients: Vec<Guest> = VMS.iter().map(|vm| bare.guest(vm)).collect();
        // In turn: a VM may have 32 requests under way.
        for (request, client) in requests.into_iter().zip(clients.iter().cycle()) {
            running.spawn_on(request.run(client.clone()), runtime.handle());
        }
    }
    for _ in 0..DEATHS {
        // Any moment will do.
        let pause = u64::try_from(dice.between(10, 1200))?;
        thread::sleep(Duration::from_millis(pause));
        bare.kill_agent()?;
        bare.start_agent()?;
    }
    runtime.block_on(async {
        while let Some(done) = running.join_next().await {
            let (request, end) = done?;
            known.learn(request, end)?;
        }
        Ok(())
    })
}

#[test]
fn sixty_four_at_once_and_kill_nine_leave_books_and_disks_in_agreement() -> Result<()> {
    let rounds = env::var("VDVS_STRESS_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(ROUNDS);
    let mut dice = Dice::new(seed("stress"));
    let Some(mut bare) = Bare::lab(&DATASTORES, &VMS)? else {
        return Ok(());
    };
    let mut known = Known::default();
    for number in 0..rounds {
        round(&mut bare, &mut dice, &mut known, number)
            .with_context(|| format!("round {number}"))?;
        mark(&bare, &mut known, &mut dice)?;
    }
    eprintln!(
        "figure: stress: {rounds} rounds of {REQUESTS} with {DEATHS} kills: {:?}",
        known.tally
    );
    let mut books = Books::default();
    let mut wrong = String::new();
    let settled = until_true(SETTLE, "everything half-done is settled", || {
        let (now, disagreement) = books::read(&bare, &DATASTORES)?;
        books = now;
        wrong = disagreement.join("\n");
        Ok(wrong.is_empty())
    });
    settled.with_context(|| wrong)?;
    for (name, mark) in &known.there {
        let held = books
            .mark(name)?
            .with_context(|| format!("{name} is lost"))?;
        ensure!(
            mark.is_none_or(|mark| held == mark),
            "{name} holds {held}, not {mark:?}"
        );
    }
    for name in books.names() {
        let heard = known.there.contains_key(&name) || known.open.contains_key(&name);
        ensure!(heard, "{name} was deleted or refused, and is there");
    }
    ensure!(
        known.there.len() > REQUESTS / 8,
        "hardly anything succeeded: {:?}",
        known.tally
    );
    // A new agent with 64 callers at its door finds the places taken by what the dead one left.
    bare.assert_quiet_but(&["labhv does not listen", "more than 64 connections"])
}

/// Writes a number to the disk of each volume that has none yet.
fn mark(bare: &Bare, known: &mut Known, dice: &mut Dice) -> Result<()> {
    let (books, _) = books::read(bare, &DATASTORES)?;
    for (name, mark) in known.there.iter_mut().filter(|(_, mark)| mark.is_none()) {
        let number = dice.next() | 1;
        books.set_mark(name, number)?;
        *mark = Some(number);
    }
    Ok(())
}
