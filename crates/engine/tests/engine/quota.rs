//! The total of a vmgroup: exact to the byte, on three hosts, whoever dies; and never a refusal while there is room.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout, timeout_at};
use uuid::Uuid;
use vdvs_domain::access::{AccessConfig, DatastoreScope, Group, Member, Members, Privilege};
use vdvs_domain::{
    Capacity, DatastoreName, Error, ErrorKind, GroupId, GroupName, HostId, VmId, VmRef,
};
use vdvs_engine::Engine;
use vdvs_engine::api::{Caller, Outcome, Settings, VolumeView};
use vdvs_engine::ports::DatastoreKind;
use vdvs_host_sim::{Fault, Session, When, World};

use crate::adoption::plant_on;
use crate::support::{call, ds, given, rand_request, volume};

const MIB: u64 = 1 << 20;
/// Size of one volume here.
pub(crate) const SIZE: u64 = 64 * MIB;
const HOSTS: usize = 3;
const VMS_EACH: usize = 2;
/// Until a change of the configuration is followed everywhere, with room to spare.
const FOLLOWED: Duration = Duration::from_secs(3);

/// A whole file of ours with this content.
fn framed(kind: &str, value: &Value) -> Vec<u8> {
    let body = value.to_string();
    let crc = crc32fast::hash(body.as_bytes());
    format!("vdvs {kind} 1 {} {crc:08x}\n{body}", body.len()).into_bytes()
}

/// Chance that follows from a seed (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(u64::try_from(bound).unwrap())).unwrap()
    }
}

pub(crate) struct Agent {
    host: HostId,
    pub(crate) session: Arc<Session>,
    engine: Arc<Engine>,
    vms: Vec<VmId>,
}

/// Three hosts over the same datastores, two VMs on each, all in one vmgroup.
pub(crate) struct Three {
    world: World,
    pub(crate) agents: Vec<Agent>,
}

impl Three {
    /// The first volume of each datastore exists, so that it has a configuration.
    pub(crate) async fn new(datastores: &[&str]) -> Self {
        let world = World::new();
        for name in datastores {
            world.add_datastore(&ds(name), DatastoreKind::Vmfs);
        }
        let mut agents = Vec::new();
        for number in 1..=HOSTS {
            let host = world.add_host(&format!("esx{number:02}"));
            let home = ds(datastores[0]);
            let vms = (1..=VMS_EACH).map(|n| world.add_vm(host, &format!("vm{number}{n}"), &home));
            let vms = vms.collect();
            let session = world.session(host);
            let engine = Engine::new(session.ports(), Settings::default());
            agents.push(Agent {
                host,
                session,
                engine,
                vms,
            });
        }
        let three = Self { world, agents };
        for name in datastores {
            let first = format!("first@{name}");
            three.create(0, &first, "64mb").await.unwrap();
        }
        three
    }

    /// The agent of a host dies and another one starts.
    fn restart(&mut self, host: usize) {
        let agent = &mut self.agents[host];
        agent.session.crash();
        agent.session = self.world.session(agent.host);
        agent.engine = Engine::new(agent.session.ports(), Settings::default());
    }

    /// VM `n` of all six.
    fn caller(&self, n: usize) -> Caller {
        let agent = &self.agents[n % HOSTS];
        Caller {
            vm: VmRef {
                id: agent.vms[n / HOSTS % VMS_EACH].clone(),
                name: format!("vm{n}"),
            },
            home: Some(ds("ds")),
        }
    }

    pub(crate) fn engine(&self, n: usize) -> Arc<Engine> {
        Arc::clone(&self.agents[n % HOSTS].engine)
    }

    pub(crate) async fn create(
        &self,
        n: usize,
        name: &str,
        size: &str,
    ) -> Result<VolumeView, Error> {
        let (caller, call) = (self.caller(n), call(rand_request()));
        let options = given(&[("size", size)]);
        let made = self.engine(n);
        let made = made.create(&caller, &call, &volume(name), &options).await;
        made.map(Outcome::into_inner)
    }

    pub(crate) async fn delete(&self, n: usize, name: &str) {
        let (caller, call) = (self.caller(n), call(rand_request()));
        let deleted = self
            .engine(n)
            .delete(&caller, &call, &volume(name), None)
            .await;
        deleted.unwrap();
    }

    /// Writes the next version of every configuration there is.
    async fn configure(&self, datastores: &[&str], access: &AccessConfig) {
        for name in datastores {
            let files = self.world.files(&ds(name));
            let slot = |f: &String| {
                f.strip_prefix("dockvols/.vdvs/config.")?
                    .parse::<u64>()
                    .ok()
            };
            let newest = files.iter().filter_map(slot).max().unwrap();
            let path = |seq: u64| format!("dockvols/.vdvs/config.{seq}");
            let mut document = self.json(&ds(name), &path(newest)).unwrap();
            document["access"] = serde_json::to_value(access).unwrap();
            document["version"] = json!(document["version"].as_u64().unwrap_or(0) + 1);
            let bytes = framed("config", &document);
            self.world.put_file(&ds(name), &path(newest + 1), &bytes);
        }
        advance(FOLLOWED).await;
    }

    pub(crate) async fn limit(&self, datastores: &[&str], total: Option<u64>) {
        let mut access = AccessConfig::open_to_all();
        for privilege in &mut access.groups[0].privileges {
            privilege.total_bytes = total;
        }
        self.configure(datastores, &access).await;
    }

    fn json(&self, ds: &DatastoreName, path: &str) -> Option<Value> {
        let bytes = self.world.file(ds, path)?;
        let text = String::from_utf8(bytes).ok()?;
        serde_json::from_str(text.split_once('\n')?.1).ok()
    }

    /// The ledger of a vmgroup: bytes by volume.
    fn ledger(&self, name: &str, group: GroupId) -> BTreeMap<String, u64> {
        let stem = format!("dockvols/.vdvs/ledger.{group}.");
        let files = self.world.files(&ds(name));
        let slot = |f: &String| f.strip_prefix(&stem)?.parse::<u64>().ok();
        let mut slots: Vec<u64> = files.iter().filter_map(slot).collect();
        slots.sort_unstable();
        let read = |seq: &u64| self.json(&ds(name), &format!("{stem}{seq}"));
        let newest = slots.iter().rev().find_map(read).unwrap_or_default();
        let entries = newest["entries"].as_object().cloned().unwrap_or_default();
        let bytes = |(id, bytes): (String, Value)| (id, bytes.as_u64().unwrap());
        entries.into_iter().map(bytes).collect()
    }

    pub(crate) fn used(&self, name: &str) -> u64 {
        self.ledger(name, GroupId::DEFAULT).values().sum()
    }

    /// Volumes that exist, by id with their bytes, and no operation is left.
    async fn present(&self, name: &str) -> BTreeMap<String, u64> {
        let listing = self.agents[0].engine.admin_volumes().await.unwrap();
        let here = listing.volumes.into_iter();
        let here = here.filter(|v| v.view.datastore == ds(name));
        here.map(|v| {
            assert_eq!(v.operation, None, "{} is unfinished", v.view.name);
            (v.view.id.to_string(), v.view.capacity.bytes())
        })
        .collect()
    }

    /// Everything that was left half-way is finished or undone.
    async fn settle(&mut self) {
        for host in 0..HOSTS {
            self.restart(host);
        }
        for _ in 0..3 {
            for agent in &self.agents {
                agent.engine.sweep().await;
            }
            advance(Duration::from_secs(200)).await;
        }
    }

    /// Ledger and volumes agree, byte for byte; and disks are there for just these.
    pub(crate) async fn judge(&self, datastores: &[&str], text: &str) {
        for name in datastores {
            let present = self.present(name).await;
            let ledger = self.ledger(name, GroupId::DEFAULT);
            assert_eq!(ledger, present, "{text}: ledger of {name}");
            let files = self.world.files(&ds(name));
            let disks = files.iter().filter(|f| f.ends_with("-flat.vmdk")).count();
            assert_eq!(disks, present.len(), "{text}: disks on {name}: {files:?}");
        }
    }
}

fn is_full(result: &Result<VolumeView, Error>) -> bool {
    matches!(result, Err(e) if e.kind() == ErrorKind::QuotaExceeded)
}

fn seed(name: &str) -> u64 {
    let given = env::var("VDVS_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0 >> 16);
    eprintln!("{name}: VDVS_SEED={seed}");
    seed
}

/// 64 creators on three hosts, of whom the total has room for `fits`; some calls of all hosts are slow, some fail.
async fn sixty_four(seed: u64, fits: u64, failing: bool) {
    let text = format!("64 creators, room for {fits}, VDVS_SEED={seed}");
    let mut three = Three::new(&["ds"]).await;
    let mut dice = Dice(seed);
    // Of the first volume; and a byte less than one more would take.
    let total = SIZE + fits * SIZE + (SIZE - 1);
    three.limit(&["ds"], Some(total)).await;
    for agent in &three.agents {
        // A host whose look at the configuration fails goes by its last: each has seen the limit once.
        agent.engine.admin_volumes().await.unwrap();
        for _ in 0..100 {
            let (at, slow) = (dice.below(3000), Duration::from_millis(dice.below(40)));
            agent.session.plan(at, Fault::Slow(slow));
        }
        for _ in 0..if failing { 6 } else { 0 } {
            agent.session.plan(dice.below(2000), Fault::Fail);
        }
    }
    let mut creators = JoinSet::new();
    for n in 0..64 {
        let (engine, caller) = (three.engine(n), three.caller(n));
        let begin = Duration::from_millis(dice.below(30));
        creators.spawn(async move {
            sleep(begin).await;
            let (name, options) = (volume(&format!("v{n}")), given(&[("size", "64mb")]));
            let call = call(rand_request());
            let made = engine.create(&caller, &call, &name, &options);
            made.await.map(Outcome::into_inner)
        });
    }
    let mut results = Vec::new();
    while !creators.is_empty() {
        // Whatever is written meanwhile: never a byte too much.
        assert!(three.used("ds") <= total, "{text}");
        if let Ok(Some(done)) = timeout(Duration::from_millis(1), creators.join_next()).await {
            results.push(done.unwrap());
        }
    }
    let made = u64::try_from(results.iter().filter(|r| r.is_ok()).count()).unwrap();
    let full = results.iter().filter(|r| is_full(r)).count();
    if !failing {
        assert_eq!(made, fits, "{text}: {results:?}");
        assert_eq!(full, 64 - usize::try_from(fits).unwrap(), "{text}");
    }
    // Who was told that the datastore failed may have got its volume all the same.
    let session = three.world.session(three.agents[0].host);
    let looker = Engine::new(session.ports(), Settings::default());
    let listing = looker.admin_volumes().await.unwrap();
    let whole = listing.volumes.iter().filter(|v| v.operation.is_none());
    let there = u64::try_from(whole.count()).unwrap() - 1;
    assert!(made <= there && there <= fits, "{text}: {there} are there");
    // Whoever was refused was refused because all room was taken, not because somebody tried and failed.
    assert!(
        full == 0 || there == fits,
        "{text}: {there} made, {full} refused"
    );
    three.settle().await;
    three.judge(&["ds"], &text).await;
    assert!(three.used("ds") <= total, "{text}");
}

fn paused(test: impl Future<Output = ()>) {
    let builder = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    builder.unwrap().block_on(test);
}

#[test]
fn sixty_four_creators_on_three_hosts_fill_the_total_exactly() {
    let first = seed("quota");
    for (seed, fits) in (first..).zip([1, 7, 20, 40, 63]) {
        paused(sixty_four(seed, fits, false));
    }
}

#[test]
fn creators_who_fail_keep_nobody_out() {
    let first = seed("quota");
    for (seed, fits) in (first..).zip([3, 20, 20, 50]) {
        paused(sixty_four(seed, fits, true));
    }
}

/// Runs that once went wrong: a change of the ledger that was written too late, and room of a volume whose record went
/// while it was looked for.
#[test]
fn creators_who_failed_once_keep_nobody_out_and_exceed_nothing() {
    for (seed, fits) in [(213_982_367_869_782, 20), (245_190_894_002_129, 50)] {
        paused(sixty_four(seed, fits, true));
    }
}

/// One step of the long run.
async fn step(three: &mut Three, dice: &mut Dice, requests: &mut JoinSet<()>, stores: &[&str]) {
    let n = dice.index(HOSTS * VMS_EACH);
    let store = stores[dice.index(stores.len())];
    let name = |number: u64| volume(&format!("v{number}@{store}"));
    let (engine, caller) = (three.engine(n), three.caller(n));
    let (at, from) = (name(dice.below(40)), name(dice.below(40)));
    match dice.below(20) {
        0..=7 => {
            let size = format!("{}mb", 1 + dice.below(200));
            requests.spawn(async move {
                let (call, options) = (call(rand_request()), given(&[("size", &size)]));
                drop(engine.create(&caller, &call, &at, &options).await);
            });
        }
        8..=10 => drop(requests.spawn(async move {
            let (call, source) = (call(rand_request()), from.to_string());
            let options = given(&[("clone-from", &source)]);
            drop(engine.create(&caller, &call, &at, &options).await);
        })),
        11..=15 => drop(requests.spawn(async move {
            drop(
                engine
                    .delete(&caller, &call(rand_request()), &at, None)
                    .await,
            );
        })),
        16 => {
            let total = (dice.below(4) > 0).then(|| dice.below(3000) * MIB);
            three.limit(stores, total).await;
        }
        17 => {
            let session = &three.agents[n % HOSTS].session;
            let when = [When::Before, When::Half, When::After][dice.index(3)];
            session.plan(dice.below(60), Fault::Crash(when));
        }
        18 => sleep(Duration::from_millis(dice.below(3000))).await,
        _ => {
            let agent = &three.agents[n % HOSTS];
            agent
                .session
                .plan(dice.below(60), Fault::NoAnswer(When::After));
            agent.session.plan(dice.below(60), Fault::Fail);
        }
    }
    sleep(Duration::from_millis(dice.below(20))).await;
    for host in 0..HOSTS {
        if three.agents[host].session.is_dead() {
            three.restart(host);
        }
    }
}

#[test]
fn after_a_thousand_creates_clones_deletes_limits_and_kills_the_ledger_is_what_is_there() {
    let seed = seed("quota");
    let stores = ["ds", "ds2"];
    paused(async move {
        let mut three = Three::new(&stores).await;
        let (mut dice, mut requests) = (Dice(seed), JoinSet::new());
        for _ in 0..1000 {
            step(&mut three, &mut dice, &mut requests, &stores).await;
        }
        let until = Instant::now() + Duration::from_secs(300);
        // Requests of agents that died never end.
        while let Ok(Some(_)) = timeout_at(until, requests.join_next()).await {}
        requests.abort_all();
        three.limit(&stores, None).await;
        three.settle().await;
        three.judge(&stores, &format!("VDVS_SEED={seed}")).await;
    });
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_a_limit_counts_when_the_limit_is_asked_first() {
    let three = Three::new(&["ds"]).await;
    three.create(1, "before", "64mb").await.unwrap();
    // A ledger that never was, as on a datastore of the original.
    let gone = three.world.files(&ds("ds"));
    for file in gone.iter().filter(|f| f.contains("/ledger.")) {
        three.world.put_file(&ds("ds"), file, b"");
    }
    assert_eq!(three.used("ds"), 0);
    three.limit(&["ds"], Some(3 * SIZE)).await;
    let over = three.create(2, "over", "128mb").await;
    assert!(is_full(&over), "{over:?}");
    three.create(0, "fits", "64mb").await.unwrap();
    assert_eq!(three.used("ds"), 3 * SIZE);
    three.judge(&["ds"], "in the end").await;
}

#[tokio::test(start_paused = true)]
async fn volumes_of_the_original_count_before_anybody_uses_them() {
    let three = Three::new(&["ds"]).await;
    plant_on(&three.world, &three.agents[0].session, "old").await;
    // 300 MiB of the original's, 64 of ours.
    three.limit(&["ds"], Some(300 * MIB + 2 * SIZE)).await;
    let over = three.create(1, "over", "65mb").await;
    assert!(is_full(&over), "{over:?}");
    three.create(1, "fits", "64mb").await.unwrap();
    three.delete(2, "old@ds").await;
    three.create(1, "now", "300mb").await.unwrap();
    three.judge(&["ds"], "in the end").await;
}

#[tokio::test(start_paused = true)]
async fn garbage_in_the_ledger_refuses_nobody() {
    let three = Three::new(&["ds"]).await;
    three.limit(&["ds"], Some(2 * SIZE)).await;
    let mut entries = serde_json::Map::new();
    for (id, bytes) in three.ledger("ds", GroupId::DEFAULT) {
        entries.insert(id, json!(bytes));
    }
    entries.insert(Uuid::from_u128(0xdead).to_string(), json!(SIZE));
    let ledger = json!({ "entries": entries, "complete": true });
    let file = format!("dockvols/.vdvs/ledger.{}.99", GroupId::DEFAULT);
    three
        .world
        .put_file(&ds("ds"), &file, &framed("ledger", &ledger));
    assert_eq!(three.used("ds"), 2 * SIZE);
    three.create(2, "fits", "64mb").await.unwrap();
    assert!(is_full(&three.create(0, "over", "1mb").await));
    three.judge(&["ds"], "in the end").await;
}

#[tokio::test(start_paused = true)]
async fn a_create_that_died_keeps_its_room_only_until_somebody_looks() {
    let mut three = Three::new(&["ds"]).await;
    three.limit(&["ds"], Some(2 * SIZE)).await;
    three.world.hold_work(Some(50));
    let (engine, caller) = (three.engine(0), three.caller(0));
    let mut died = JoinSet::new();
    died.spawn(async move {
        let (call, options) = (call(1), given(&[("size", "64mb")]));
        engine
            .create(&caller, &call, &volume("died"), &options)
            .await
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!(three.used("ds"), 2 * SIZE, "it has its room");
    let now = three.create(1, "other", "64mb").await;
    assert!(is_full(&now), "somebody is making it: {now:?}");
    three.agents[0].session.crash();
    died.abort_all();
    three.world.hold_work(None);
    // Another host sees it unchanged for a minute, then it is nobody's.
    assert!(is_full(&three.create(1, "other", "64mb").await));
    advance(Duration::from_secs(70)).await;
    three.create(1, "other", "64mb").await.unwrap();
    three.delete(1, "other").await;
    // The host itself knows at once what it left.
    three.restart(0);
    let session = Arc::clone(&three.agents[0].session);
    session.plan(40, Fault::Crash(When::After));
    let (engine, caller) = (three.engine(0), three.caller(0));
    let mut died = JoinSet::new();
    died.spawn(async move {
        let (call, options) = (call(2), given(&[("size", "64mb")]));
        drop(
            engine
                .create(&caller, &call, &volume("died"), &options)
                .await,
        );
    });
    session.died().await;
    died.abort_all();
    three.restart(0);
    let made = three.create(0, "other", "64mb").await;
    assert!(made.is_ok() || is_full(&made), "{made:?}");
    three.settle().await;
    // Finished where its disk was complete and had its room, else undone.
    assert_eq!(three.present("ds").await.len(), 2, "{made:?}");
    three.judge(&["ds"], "in the end").await;
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_all_datastores_is_one_for_each() {
    let stores = ["ds", "ds2"];
    let three = Three::new(&stores).await;
    let mut access = AccessConfig::open_to_all();
    let privilege = |datastore, mib: u64| Privilege {
        datastore,
        allow_create: true,
        max_volume: None,
        total_bytes: Some(mib * MIB),
    };
    access.groups[0].privileges = vec![
        privilege(DatastoreScope::VmHome, 65),
        privilege(DatastoreScope::All, 66),
    ];
    three.configure(&stores, &access).await;
    for (store, fits, over) in [("ds", "1mb", "2mb"), ("ds2", "2mb", "3mb")] {
        let name = format!("over@{store}");
        assert!(is_full(&three.create(0, &name, over).await), "{store}");
        three.create(0, &name, fits).await.unwrap();
    }
    three.judge(&stores, "in the end").await;
}

#[tokio::test(start_paused = true)]
async fn a_group_that_appears_has_its_own_ledger_and_a_clone_takes_its_sources_size() {
    let three = Three::new(&["ds"]).await;
    let mut access = AccessConfig::open_to_all();
    let id = GroupId::new(Uuid::from_u128(0x9409));
    let vms = &three.agents[1].vms;
    let member = |vm: &VmId| Member {
        uuid: vm.instance_uuid,
        name: "member".to_owned(),
    };
    let mut privilege = access.groups[0].privileges[0].clone();
    privilege.datastore = DatastoreScope::All;
    privilege.total_bytes = Some(2 * 1536 * MIB);
    // Of 1.5 GiB, which the original took for 1 GiB; above the size of a plain create.
    privilege.max_volume = Some(Capacity::parse("1536mb").unwrap());
    access.groups.insert(
        0,
        Group {
            id,
            name: GroupName::new("dev").unwrap(),
            members: Members::Vms(vms.iter().map(member).collect()),
            privileges: vec![privilege],
            ..access.groups[0].clone()
        },
    );
    three.configure(&["ds"], &access).await;
    three.create(1, "source", "1536mb").await.unwrap();
    let clone = async |name: &str| {
        let (caller, call) = (three.caller(1), call(rand_request()));
        let options = given(&[("clone-from", "source")]);
        let made = three.engine(1);
        let made = made.create(&caller, &call, &volume(name), &options).await;
        made.map(Outcome::into_inner)
    };
    clone("copy").await.unwrap();
    assert!(is_full(&clone("over").await));
    assert!(is_full(&three.create(1, "small", "1mb").await));
    let used: u64 = three.ledger("ds", id).values().sum();
    assert_eq!(used, 2 * 1536 * MIB);
    assert_eq!(three.used("ds"), SIZE, "the other vmgroup's");
}
