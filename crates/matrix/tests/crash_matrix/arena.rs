//! Two hosts, their agents and VMs: the world in which operations are struck.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{
    DatastoreName, Epoch, Error, GroupId, HostId, RequestId, VmId, VmRef, VolumeAddress, VolumeId,
};
use vdvs_engine::Engine;
use vdvs_engine::api::{Attached, Call, Caller, LocalUser, Outcome, Settings, VolumeView};
use vdvs_engine::ports::{DatastoreKind, DiskPath, DsPath};
use vdvs_host_sim::{Session, World};

/// The request under test; the same for all its repetitions.
pub(crate) const REQUEST: u128 = 77;
/// What a volume of the preparation holds; others hold 0.
pub(crate) const CONTENT: u64 = 7;
/// Datastores of every arena: two plain ones and a vSAN.
pub(crate) const DATASTORES: [&str; 3] = ["ds", "ds2", "vsan"];

pub(crate) fn ds(name: &str) -> DatastoreName {
    DatastoreName::new(name).unwrap()
}

pub(crate) fn volume(name: &str) -> VolumeAddress {
    VolumeAddress::parse(name).unwrap()
}

pub(crate) fn given(pairs: &[(&str, &str)]) -> GivenOptions {
    let pair = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    GivenOptions::parse(&pairs.iter().map(pair).collect::<BTreeMap<_, _>>()).unwrap()
}

pub(crate) fn call(n: u128) -> Call {
    Call {
        request: RequestId::new(Uuid::from_u128((0xca11 << 64) | n)),
        deadline: Instant::now() + Duration::from_secs(120),
        cancel: CancellationToken::new(),
    }
}

/// The administrator.
pub(crate) fn root() -> LocalUser {
    LocalUser {
        name: "root".to_owned(),
        uid: Some(0),
    }
}

/// One of the two agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Of `esx01`, with `vm1` to `vm3`.
    Near,
    /// Of `esx02`, with `vm4` and `vm5`.
    Far,
}

struct Agent {
    host: HostId,
    session: Arc<Session>,
    engine: Arc<Engine>,
    runs: Option<JoinSet<()>>,
}

impl Agent {
    fn new(world: &World, host: HostId) -> Self {
        let session = world.session(host);
        let engine = Engine::new(session.ports(), Settings::default());
        Self {
            host,
            session,
            engine,
            runs: None,
        }
    }

    fn run(&mut self) {
        if self.runs.is_some() {
            return;
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self.engine).run(CancellationToken::new()));
        self.runs = Some(tasks);
    }
}

pub(crate) struct Arena {
    pub(crate) world: World,
    near: RefCell<Agent>,
    far: RefCell<Agent>,
    vms: Vec<VmId>,
    /// What the preparation was told, for the request under test.
    pub(crate) held: RefCell<BTreeMap<String, Attached>>,
    /// A text the preparation keeps for the request under test.
    pub(crate) kept: RefCell<String>,
}

impl Arena {
    pub(crate) fn new() -> Self {
        let world = World::new();
        world.set_lapse(Duration::from_secs(5));
        for name in DATASTORES {
            let kind = match name {
                "vsan" => DatastoreKind::Vsan,
                _ => DatastoreKind::Vmfs,
            };
            world.add_datastore(&ds(name), kind);
        }
        let (near, far) = (world.add_host("esx01"), world.add_host("esx02"));
        let vms = (1..=5)
            .map(|n| {
                let host = if n <= 3 { near } else { far };
                world.add_vm(host, &format!("vm{n}"), &ds("ds"))
            })
            .collect();
        Self {
            near: RefCell::new(Agent::new(&world, near)),
            far: RefCell::new(Agent::new(&world, far)),
            world,
            vms,
            held: RefCell::default(),
            kept: RefCell::default(),
        }
    }

    fn agent(&self, side: Side) -> &RefCell<Agent> {
        match side {
            Side::Near => &self.near,
            Side::Far => &self.far,
        }
    }

    pub(crate) fn host(&self, side: Side) -> HostId {
        self.agent(side).borrow().host
    }

    pub(crate) fn session(&self, side: Side) -> Arc<Session> {
        Arc::clone(&self.agent(side).borrow().session)
    }

    pub(crate) fn engine(&self, side: Side) -> Arc<Engine> {
        Arc::clone(&self.agent(side).borrow().engine)
    }

    /// The agents' own work begins.
    pub(crate) fn run(&self) {
        for side in [Side::Near, Side::Far] {
            self.agent(side).borrow_mut().run();
        }
    }

    /// An agent dies.
    pub(crate) fn kill(&self, side: Side) {
        let mut agent = self.agent(side).borrow_mut();
        agent.session.crash();
        agent.runs = None;
    }

    /// An agent dies, if it has not, and another one starts.
    pub(crate) fn restart(&self, side: Side) {
        self.renew(side);
        self.agent(side).borrow_mut().run();
    }

    /// An agent ended, and another one is there that has not begun its own work.
    pub(crate) fn renew(&self, side: Side) {
        self.kill(side);
        let mut agent = self.agent(side).borrow_mut();
        *agent = Agent::new(&self.world, agent.host);
    }

    /// VM `n`, counted from 1.
    pub(crate) fn vm(&self, n: usize) -> &VmId {
        &self.vms[n - 1]
    }

    pub(crate) fn vms(&self) -> &[VmId] {
        &self.vms
    }

    pub(crate) fn caller(&self, n: usize) -> Caller {
        Caller {
            vm: VmRef {
                id: self.vm(n).clone(),
                name: format!("vm{n}"),
            },
            home: Some(ds("ds")),
        }
    }

    /// The agent of the host that VM `n` was made on.
    pub(crate) fn engine_of(&self, n: usize) -> Arc<Engine> {
        self.engine(if n <= 3 { Side::Near } else { Side::Far })
    }

    pub(crate) async fn try_create(
        &self,
        vm: usize,
        n: u128,
        name: &str,
        options: &[(&str, &str)],
    ) -> Result<Outcome<VolumeView>, Error> {
        let (caller, call, address) = (self.caller(vm), call(n), volume(name));
        let engine = self.engine_of(vm);
        engine
            .create(&caller, &call, &address, &given(options))
            .await
    }

    /// A volume that holds something.
    pub(crate) async fn create(
        &self,
        vm: usize,
        name: &str,
        options: &[(&str, &str)],
    ) -> VolumeView {
        let made = self.try_create(vm, fresh(), name, options).await;
        let made = made.unwrap().into_inner();
        self.world.write_disk(&disk(&made), CONTENT);
        made
    }

    pub(crate) async fn try_attach(
        &self,
        vm: usize,
        n: u128,
        name: &str,
        wait: Duration,
    ) -> Result<Attached, Error> {
        let (caller, call, address) = (self.caller(vm), call(n), volume(name));
        let engine = self.engine_of(vm);
        engine.attach(&caller, &call, &address, false, wait).await
    }

    /// An attachment that the request under test may need.
    pub(crate) async fn attach(&self, vm: usize, name: &str) {
        let got = self.try_attach(vm, fresh(), name, Duration::ZERO).await;
        self.held.borrow_mut().insert(name.to_owned(), got.unwrap());
    }

    /// What the preparation was told when it attached a volume.
    pub(crate) fn held(&self, name: &str) -> (VolumeId, Epoch) {
        let held = self.held.borrow();
        (held[name].view.id, held[name].epoch)
    }

    pub(crate) async fn try_detach(
        &self,
        vm: usize,
        n: u128,
        id: VolumeId,
        epoch: Epoch,
    ) -> Result<Outcome<()>, Error> {
        let (caller, call) = (self.caller(vm), call(n));
        self.engine_of(vm).detach(&caller, &call, id, epoch).await
    }

    pub(crate) async fn get(&self, vm: usize, name: &str) -> Result<VolumeView, Error> {
        let caller = self.caller(vm);
        self.engine_of(vm).get(&caller, &volume(name)).await
    }

    /// Long enough for the reconcilers to finish or undo whatever was left, leases and orphans included. Most of the
    /// time is skipped; the end is lived through.
    pub(crate) async fn settle(&self) {
        for _ in 0..7 {
            advance(Duration::from_secs(31)).await;
            sleep(Duration::from_millis(1500)).await;
        }
        sleep(Duration::from_secs(3)).await;
    }

    /// Some seconds in which the reconcilers work.
    pub(crate) async fn pass(&self, secs: u64) {
        sleep(Duration::from_secs(secs)).await;
    }
}

/// A request id nobody used before.
pub(crate) fn fresh() -> u128 {
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed).into()
}

/// The disk of a volume that lies in the folder of `_DEFAULT`, or of its vmgroup before it was moved.
pub(crate) fn disk(view: &VolumeView) -> DiskPath {
    let group = GroupId::DEFAULT;
    let path = format!("dockvols/{group}/{}.{}.vmdk", view.name, view.id.id8());
    DiskPath {
        datastore: view.datastore.clone(),
        path: DsPath::new(&path).unwrap(),
    }
}
