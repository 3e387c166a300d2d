//! A lab for the engine's tests: one world, engines over it, VMs that ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{
    DatastoreName, Epoch, Error, GroupId, HostId, RequestId, VmId, VmRef, VolumeAddress, VolumeId,
};
use vdvs_engine::Engine;
use vdvs_engine::api::{Attached, Call, Caller, LocalUser, Outcome, Settings, VolumeView};
use vdvs_engine::ports::{DatastoreKind, DiskPath, DsPath};
use vdvs_host_sim::{Fault, Session, When, World};

pub(crate) const WAIT: Duration = Duration::from_secs(100);

pub(crate) fn ds(name: &str) -> DatastoreName {
    DatastoreName::new(name).unwrap()
}

pub(crate) fn volume(name: &str) -> VolumeAddress {
    VolumeAddress::parse(name).unwrap()
}

pub(crate) fn given(pairs: &[(&str, &str)]) -> GivenOptions {
    let map: BTreeMap<String, String> = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    GivenOptions::parse(&map).unwrap()
}

pub(crate) fn request(n: u128) -> RequestId {
    RequestId::new(Uuid::from_u128((0xca11 << 64) | n))
}

/// A call of request `n` that waits `secs`.
pub(crate) fn call_for(n: u128, secs: u64) -> Call {
    Call {
        request: request(n),
        deadline: Instant::now() + Duration::from_secs(secs),
        cancel: CancellationToken::new(),
    }
}

pub(crate) fn call(n: u128) -> Call {
    call_for(n, 120)
}

/// The administrator.
pub(crate) fn root() -> LocalUser {
    LocalUser {
        name: "root".to_owned(),
        uid: Some(0),
    }
}

pub(crate) struct Lab {
    pub(crate) world: World,
    pub(crate) host: HostId,
    pub(crate) vms: Vec<VmId>,
    pub(crate) session: Arc<Session>,
    pub(crate) engine: Arc<Engine>,
}

impl Lab {
    /// One host, one datastore `ds`, VMs `vm1` to `vm3`.
    pub(crate) fn new() -> Self {
        Self::with_datastores(&["ds"])
    }

    pub(crate) fn with_datastores(names: &[&str]) -> Self {
        let world = World::new();
        for name in names {
            world.add_datastore(&ds(name), DatastoreKind::Vmfs);
        }
        let host = world.add_host("esx01");
        let home = ds(names[0]);
        let vms = (1..=3)
            .map(|n| world.add_vm(host, &format!("vm{n}"), &home))
            .collect();
        let session = world.session(host);
        let engine = Engine::new(session.ports(), Settings::default());
        Self {
            world,
            host,
            vms,
            session,
            engine,
        }
    }

    /// `vm1` had the volume `db` and gave it back; the hypervisor's lock on its disk stays for so long.
    pub(crate) async fn with_lingering_lock(stays: Duration) -> (Self, VolumeView) {
        let lab = Self::new();
        let made = lab.create(1, "db").await;
        let attached = lab.attach(1, "db").await;
        lab.world.linger_locks(&lab.vms[0], stays);
        lab.detach(1, &attached).await;
        (lab, made)
    }

    /// The agent's process dies and another one starts.
    pub(crate) fn restart(&mut self) {
        self.session.crash();
        self.session = self.world.session(self.host);
        self.engine = Engine::new(self.session.ports(), Settings::default());
    }

    /// A second host with its own agent, on the same datastores.
    pub(crate) fn second_host(&self) -> (HostId, Arc<Engine>) {
        let host = self.world.add_host("esx02");
        let session = self.world.session(host);
        (host, Engine::new(session.ports(), Settings::default()))
    }

    /// VM `n` as the transport would name it; asks no port.
    pub(crate) fn caller(&self, n: usize) -> Caller {
        Caller {
            vm: VmRef {
                id: self.vms[n - 1].clone(),
                name: format!("vm{n}"),
            },
            home: Some(ds("ds")),
        }
    }

    pub(crate) async fn create(&self, vm: usize, name: &str) -> VolumeView {
        let n = rand_request();
        self.try_create(vm, n, name, &[])
            .await
            .unwrap()
            .into_inner()
    }

    pub(crate) async fn try_create(
        &self,
        vm: usize,
        n: u128,
        name: &str,
        options: &[(&str, &str)],
    ) -> Result<Outcome<VolumeView>, Error> {
        let caller = self.caller(vm);
        self.engine
            .create(&caller, &call(n), &volume(name), &given(options))
            .await
    }

    pub(crate) async fn attach(&self, vm: usize, name: &str) -> Attached {
        self.try_attach(vm, rand_request(), name, Duration::ZERO)
            .await
            .unwrap()
    }

    pub(crate) async fn try_attach(
        &self,
        vm: usize,
        n: u128,
        name: &str,
        wait: Duration,
    ) -> Result<Attached, Error> {
        let caller = self.caller(vm);
        self.engine
            .attach(&caller, &call(n), &volume(name), false, wait)
            .await
    }

    pub(crate) async fn try_detach(
        &self,
        vm: usize,
        n: u128,
        id: VolumeId,
        epoch: Epoch,
    ) -> Result<Outcome<()>, Error> {
        let caller = self.caller(vm);
        self.engine.detach(&caller, &call(n), id, epoch).await
    }

    pub(crate) async fn detach(&self, vm: usize, attached: &Attached) -> Outcome<()> {
        self.try_detach(vm, rand_request(), attached.view.id, attached.epoch)
            .await
            .unwrap()
    }

    /// A detach of which nobody sees the end: twice the host is asked, does nothing, and no answer comes.
    pub(crate) async fn lose_detach(&self, vm: usize, n: u128, attached: &Attached) {
        for _ in 0..2 {
            let lost = Fault::NoAnswer(When::Before);
            self.session.plan_at("detach", lost);
        }
        let left = self.try_detach(vm, n, attached.view.id, attached.epoch);
        let left = left.await;
        assert!(matches!(left, Err(Error::Unresolved { .. })), "{left:?}");
    }

    pub(crate) async fn try_delete(
        &self,
        vm: usize,
        n: u128,
        name: &str,
    ) -> Result<VolumeId, Error> {
        let caller = self.caller(vm);
        self.engine
            .delete(&caller, &call(n), &volume(name), None)
            .await
    }

    pub(crate) async fn get(&self, vm: usize, name: &str) -> Result<VolumeView, Error> {
        let caller = self.caller(vm);
        self.engine.get(&caller, &volume(name)).await
    }

    /// Runs the reconciler until the test ends.
    pub(crate) fn reconcile(&self) -> Reconciler {
        let cancel = CancellationToken::new();
        let run = Arc::clone(&self.engine).run(cancel);
        let mut tasks = JoinSet::new();
        tasks.spawn(run);
        Reconciler(tasks)
    }
}

/// Stops the reconciler when dropped.
#[expect(dead_code, reason = "held for its end")]
pub(crate) struct Reconciler(JoinSet<()>);

/// The disk of a volume.
pub(crate) fn disk(view: &VolumeView) -> DiskPath {
    let group = GroupId::DEFAULT;
    let path = format!("dockvols/{group}/{}.{}.vmdk", view.name, view.id.id8());
    DiskPath {
        datastore: view.datastore.clone(),
        path: DsPath::new(&path).unwrap(),
    }
}

/// An administrator takes the volume from whoever has it.
pub(crate) async fn take(
    engine: &Arc<Engine>,
    address: &str,
    force: bool,
) -> Result<Outcome<Vec<String>>, Error> {
    let (user, call) = (root(), call(rand_request()));
    engine.admin_take(&user, &call, address, force).await
}

/// The record of the volume `db`, as this engine reads it.
pub(crate) async fn record(engine: &Arc<Engine>) -> Value {
    let inspect = engine.admin_inspect("db").await.unwrap();
    serde_json::from_str(&inspect.record_json).unwrap()
}

/// A request id nobody used before.
pub(crate) fn rand_request() -> u128 {
    Uuid::new_v4().as_u128() >> 64
}

/// Waits until `check` holds, at most a simulated minute.
pub(crate) async fn until<F>(what: &str, mut check: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let deadline = Instant::now() + Duration::from_secs(60);
    while !check().await {
        assert!(Instant::now() < deadline, "{what} did not happen");
        sleep(Duration::from_millis(20)).await;
    }
}
