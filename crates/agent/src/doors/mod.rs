//! One door for all virtual machines, where the hypervisor says of each connection whose it is.
//!
//! ```text
//!   vSocket, port 1019 ─┐                       ┌─ a VM ──────────► the agent's services
//!   DIR/<group>/1019 ───┴─► Door ─► VmPorter ───┼─ no VM ─────────► closed; audited and logged once
//!                                               └─ nobody can say ► "not ready", and the end soon
//! ```
//! * **The door is open before the hypervisor answers**: its service starts later than we do, and restarts. Until then
//!   every VM is told to try again, which its plugin does.
//! * The folders with sockets stand in for vSockets where there are none: the folder's name is the number of the process
//!   group that the kernel would tell. Only root can make them.

mod folders;
mod starting;
mod vsocks;

pub(crate) use starting::NotReady;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use vdvs_domain::ErrorKind;
use vdvs_engine::ports::{AuditEntry, AuditOutcome, Clock, Host, Store, Vm};
use vdvs_transport::accept::Gauge;
use vdvs_transport::{Conn, Door, Identity, Limits, Porter, Sinks};

use crate::clock::SystemClock;
use crate::config::Listen;
use crate::guests::{Guests, identity_of, vm_of};

/// Connections that may wait for the server of those that cannot be named.
const UNNAMED: usize = 16;
/// How often VMs that are gone are forgotten.
const FORGET: Duration = Duration::from_secs(60);
/// Numbers of strangers remembered, so that each is told about once.
const STRANGERS: usize = 1024;

/// Who knows which VM a process group is.
#[tonic::async_trait]
pub trait PeerIdentity: Send + Sync + fmt::Debug {
    /// The VM of a process group. `None`: there is none of that number, after a fresh look.
    ///
    /// # Errors
    /// Why nobody can say now.
    async fn vm_of(&self, process_group: u32) -> Result<Option<Vm>, String>;
}

/// What the porter needs once the agent has all of it.
#[derive(Debug)]
pub struct Known {
    /// Who knows the VMs.
    pub identity: Arc<dyn PeerIdentity>,
    /// What is known of connections.
    pub guests: Arc<Guests>,
    /// Where strangers are written down.
    pub store: Arc<dyn Store>,
}

/// Asks whose a connection is, from the moment on when there is somebody to ask.
#[derive(Debug, Default)]
pub struct VmPorter {
    known: OnceLock<Known>,
    strangers: Mutex<HashSet<u32>>,
    tasks: TaskTracker,
}

impl VmPorter {
    /// The agent is ready. Once.
    pub fn know(&self, known: Known) {
        // A second time changes nothing.
        self.known.set(known).ok();
    }
}

#[tonic::async_trait]
impl Porter for VmPorter {
    async fn who(&self, vm: u32) -> Result<Option<Identity>, String> {
        let Some(known) = self.known.get() else {
            return Err("the hypervisor's service does not answer yet".to_owned());
        };
        let found = known.identity.vm_of(vm).await?;
        Ok(found.map(|vm| identity_of(vm.id.instance_uuid, &vm.id.config_path, &vm.name)))
    }

    fn came(&self, identity: &Identity, gauge: Gauge) {
        if let (Some(known), Some(vm)) = (self.known.get(), vm_of(identity)) {
            known.guests.listening(&vm, gauge);
        }
    }

    fn refused(&self, vm: u32) {
        {
            let mut strangers = self
                .strangers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if strangers.len() >= STRANGERS {
                strangers.clear();
            }
            if strangers.insert(vm) {
                warn!("connection refused: the host lists no VM of process group {vm}");
            }
        }
        let Some(known) = self.known.get() else {
            return;
        };
        let entry = AuditEntry {
            at: SystemClock.now(),
            who: format!("process group {vm}"),
            verb: "connect",
            object: String::new(),
            volume: None,
            outcome: AuditOutcome::Refused(ErrorKind::UnknownCaller),
            detail: "the host lists no VM of that process group".to_owned(),
        };
        let store = Arc::clone(&known.store);
        self.tasks.spawn(async move {
            if let Err(why) = store.audit(entry).await {
                warn!("a refused connection could not be audited: {why}");
            }
        });
    }
}

/// Opens the door and keeps it open until draining begins. Needs a running runtime.
pub fn open(
    listen: &Listen,
    named: Sinks,
    draining: &CancellationToken,
    tasks: &TaskTracker,
) -> Arc<VmPorter> {
    let porter = Arc::new(VmPorter::default());
    let (sink, unnamed) = mpsc::channel::<Conn>(UNNAMED);
    let (legacy_sink, legacy) = mpsc::channel::<Conn>(UNNAMED);
    tasks.spawn(starting::serve(unnamed, legacy, draining.clone()));
    let door = Door::new(
        Arc::clone(&porter) as Arc<dyn Porter>,
        Limits::default(),
        named,
        Sinks {
            grpc: sink,
            legacy: Some(legacy_sink),
        },
        CancellationToken::new(),
        TaskTracker::new(),
    );
    match listen {
        Listen::Vsock {
            port,
            privileged_only,
        } => {
            let keep = vsocks::keep(door, *port, *privileged_only, draining.clone());
            tasks.spawn(keep);
        }
        Listen::Folders(dir) => {
            tasks.spawn(folders::keep(door, dir.clone(), draining.clone()));
        }
    }
    porter
}

/// Forgets VMs that the host does not have any more.
pub async fn forget(host: Arc<dyn Host>, guests: Arc<Guests>, draining: CancellationToken) {
    loop {
        tokio::select! {
            () = draining.cancelled() => return,
            () = sleep(FORGET) => {}
        }
        // Who does not answer has as many VMs as before.
        if let Ok(vms) = host.vms().await {
            let gone = guests.keep(&vms.into_iter().map(|vm| vm.id).collect());
            if gone > 0 {
                info!(gone, "VMs are not registered here any more");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn before_the_hypervisor_answers_nobody_is_named_and_nobody_is_a_stranger() {
        let porter = VmPorter::default();
        let why = porter.who(7).await.unwrap_err();
        assert!(why.contains("does not answer yet"), "{why}");
    }
}
