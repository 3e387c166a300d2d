//! Two hosts with their agents, one datastore, and VMs with guests.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use vdvs_domain::{DatastoreName, HostId, VmId};
use vdvs_engine::Engine;
use vdvs_engine::api::Settings;
use vdvs_engine::ports::{DatastoreKind, Power};
use vdvs_host_sim::World;
use vdvs_sim::check::Checker;
use vdvs_sim::guest::{Guest, Setup};
use vdvs_sim::schedule::Trace;
use vdvs_sim::universe::Switchboard;

/// Longer than any wait of the system.
pub(crate) const LONG: Duration = Duration::from_secs(400);

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) board: Switchboard,
    pub(crate) checker: Checker,
    pub(crate) trace: Trace,
    pub(crate) hosts: Vec<HostId>,
    pub(crate) guests: Vec<Guest>,
    agents: Vec<Option<JoinSet<()>>>,
}

impl Scene {
    /// Two hosts; a VM on each, running, its plugin connected.
    pub(crate) async fn new(seed: u64) -> Self {
        let world = World::new();
        let home = DatastoreName::new("ds1").unwrap();
        world.add_datastore(&home, DatastoreKind::Vmfs);
        let checker = Checker::new(&world);
        let mut scene = Self {
            board: Switchboard::default(),
            trace: Trace::new(true),
            hosts: ["esx01", "esx02"].map(|name| world.add_host(name)).into(),
            guests: Vec::new(),
            agents: vec![None, None],
            checker,
            world,
        };
        for host in 0..2 {
            scene.start_agent(host);
            let name = format!("vm{}", host + 1);
            let vm = scene.world.add_vm(scene.hosts[host], &name, &home);
            scene.board.register(&vm, Some(scene.hosts[host]));
            let guest = Guest::new(Setup {
                vm,
                name,
                world: scene.world.clone(),
                board: scene.board.clone(),
                checker: scene.checker.clone(),
                trace: scene.trace.clone(),
                seed,
            });
            guest.boot();
            scene.guests.push(guest);
        }
        sleep(Duration::from_secs(5)).await;
        scene
    }

    pub(crate) fn start_agent(&mut self, host: usize) {
        let session = self.world.session(self.hosts[host]);
        let engine = Engine::new(session.ports(), Settings::default());
        let name = format!("esx0{}", host + 1);
        let line = Arc::clone(&engine);
        self.board.serve(self.hosts[host], &name, line, session);
        let mut runs = JoinSet::new();
        runs.spawn(engine.run(CancellationToken::new()));
        self.agents[host] = Some(runs);
    }

    /// The agent dies. Its host does not.
    pub(crate) fn kill_agent(&mut self, host: usize) {
        let vm = self.guests[host].vm();
        if let Some(line) = self.board.agent_of(vm) {
            line.session.crash();
        }
        self.board.silence(self.hosts[host]);
        self.agents[host] = None;
    }

    pub(crate) fn vm(&self, n: usize) -> &VmId {
        self.guests[n].vm()
    }

    /// The power of a VM goes.
    pub(crate) fn cut(&self, n: usize, torn: u64) {
        self.guests[n].power_cut(torn);
        self.world.power(self.vm(n), Power::Off);
    }

    pub(crate) fn boot(&self, n: usize) {
        assert!(self.world.power(self.vm(n), Power::On), "a disk is locked");
        self.guests[n].boot();
    }

    /// Disks in a VM.
    pub(crate) fn disks(&self, n: usize) -> usize {
        self.world.devices(self.vm(n)).len()
    }

    /// A container with these volumes, whose driver is named.
    pub(crate) async fn run(&self, n: usize, task: &str, volumes: &[&str]) -> Result<(), String> {
        let volumes: Vec<String> = volumes.iter().map(|v| (*v).to_owned()).collect();
        self.guests[n].run(task, &volumes, true).await
    }

    pub(crate) async fn until(&self, what: &str, mut reached: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + LONG;
        while !reached(self) {
            assert!(Instant::now() < end, "{what}\n{}", self.story());
            sleep(Duration::from_millis(200)).await;
        }
    }

    pub(crate) fn story(&self) -> String {
        self.trace.lines().join("\n")
    }

    /// No promise is broken so far.
    pub(crate) fn well(&self) {
        let broken: Vec<String> = self
            .checker
            .violations()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(broken.is_empty(), "{broken:#?}\n{}", self.story());
    }

    /// Everything is stopped; nothing is left of it, and what was flushed is read back in either VM.
    pub(crate) async fn end(&self, volumes: &[&str]) {
        for guest in &self.guests {
            guest.mend();
            guest.start_plugin();
            for (task, _) in guest.holds() {
                guest.stop(&task).await;
            }
        }
        for volume in volumes {
            for n in 0..2 {
                let task = format!("last-{n}");
                let end = Instant::now() + LONG;
                while let Err(why) = self.run(n, &task, &[volume]).await {
                    // One that a fault killed only now.
                    self.guests[n].start_plugin();
                    assert!(Instant::now() < end, "{volume}: {why}\n{}", self.story());
                    sleep(Duration::from_secs(1)).await;
                }
                sleep(Duration::from_secs(5)).await;
                self.guests[n].stop(&task).await;
            }
        }
        self.until("a disk is left in a VM", |s| s.disks(0) + s.disks(1) == 0)
            .await;
        // The reconciler's sweeps.
        sleep(Duration::from_secs(70)).await;
        let broken: Vec<String> = self
            .checker
            .verdict()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(broken.is_empty(), "{broken:#?}\n{}", self.story());
    }
}
