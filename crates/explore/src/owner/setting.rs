//! A scene made ready: its world is set up once, by an engine that runs freely, and copied for every execution.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{HostId, VmId, VolumeId};
use vdvs_engine::Engine;
use vdvs_engine::api::Settings;

use super::Scene;
use super::agent::Agent;
use super::core::Shared;
use super::run::OwnerRun;
use super::voices::{address, call, caller, request};
use super::world::World;
use crate::search::Case;

/// Hosts of every scene.
pub(super) const HOSTS: usize = 2;
/// What the setting up may take.
const SET_UP: Duration = Duration::from_secs(60);

/// As shipped, but for what would make a case longer without another order of anything: a proof of death takes two
/// looks at the lock instead of twenty.
pub(super) fn settings() -> Settings {
    let shipped = Settings::default();
    Settings {
        free_proof: shipped.poll,
        ..shipped
    }
}

/// A runtime whose clock moves only when it is let.
pub(super) fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // A step is over when nothing can run any more: do not come back before.
        .event_interval(1 << 16)
        .build()
        .expect("a runtime without a driver needs nothing of the system")
}

/// The agent of `host` starts. Returns its engine.
pub(super) fn start(shared: &Arc<Shared>, host: usize) -> Option<Arc<Engine>> {
    let life = {
        let mut core = shared.core();
        let agent = core.agents.get_mut(host)?;
        agent.life += 1;
        agent.alive = true;
        (agent.chains, agent.ids) = (Vec::new(), 0);
        agent.life
    };
    let agent = Arc::new(Agent {
        shared: Arc::clone(shared),
        host,
        life,
    });
    let engine = Engine::new(agent.ports(), settings());
    if let Some(agent) = shared.core().agents.get_mut(host) {
        agent.engine = Some(Arc::clone(&engine));
    }
    Some(engine)
}

/// A scene with its world.
#[derive(Debug)]
pub struct Prepared {
    pub(super) scene: Arc<Scene>,
    pub(super) world: World,
    pub(super) volume: VolumeId,
    pub(super) told: Vec<Option<u64>>,
    pub(super) edges: Arc<Mutex<BTreeSet<String>>>,
    /// Ends that were judged, as they look from outside.
    pub(super) judged: Arc<Mutex<BTreeSet<u64>>>,
}

impl Prepared {
    /// Makes the volume, and gives it to its owner.
    ///
    /// # Panics
    /// When the engine cannot do that undisturbed.
    #[must_use]
    pub fn new(scene: Scene) -> Self {
        let host = |n: usize| {
            let n = u128::try_from(n).unwrap_or(u128::MAX);
            HostId::new(Uuid::from_u128((0x0051 << 112) | (n + 1)))
        };
        let vm = |(n, host): (usize, &usize)| {
            let number = u128::try_from(n).unwrap_or(u128::MAX);
            let id = VmId {
                instance_uuid: Uuid::from_u128((0x5711 << 112) | (number + 1)),
                config_path: format!("[ds] vm{n}/vm{n}.vmx"),
            };
            (id, *host)
        };
        let vms: Vec<_> = scene.vms.iter().enumerate().map(vm).collect();
        let world = World::new((0..HOSTS).map(host).collect(), vms);
        let mut told = vec![None; scene.vms.len()];
        let runtime = runtime();
        let (mut world, volume) = runtime.block_on(async {
            let shared = Shared::new(world, told.clone(), &[], true);
            let maker = scene.owner.unwrap_or(0);
            let home = scene.vms.get(maker).copied().unwrap_or(0);
            let engine = start(&shared, home).expect("there is that host");
            let by = caller(&shared, maker);
            let made = engine
                .create(
                    &by,
                    &call(request(90, 0), SET_UP),
                    &address(),
                    &GivenOptions::default(),
                )
                .await
                .expect("an undisturbed create succeeds")
                .into_inner();
            if let Some(owner) = scene.owner {
                let call = call(request(91, 0), SET_UP);
                let volume = address();
                let attach = engine.attach(&by, &call, &volume, false, Duration::ZERO);
                let got = Box::pin(attach)
                    .await
                    .expect("an undisturbed attach succeeds");
                if !scene.given_back
                    && let Some(told) = told.get_mut(owner)
                {
                    *told = Some(got.epoch.number());
                }
            }
            // What the reconciler writes once, the ledger for one, is no part of a case.
            engine.sweep().await;
            let world = shared.core().world.clone();
            (world, made.id)
        });
        let disk = world.disk().expect("the volume was made");
        let path = disk.path.as_str();
        let (dir, name) = path
            .rsplit_once('/')
            .expect("it lies in its vmgroup's folder");
        let stem = name.strip_suffix(".vmdk").expect("a descriptor");
        let lively = !scene.happenings.is_empty();
        world.settle(dir, &format!("{stem}.vdvs."), lively, scene.mistake);
        Self {
            scene: Arc::new(scene),
            world,
            volume,
            told,
            edges: Arc::default(),
            judged: Arc::default(),
        }
    }

    /// How all executions so far ended, as it looks from outside of the agents.
    #[must_use]
    pub fn ends(&self) -> BTreeSet<u64> {
        let judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        judged.clone()
    }

    /// Changes of ownership that records went through in all executions so far, as `from event to`.
    #[must_use]
    pub fn edges(&self) -> BTreeSet<String> {
        self.edges
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Case for Prepared {
    type Run = OwnerRun;

    fn begin(&self) -> OwnerRun {
        OwnerRun::new(self)
    }
}
