//! Two hosts over one datastore, for the tests of what happens between them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vdvs_domain::{Error, HostId, VmId, VmRef};
use vdvs_engine::Engine;
use vdvs_engine::api::{Attached, Caller, Outcome, Settings, VolumeView};
use vdvs_engine::ports::AuditEntry;
use vdvs_host_sim::Session;

use crate::support::{Lab, Reconciler, call, disk, ds, rand_request, record, volume};

/// A lab on `esx01` with VMs `vm1` to `vm3`, and `esx02` with `far1` and `far2`. Both agents run.
pub(crate) struct Two {
    pub(crate) near: Lab,
    pub(crate) far_host: HostId,
    pub(crate) far_session: Arc<Session>,
    pub(crate) far: Arc<Engine>,
    pub(crate) far_vms: Vec<VmId>,
    near_runs: Option<Reconciler>,
    far_runs: Option<JoinSet<()>>,
}

fn running(engine: &Arc<Engine>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(engine).run(CancellationToken::new()));
    tasks
}

impl Two {
    pub(crate) fn new() -> Self {
        Self::over(Lab::new())
    }

    /// The same over a lab with other datastores.
    pub(crate) fn over(near: Lab) -> Self {
        let far_host = near.world.add_host("esx02");
        let far_vms = (1..=2)
            .map(|n| near.world.add_vm(far_host, &format!("far{n}"), &ds("ds")))
            .collect();
        let far_session = near.world.session(far_host);
        let far = Engine::new(far_session.ports(), Settings::default());
        let near_runs = Some(near.reconcile());
        let far_runs = Some(running(&far));
        Self {
            near,
            far_host,
            far_session,
            far,
            far_vms,
            near_runs,
            far_runs,
        }
    }

    /// The agent of `esx01` dies; its VMs go on.
    pub(crate) fn kill_near(&mut self) {
        self.near.session.crash();
        self.near_runs = None;
    }

    /// `esx01` dies: its VMs, then its agent.
    pub(crate) fn crash_near(&mut self) {
        self.near.world.crash_host(self.near.host);
        self.kill_near();
    }

    pub(crate) fn start_near(&mut self) {
        self.near.restart();
        self.near_runs = Some(self.near.reconcile());
    }

    /// Without the agents' own work: only requests call.
    pub(crate) fn quiet(self) -> Self {
        Self {
            near_runs: None,
            far_runs: None,
            ..self
        }
    }

    /// Of the agent of `esx01` only requests call.
    pub(crate) fn quiet_near(self) -> Self {
        Self {
            near_runs: None,
            ..self
        }
    }

    pub(crate) fn kill_far(&mut self) {
        self.far_session.crash();
        self.far_runs = None;
    }

    /// `esx02` dies: its VMs, then its agent.
    pub(crate) fn crash_far(&mut self) {
        self.near.world.crash_host(self.far_host);
        self.kill_far();
    }

    pub(crate) fn start_far(&mut self) {
        self.far_session = self.near.world.session(self.far_host);
        self.far = Engine::new(self.far_session.ports(), Settings::default());
        self.far_runs = Some(running(&self.far));
    }

    pub(crate) fn far_caller(&self, n: usize) -> Caller {
        Caller {
            vm: VmRef {
                id: self.far_vms[n - 1].clone(),
                name: format!("far{n}"),
            },
            home: Some(ds("ds")),
        }
    }

    pub(crate) async fn attach_far(&self, n: usize, wait: Duration) -> Result<Attached, Error> {
        self.attach_far_as(n, rand_request(), wait).await
    }

    pub(crate) async fn attach_far_as(
        &self,
        n: usize,
        request: u128,
        wait: Duration,
    ) -> Result<Attached, Error> {
        let (caller, call) = (self.far_caller(n), call(request));
        self.far
            .attach(&caller, &call, &volume("db"), false, wait)
            .await
    }

    pub(crate) async fn detach_far(&self, n: usize, attached: &Attached) -> Outcome<()> {
        let (caller, call) = (self.far_caller(n), call(rand_request()));
        let left = self
            .far
            .detach(&caller, &call, attached.view.id, attached.epoch);
        left.await.unwrap()
    }

    pub(crate) async fn far_view(&self) -> VolumeView {
        let caller = self.far_caller(1);
        self.far.get(&caller, &volume("db")).await.unwrap()
    }

    /// The volume `db` with these options, attached to `vm1` of `esx01`.
    pub(crate) async fn held(&self, options: &[(&str, &str)]) -> (VolumeView, Attached) {
        let made = self.near.try_create(1, rand_request(), "db", options);
        let made = made.await.unwrap().into_inner();
        (made, self.near.attach(1, "db").await)
    }

    pub(crate) async fn record(&self) -> Value {
        record(&self.near.engine).await
    }

    /// The same, as the other host reads it.
    pub(crate) async fn far_record(&self) -> Value {
        record(&self.far).await
    }

    pub(crate) fn audit(&self, host: HostId, verb: &str) -> Vec<AuditEntry> {
        let mut audit = self.near.world.audit(host);
        audit.retain(|e| e.verb == verb);
        audit
    }

    /// The first disk that `esx01` took out of a VM, and why.
    pub(crate) fn expect_taken_out(&self, why: &str) {
        let row = self.audit(self.near.host, "take out").remove(0);
        assert!(row.detail.starts_with(why), "{}", row.detail);
    }

    pub(crate) fn writers(&self, view: &VolumeView) -> Vec<String> {
        self.near.world.writers(&disk(view))
    }
}

pub(crate) const FENCE: &[(&str, &str)] = &[("failover", "fence")];
