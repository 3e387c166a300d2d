//! Many at once: 64 requests to create, clone and delete, while the agent dies again and again at calls of chance and
//! some callers repeat what they asked. In the end records, ledger, disks and claims agree, what was acknowledged is so,
//! and every clone holds what its source held.
//!
//! Each round is a world of its own that follows from its seed. `VDVS_STRESS_ROUNDS` is another number of rounds,
//! `VDVS_SEED` another first seed; a round that fails names its own, which alone repeats it:
//! `VDVS_SEED=<seed> VDVS_STRESS_ROUNDS=1 cargo nextest run -p vdvs-engine stress`.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::advance;
use uuid::Uuid;
use vdvs_domain::{Error, ErrorKind};
use vdvs_engine::Engine;
use vdvs_engine::api::Caller;
use vdvs_host_sim::{Fault, When};

use crate::consistency::check;
use crate::support::{Lab, call, disk, given, volume};

/// Rounds of an ordinary run; a thousand on request.
const ROUNDS: u64 = 25;
/// Requests under way at once.
const REQUESTS: usize = 64;
/// Volumes that are there before, some of which are cloned and some deleted.
const BEFORE: usize = 24;
/// Deaths of the agent in a round.
const DEATHS: usize = 3;

/// Chance that follows from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verb {
    Create,
    Clone { source: String },
    Delete,
}

/// One request, always with the same id.
#[derive(Debug, Clone)]
struct Request {
    id: u128,
    vm: usize,
    verb: Verb,
    name: String,
}

impl Request {
    async fn run(self, engine: Arc<Engine>, caller: Caller) -> (Self, Result<(), Error>) {
        let (call, name) = (call(self.id), volume(&self.name));
        let done = match &self.verb {
            Verb::Create => engine
                .create(&caller, &call, &name, &given(&[("size", "64mb")]))
                .await
                .map(drop),
            Verb::Clone { source } => engine
                .create(&caller, &call, &name, &given(&[("clone-from", source)]))
                .await
                .map(drop),
            Verb::Delete => engine.delete(&caller, &call, &name, None).await.map(drop),
        };
        (self, done)
    }
}

/// A round's world, and what its callers know of it.
struct Round {
    lab: Lab,
    dice: Dice,
    /// What each volume held from the beginning.
    contents: BTreeMap<String, u64>,
    /// The answers; of a refusal its reason.
    answers: Vec<(Request, Option<Error>)>,
    /// Old volumes that some request is to delete; one without an answer may have been obeyed.
    doomed: usize,
}

impl Round {
    async fn new(seed: u64) -> Self {
        let lab = Lab::new();
        let mut contents = BTreeMap::new();
        for number in 0..BEFORE {
            let name = format!("old{number}");
            let view = lab.create(1, &name).await;
            let content = 1000 + u64::try_from(number).unwrap();
            lab.world.write_disk(&disk(&view), content);
            contents.insert(name, content);
        }
        Self {
            lab,
            dice: Dice(seed),
            contents,
            answers: Vec::new(),
            doomed: 0,
        }
    }

    /// 64 requests. Of each volume's name there is one that changes it, so that its answer says what must be; for some
    /// there are more, which get in each other's way.
    fn requests(&mut self) -> Vec<Request> {
        let mut requests: Vec<Request> = Vec::new();
        for number in 0..REQUESTS {
            let id = u128::from(self.dice.next()) << 16 | u128::try_from(number).unwrap();
            // Fewer than the requests one VM may have under way.
            let vm = 1 + number % 3;
            let (verb, name) = match self.dice.below(8) {
                0..=2 => (Verb::Create, format!("new{number}")),
                3 | 4 => {
                    let source = format!("old{}", self.dice.below(BEFORE));
                    (Verb::Clone { source }, format!("copy{number}"))
                }
                5 | 6 if self.doomed < BEFORE / 2 => {
                    self.doomed += 1;
                    (Verb::Delete, format!("old{}", self.doomed - 1))
                }
                _ => {
                    let verb = [Verb::Create, Verb::Delete][self.dice.below(2)].clone();
                    (verb, format!("fought{}", self.dice.below(4)))
                }
            };
            requests.push(Request { id, vm, verb, name });
        }
        requests
    }

    /// Sends requests at once; those without an answer when the agent died come back.
    async fn send(&mut self, requests: Vec<Request>) -> Vec<Request> {
        let mut running = JoinSet::new();
        for request in &requests {
            let caller = self.lab.caller(request.vm);
            running.spawn(request.clone().run(Arc::clone(&self.lab.engine), caller));
        }
        loop {
            tokio::select! {
                biased;
                done = running.join_next() => match done {
                    Some(done) => {
                        let (request, result) = done.unwrap();
                        self.answers.push((request, result.err()));
                    }
                    None => break,
                },
                () = self.lab.session.died() => break,
            }
        }
        running.abort_all();
        let answered = |r: &Request| self.answers.iter().any(|(a, _)| a.id == r.id);
        requests.into_iter().filter(|r| !answered(r)).collect()
    }

    async fn play(&mut self) {
        let mut waiting = self.requests();
        for _ in 0..DEATHS {
            let when = [When::Before, When::Half, When::After][self.dice.below(3)];
            let later = u64::try_from(self.dice.below(5000)).unwrap();
            self.lab.session.plan(later, Fault::Crash(when));
            let unanswered = self.send(waiting).await;
            self.lab.restart();
            if self.dice.below(2) == 0 {
                self.lab.engine.sweep().await;
            }
            // Some callers died with their node.
            waiting = unanswered
                .into_iter()
                .filter(|_| self.dice.below(4) > 0)
                .collect();
        }
        let unanswered = self.send(waiting).await;
        assert_eq!(unanswered.len(), 0, "a request was never answered");
    }

    /// Everything that was left half-way is finished or undone.
    async fn settle(&mut self) {
        self.lab.restart();
        for _ in 0..3 {
            self.lab.engine.sweep().await;
            advance(Duration::from_secs(200)).await;
        }
    }

    async fn judge(&self, text: &str) {
        let volumes = check(&self.lab, text).await;
        let view = |name: &str| volumes.iter().find(|v| v.name.as_str() == name);
        let holds = |name: &str| self.lab.world.read_disk(&disk(view(name)?));
        for (request, refused) in &self.answers {
            let name = request.name.as_str();
            if name.starts_with("fought") {
                continue;
            }
            if let Some(error) = refused {
                self.may_be_refused(request, error, text);
                continue;
            }
            match &request.verb {
                Verb::Create => assert!(view(name).is_some(), "{text}: {name} was created"),
                Verb::Delete => assert!(view(name).is_none(), "{text}: {name} was deleted"),
                Verb::Clone { source } => {
                    let content = self.contents.get(source).copied();
                    assert_eq!(holds(name), content, "{text}: {name} is a copy of {source}");
                }
            }
        }
        for number in self.doomed..BEFORE {
            let name = format!("old{number}");
            let content = self.contents.get(&name).copied();
            assert_eq!(holds(&name), content, "{text}: {name} was there before");
        }
        // Also what nobody was told of is whole: a clone is its source or it is not there.
        for copy in volumes
            .iter()
            .filter(|v| v.name.as_str().starts_with("copy"))
        {
            let content = self.lab.world.read_disk(&disk(copy));
            assert!(
                content.is_some_and(|c| self.contents.values().any(|known| *known == c)),
                "{text}: {} holds {content:?}",
                copy.name
            );
        }
    }

    /// A new volume nobody else wants cannot be refused, whoever died meanwhile. A source may be in use, and gone if
    /// somebody was to delete it.
    fn may_be_refused(&self, request: &Request, error: &Error, text: &str) {
        let doomed = |name: &str| (0..self.doomed).any(|number| name == format!("old{number}"));
        let right = match (&request.verb, error.kind()) {
            (Verb::Create, _) => false,
            (Verb::Clone { source }, ErrorKind::InvalidArgument | ErrorKind::NotFound) => {
                doomed(source)
            }
            (Verb::Delete, ErrorKind::NotFound) => true,
            (_, ErrorKind::InUse | ErrorKind::Unavailable) => true,
            _ => false,
        };
        assert!(right, "{text}: {request:?} was refused: {error}");
    }
}

async fn round(seed: u64, kinds: &mut BTreeMap<String, usize>) {
    let mut round = Round::new(seed).await;
    round.play().await;
    round.settle().await;
    round.judge(&format!("stress with VDVS_SEED={seed}")).await;
    for (request, refused) in &round.answers {
        let verb = match request.verb {
            Verb::Create => "create",
            Verb::Clone { .. } => "clone",
            Verb::Delete => "delete",
        };
        let fought = if request.name.starts_with("fought") {
            " (fought over)"
        } else {
            ""
        };
        let how = refused
            .as_ref()
            .map_or("done".to_owned(), |error| error.kind().to_string());
        *kinds.entry(format!("{verb}{fought} {how}")).or_default() += 1;
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

#[test]
fn sixty_four_at_once_and_an_agent_that_dies_again_and_again_leave_nothing_half_done() {
    let first = number("VDVS_SEED").unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 16);
    let rounds = number("VDVS_STRESS_ROUNDS").unwrap_or(ROUNDS);
    eprintln!("stress: {rounds} rounds from VDVS_SEED={first}");
    let mut kinds = BTreeMap::new();
    for seed in first..first + rounds {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(round(seed, &mut kinds));
    }
    eprintln!("stress: {rounds} rounds: {kinds:?}");
    for verb in ["create done", "clone done", "delete done"] {
        // A single round may be an unlucky one.
        assert!(
            rounds < 10 || kinds.contains_key(verb),
            "no {verb}: {kinds:?}"
        );
    }
}
