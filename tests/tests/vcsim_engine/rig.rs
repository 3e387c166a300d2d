//! A simulator, its witness, and an engine over `host-esxi`.

use std::collections::BTreeMap;
use std::env::var_os;
use std::fs::create_dir_all;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{
    DatastoreName, Error, GroupId, RequestId, Timestamp, VmId, VmRef, VolumeAddress, VolumeId,
};
use vdvs_engine::Engine;
use vdvs_engine::api::{Attached, Call, Caller, Outcome, Ports, Settings, VolumeView};
use vdvs_engine::ports::{Clock, DiskPath, DsPath, Host, Ids};
use vdvs_host_esxi::{EsxHost, EsxiConfig, Login, Opened};
use vdvs_store::SqliteStore;
use vdvs_testkit::vcsim::{Mode, Peers, REQUIRED, Vcsim, Witness};

/// Far above what anything takes here.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What runs: the simulator, the witness, an agent's engine.
pub(crate) struct Rig {
    pub(crate) sim: Vcsim,
    pub(crate) witness: Witness,
    pub(crate) agent: Agent,
    pub(crate) dir: TempDir,
}

/// An agent on one host of the inventory, without its process.
pub(crate) struct Agent {
    pub(crate) opened: Opened,
    pub(crate) engine: Arc<Engine>,
    vms: Vec<VmRef>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The peers, or nothing after saying why. Where they were prepared they must be there.
pub(crate) fn peers() -> Option<Peers> {
    match Peers::find() {
        Ok(peers) => Some(peers),
        Err(why) if var_os(REQUIRED).is_some() => panic!("{why}"),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

impl Rig {
    pub(crate) async fn new(mode: Mode) -> Option<Self> {
        Self::with(mode, &[]).await
    }

    pub(crate) async fn with(mode: Mode, options: &[&str]) -> Option<Self> {
        let peers = peers()?;
        let dir = tempdir().unwrap();
        let sim = Vcsim::start(&peers, mode, &dir.path().join("sim"), options).unwrap();
        let witness = sim.witness().unwrap();
        let agent = Agent::start(&sim, &dir, 0).await;
        Some(Self {
            sim,
            witness,
            agent,
            dir,
        })
    }

    pub(crate) fn vm(&self, number: usize) -> String {
        self.sim.mode().vm(0, number)
    }

    /// The agent's process dies and another one starts.
    pub(crate) async fn restart_agent(&mut self) {
        self.agent = Agent::start(&self.sim, &self.dir, 0).await;
    }

    /// What the witness says of a volume's disk.
    pub(crate) fn is_attached(&mut self, vm: usize, view: &VolumeView) -> bool {
        let vm = self.vm(vm);
        self.witness.has_disk(&vm, &disk(view).to_string()).unwrap()
    }

    pub(crate) fn device(&mut self, vm: usize, view: &VolumeView) -> Value {
        // On vSAN the host spells the folder by its identity.
        let (vm, file) = (self.vm(vm), format!("/{}", disk(view).path.file_name()));
        let disks = self.witness.disks(&vm).unwrap();
        let found: Vec<_> = disks
            .into_iter()
            .filter(|d| d["file"].as_str().is_some_and(|f| f.ends_with(&file)))
            .collect();
        assert_eq!(found.len(), 1, "{file} in {vm}");
        found.into_iter().next().unwrap()
    }

    /// Descriptor and extent, as the witness finds them.
    pub(crate) fn files(&mut self, disk: &DiskPath) -> (bool, bool) {
        let there = self
            .witness
            .ask(&json!({"do": "exists", "file": disk.to_string()}))
            .unwrap();
        (there[0] == json!(true), there[1] == json!(true))
    }
}

impl Agent {
    pub(crate) async fn start(sim: &Vcsim, dir: &TempDir, host: usize) -> Self {
        let state = dir.path().join(format!("agent{host}"));
        create_dir_all(&state).unwrap();
        let (user, password) = sim.login();
        let config = EsxiConfig {
            url: sim.url(),
            login: Login::Password { user, password },
            certificate: Some(sim.certificate()),
            host: sim.mode().host(host),
            state: state.clone(),
        };
        let opened = EsxHost::open(config).await.unwrap();
        let store = state.join(format!("{}.sqlite", Uuid::new_v4()));
        let store = SqliteStore::open(&store, SystemClock.now()).await.unwrap();
        let ports = Ports {
            host: opened.host.clone(),
            datastores: opened.datastores.clone(),
            store: Arc::new(store),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
        };
        let settings = Settings {
            sweep: Duration::from_secs(1),
            ..Settings::default()
        };
        let engine = Engine::new(ports, settings);
        let mut vms: Vec<VmRef> = Vec::new();
        for vm in opened.host.vms().await.unwrap() {
            vms.push(VmRef {
                id: vm.id,
                name: vm.name,
            });
        }
        vms.sort_by(|a, b| a.name.cmp(&b.name));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(Arc::clone(&engine).run(stop.clone()));
        Self {
            opened,
            engine,
            vms,
            stop,
            tasks,
        }
    }

    pub(crate) fn vm(&self, number: usize) -> &VmId {
        &self.vms[number].id
    }

    pub(crate) fn caller(&self, number: usize) -> Caller {
        Caller {
            vm: self.vms[number].clone(),
            home: Some(ds("LocalDS_0")),
        }
    }

    pub(crate) async fn create(
        &self,
        vm: usize,
        name: &str,
        options: &[(&str, &str)],
    ) -> VolumeView {
        self.try_create(vm, fresh(), name, options).await.unwrap()
    }

    pub(crate) async fn try_create(
        &self,
        vm: usize,
        request: Uuid,
        name: &str,
        options: &[(&str, &str)],
    ) -> Result<VolumeView, Error> {
        let (caller, call) = (self.caller(vm), call(request));
        let made = self
            .engine
            .create(&caller, &call, &address(name), &given(options))
            .await;
        made.map(Outcome::into_inner)
    }

    pub(crate) async fn attach(&self, vm: usize, name: &str) -> Attached {
        self.try_attach(vm, fresh(), name, Duration::ZERO)
            .await
            .unwrap()
    }

    pub(crate) async fn attach_in(&self, vm: usize, name: &str, read_only: bool) -> Attached {
        let (caller, call) = (self.caller(vm), call(fresh()));
        let address = address(name);
        let attach = self
            .engine
            .attach(&caller, &call, &address, read_only, Duration::ZERO);
        attach.await.unwrap()
    }

    pub(crate) async fn try_attach(
        &self,
        vm: usize,
        request: Uuid,
        name: &str,
        wait: Duration,
    ) -> Result<Attached, Error> {
        let (caller, call) = (self.caller(vm), call(request));
        self.engine
            .attach(&caller, &call, &address(name), false, wait)
            .await
    }

    pub(crate) async fn try_detach(
        &self,
        vm: usize,
        request: Uuid,
        attached: &Attached,
    ) -> Result<(), Error> {
        let (caller, call) = (self.caller(vm), call(request));
        let done = self
            .engine
            .detach(&caller, &call, attached.view.id, attached.epoch)
            .await;
        done.map(|_| ())
    }

    pub(crate) async fn detach(&self, vm: usize, attached: &Attached) {
        self.try_detach(vm, fresh(), attached).await.unwrap();
    }

    pub(crate) async fn try_delete(
        &self,
        vm: usize,
        request: Uuid,
        name: &str,
    ) -> Result<(), Error> {
        let (caller, call) = (self.caller(vm), call(request));
        self.engine
            .delete(&caller, &call, &address(name), None)
            .await
            .map(|_| ())
    }

    pub(crate) async fn get(&self, vm: usize, name: &str) -> Result<VolumeView, Error> {
        self.engine.get(&self.caller(vm), &address(name)).await
    }

    /// Ends what it does by itself, listening to hostd among it.
    pub(crate) fn deafen(&self) {
        self.stop.cancel();
    }

    /// Names of the volumes in a list.
    pub(crate) async fn list(&self, vm: usize) -> Vec<String> {
        let listing = self.engine.list(&self.caller(vm)).await.unwrap();
        assert!(listing.unreadable.is_empty(), "{:?}", listing.unreadable);
        listing.volumes.iter().map(|v| v.name.to_string()).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.close();
    }
}

pub(crate) fn fresh() -> Uuid {
    Uuid::new_v4()
}

pub(crate) fn ds(name: &str) -> DatastoreName {
    DatastoreName::new(name).unwrap()
}

fn address(name: &str) -> VolumeAddress {
    VolumeAddress::parse(name).unwrap()
}

fn given(pairs: &[(&str, &str)]) -> GivenOptions {
    let map: BTreeMap<String, String> = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    GivenOptions::parse(&map).unwrap()
}

fn call(request: Uuid) -> Call {
    Call {
        request: RequestId::new(request),
        deadline: Instant::now() + LONG,
        cancel: CancellationToken::new(),
    }
}

/// The disk of a volume.
pub(crate) fn disk(view: &VolumeView) -> DiskPath {
    let path = format!(
        "dockvols/{}/{}.{}.vmdk",
        GroupId::DEFAULT,
        view.name,
        view.id.id8()
    );
    DiskPath {
        datastore: view.datastore.clone(),
        path: DsPath::new(&path).unwrap(),
    }
}

/// Looks until `check` is true.
pub(crate) async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !check().await {
        assert!(Instant::now() < deadline, "{what} did not happen");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The machine's clock.
#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this suite's one clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap())
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// Random identities.
#[derive(Debug)]
struct RandomIds;

impl Ids for RandomIds {
    fn volume_id(&self) -> VolumeId {
        VolumeId::new(Uuid::now_v7())
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}
