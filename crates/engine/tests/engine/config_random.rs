//! Three hosts change one configuration at once, against a model: agents that die at any call, hosts that lose the
//! home, are away for a week, forget their store.
//!
//! What is checked: each acknowledged change stands in the history exactly once, one of which nobody
//! knows at most once, and one that was refused never; every host
//! tells the same history; played through in its order it makes sense at every step and ends in what is in force; and
//! nobody who was locked out is let in by any host at any moment.
//!
//! CI runs [`CHANGES`]; `VDVS_CONFIG_CHANGES=10000` runs as many.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::env;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::sleep;
use vdvs_domain::access::UpdateGroup;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{Error, HostId, VmId, VmRef};
use vdvs_engine::Engine;
use vdvs_engine::api::{Caller, GroupChange, Settings};
use vdvs_engine::ports::DatastoreKind;
use vdvs_host_sim::{Fault, Session, When, World};

use crate::config::{DAY, configure, group, init, new_group, rm_group};
use crate::support::{call, ds, given, rand_request, volume};

const CHANGES: u64 = 900;
const HOSTS: usize = 3;
/// The change before the random ones.
const FIRST: &str = "vmgroup rm _DEFAULT";

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % n
    }
}

/// What all hosts told.
#[derive(Default)]
struct Seen {
    log: BTreeMap<u64, (String, String)>,
    acknowledged: HashMap<String, usize>,
    /// Whether it was made is not known.
    open: HashMap<String, usize>,
    died: usize,
}

struct Node<'a> {
    world: &'a World,
    seen: &'a RefCell<Seen>,
    number: usize,
    host: HostId,
    outsider: VmId,
    session: Arc<Session>,
    engine: Arc<Engine>,
    rng: Rng,
    own: Vec<String>,
    made: u64,
}

fn engine_of(session: &Arc<Session>) -> Arc<Engine> {
    Engine::new(session.ports(), Settings::default())
}

impl Node<'_> {
    fn start(&mut self) {
        self.session.crash();
        self.session = self.world.session(self.host);
        self.engine = engine_of(&self.session);
    }

    /// A change, and the words it leaves in the history.
    fn next(&mut self) -> (GroupChange, String) {
        let contended = format!("all-{}", self.rng.below(3));
        let at = |rng: &mut Rng, own: &Vec<String>| {
            let len = u64::try_from(own.len()).unwrap();
            usize::try_from(rng.below(len)).unwrap()
        };
        self.made += 1;
        let fresh = format!("h{}-{}", self.number, self.made);
        let create = |name: &str| {
            let what = format!("vmgroup create {name}, default datastore _VM_DS");
            (new_group(name), what)
        };
        let remove = |name: &str| (rm_group(name), format!("vmgroup rm {name}"));
        match self.rng.below(10) {
            0 => create(&contended),
            1 => remove(&contended),
            2..6 if self.own.len() > 4 => {
                let at = at(&mut self.rng, &self.own);
                remove(&self.own.swap_remove(at))
            }
            6..8 if !self.own.is_empty() => {
                let at = at(&mut self.rng, &self.own);
                let old = mem::replace(&mut self.own[at], fresh.clone());
                let what = format!("vmgroup update {old}, new name {fresh}");
                let update = GroupChange::Update(UpdateGroup {
                    name: old,
                    new_name: Some(fresh),
                    ..UpdateGroup::default()
                });
                (update, what)
            }
            _ => {
                self.own.push(fresh.clone());
                create(&fresh)
            }
        }
    }

    fn trouble(&mut self) {
        let later = self.rng.below(40);
        let when = [When::Before, When::Half, When::After];
        let when = when[usize::try_from(self.rng.below(3)).unwrap()];
        match self.rng.below(15) {
            0 => self.session.plan(later, Fault::Crash(when)),
            1 => self.session.plan(later, Fault::NoAnswer(when)),
            2 => self.session.plan(later, Fault::Fail),
            3 => self
                .session
                .plan(later, Fault::Slow(Duration::from_secs(3))),
            _ => {}
        }
    }

    /// The home is not there, the store is forgotten, the host is away.
    async fn absence(&mut self) {
        let home = ds("home");
        match self.rng.below(300) {
            0..3 => {
                self.world.reach(self.host, &home, false);
                for _ in 0..5 {
                    self.probe().await;
                    sleep(Duration::from_secs(7)).await;
                }
            }
            3 => {
                self.world.forget_store(self.host);
                self.world.reach(self.host, &home, false);
                self.start();
                self.probe().await;
            }
            4 => {
                self.session.crash();
                sleep(7 * DAY).await;
                self.world.reach(self.host, &home, false);
                self.start();
                self.probe().await;
            }
            _ => return,
        }
        self.world.reach(self.host, &home, true);
        self.probe().await;
    }

    /// Who is locked out is not let in.
    async fn probe(&mut self) {
        let caller = Caller {
            vm: VmRef {
                id: self.outsider.clone(),
                name: "outsider".to_owned(),
            },
            home: Some(ds("data")),
        };
        for name in ["x", "x@data", "x@home"] {
            let (call, name, options) = (call(rand_request()), volume(name), given(&[]));
            let opened = tokio::select! {
                made = self.engine.create(&caller, &call, &name, &options) => made.is_ok(),
                () = self.session.died() => false,
            };
            assert!(!opened, "{name} was made on host {}", self.number);
        }
        if self.session.is_dead() {
            self.start();
        }
    }

    async fn one(&mut self) {
        self.trouble();
        let (change, what) = self.next();
        let done = tokio::select! {
            done = group(&self.engine, change) => Some(done),
            () = self.session.died() => None,
        };
        match done {
            Some(Ok(())) => {
                *self.seen.borrow_mut().acknowledged.entry(what).or_default() += 1;
            }
            Some(Err(Error::Config(ConfigFault::Unsettled { .. }))) => {
                *self.seen.borrow_mut().open.entry(what).or_default() += 1;
            }
            // It says that nothing was changed.
            Some(Err(_)) => {}
            None => {
                *self.seen.borrow_mut().open.entry(what).or_default() += 1;
                self.seen.borrow_mut().died += 1;
                self.start();
            }
        }
        self.read_history().await;
    }

    async fn read_history(&mut self) {
        let told = tokio::select! {
            told = self.engine.config_history() => told.unwrap_or_default(),
            () = self.session.died() => Vec::new(),
        };
        if self.session.is_dead() {
            self.start();
        }
        let mut seen = self.seen.borrow_mut();
        for change in told {
            let entry = (change.what, change.host);
            let known = seen
                .log
                .entry(change.version)
                .or_insert_with(|| entry.clone());
            assert_eq!(*known, entry, "hosts tell different histories");
        }
    }

    async fn run(&mut self, changes: u64) {
        for _ in 0..changes {
            self.absence().await;
            self.one().await;
            if self.rng.below(10) == 0 {
                self.probe().await;
            }
        }
    }
}

/// The names that are there after the history, played through.
fn played(log: &BTreeMap<u64, (String, String)>) -> BTreeSet<String> {
    let mut names = BTreeSet::from(["_DEFAULT".to_owned()]);
    for (version, (what, _)) in log {
        let words: Vec<&str> = what.split(' ').collect();
        match words.as_slice() {
            ["vmgroup", "create", name, ..] => {
                let new = names.insert(name.trim_end_matches(',').to_owned());
                assert!(new, "{version}: {what}, which was there");
            }
            ["vmgroup", "rm", name] => {
                assert!(
                    names.remove(*name),
                    "{version}: {what}, which was not there"
                );
            }
            ["vmgroup", "update", old, "new", "name", new] => {
                let old = old.trim_end_matches(',');
                assert!(names.remove(old), "{version}: {what}, which was not there");
                assert!(names.insert((*new).to_owned()), "{version}: {what}");
            }
            _ => {}
        }
    }
    names
}

async fn names_in_force(engine: &Engine) -> BTreeSet<String> {
    let backup = engine.config_backup().await.unwrap();
    let backup: Value = serde_json::from_str(&backup).unwrap();
    let groups = backup["access"]["groups"].as_array().unwrap();
    let names = groups
        .iter()
        .map(|g| g["name"].as_str().unwrap().to_owned());
    names.collect()
}

async fn three_hosts(seed: u64, changes: u64) -> usize {
    let world = World::new();
    for name in ["home", "data"] {
        world.add_datastore(&ds(name), DatastoreKind::Vmfs);
    }
    let seen = RefCell::new(Seen::default());
    let mut nodes: Vec<Node<'_>> = (0..HOSTS)
        .map(|number| {
            let host = world.add_host(&format!("esx0{number}"));
            let session = world.session(host);
            Node {
                world: &world,
                seen: &seen,
                number,
                host,
                outsider: world.add_vm(host, &format!("outsider{number}"), &ds("data")),
                engine: engine_of(&session),
                session,
                rng: Rng(seed * 31 + u64::try_from(number).unwrap() + 1),
                own: Vec::new(),
                made: 0,
            }
        })
        .collect();
    let first = Arc::clone(&nodes[0].engine);
    configure(&first, &init("home", false)).await.unwrap();
    configure(&first, &init("data", false)).await.unwrap();
    group(&first, rm_group("_DEFAULT")).await.unwrap();
    nodes[0].read_history().await;
    sleep(Duration::from_secs(2)).await;
    let each = changes / u64::try_from(HOSTS).unwrap();
    join_all(nodes.iter_mut().map(|node| node.run(each))).await;
    sleep(Duration::from_secs(2)).await;
    for node in &mut nodes {
        node.start();
        node.read_history().await;
    }
    let expected = played(&seen.borrow().log);
    for node in &nodes {
        assert_eq!(
            names_in_force(&node.engine).await,
            expected,
            "host {}",
            node.number
        );
    }
    let seen = seen.into_inner();
    let mut logged: HashMap<&str, usize> = HashMap::new();
    for (what, _) in seen.log.values() {
        *logged.entry(what).or_default() += 1;
    }
    for (what, acknowledged) in &seen.acknowledged {
        let logged = logged.get(what.as_str()).copied().unwrap_or(0);
        assert!(
            logged >= *acknowledged,
            "{what}: acknowledged {acknowledged}, {logged} in the history"
        );
    }
    for (what, logged) in logged {
        let acknowledged = seen.acknowledged.get(what).copied().unwrap_or(0);
        let open = seen.open.get(what).copied().unwrap_or(0);
        assert!(
            !what.starts_with("vmgroup ") || logged <= acknowledged + open || what == FIRST,
            "{what}: {logged} in the history, acknowledged {acknowledged}, not known of {open}"
        );
    }
    let acknowledged: usize = seen.acknowledged.values().sum();
    assert!(seen.died > 0, "seed {seed}: no agent died");
    acknowledged
}

#[tokio::test(start_paused = true)]
async fn three_hosts_change_one_configuration_at_random_and_no_acknowledged_change_is_lost() {
    let changes = env::var("VDVS_CONFIG_CHANGES").ok();
    let changes = changes.map_or(CHANGES, |n| n.parse().expect("a number of changes"));
    let rounds = changes.div_ceil(CHANGES);
    let mut acknowledged = 0;
    for seed in 1..=rounds {
        acknowledged += three_hosts(seed, changes / rounds).await;
    }
    let least = usize::try_from(changes / 2).unwrap();
    assert!(acknowledged > least, "only {acknowledged} of {changes}");
}
