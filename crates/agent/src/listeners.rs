//! One socket for each VM registered on the host.
//!
//! ```text
//!   wait for a change (or five seconds) ──► which VMs are there ──► plan ──► close, open ──► wait …
//! ```
//! A host that does not answer has as many VMs as before: listeners are closed only for VMs that it says it does not
//! have. A socket whose name was taken away (its folder was made anew) is replaced.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use vdvs_domain::VmId;
use vdvs_engine::ports::{Host, Vm};
use vdvs_transport::{Acceptor, BindError, Limits, Sinks, UnixSocket};

use crate::guests::{Guests, identity_of};
use crate::hosts::{Sockets, chain};

/// Only root of the guest may connect; on a vSocket the privileged source port says the same.
const MODE: u32 = 0o600;
/// The host tells of changes; this often we look anyway, also whether our sockets are still there.
const ROUND: Duration = Duration::from_secs(5);
/// After something failed: soon enough for a person who watches, seldom enough for a host that is down.
const RETRY: Duration = Duration::from_millis(500);

/// Keeps the listeners in step with the host's VMs.
#[derive(Debug)]
pub struct Listeners {
    host: Arc<dyn Host>,
    sockets: Sockets,
    guests: Arc<Guests>,
    sinks: Sinks,
    draining: CancellationToken,
    /// Waits for first bytes; nobody waits for these.
    greetings: TaskTracker,
    listening: HashMap<VmId, Listening>,
    /// VMs whose socket could not be made, so that it is said once.
    failing: HashSet<VmId>,
    host_fails: bool,
}

#[derive(Debug)]
struct Listening {
    name: String,
    socket: Arc<UnixSocket>,
    close: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Listening {
    fn is_well(&self) -> bool {
        self.socket.is_reachable() && !self.task.is_finished()
    }
}

/// What one round does.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Listeners of VMs that are gone.
    gone: Vec<VmId>,
    /// Listeners to make anew: the VM was renamed, or its socket is not reachable.
    anew: Vec<VmId>,
}

/// Compares what is listening (with the name it listens under, and whether it is well) with the host's VMs.
fn plan<'a>(
    listening: impl Iterator<Item = (&'a VmId, &'a str, bool)>,
    vms: &HashMap<&VmId, &str>,
) -> Plan {
    let mut plan = Plan::default();
    for (id, name, well) in listening {
        match vms.get(id) {
            None => plan.gone.push(id.clone()),
            Some(now) if *now != name || !well => plan.anew.push(id.clone()),
            Some(_) => {}
        }
    }
    plan
}

impl Listeners {
    /// Listeners for the VMs of `host`. Connections go to `sinks`.
    #[must_use]
    pub fn new(
        host: Arc<dyn Host>,
        sockets: Sockets,
        guests: Arc<Guests>,
        sinks: Sinks,
        draining: CancellationToken,
    ) -> Self {
        Self {
            host,
            sockets,
            guests,
            sinks,
            draining,
            greetings: TaskTracker::new(),
            listening: HashMap::new(),
            failing: HashSet::new(),
            host_fails: false,
        }
    }

    /// Runs until draining begins, whatever the host is doing. Connections that exist then are left to the server.
    pub async fn run(mut self) {
        let draining = self.draining.clone();
        tokio::select! {
            () = draining.cancelled() => {}
            () = self.keep() => {}
        }
    }

    async fn keep(&mut self) {
        let mut generation = 0;
        loop {
            let well = self.round().await && self.failing.is_empty();
            let wait = if well { ROUND } else { RETRY };
            let until = Instant::now() + wait;
            // Bounded by us too: a host that never answers must not stop us from looking.
            match timeout(wait * 2, self.host.changed(generation, until)).await {
                Ok(Ok(now)) => generation = now,
                Ok(Err(_)) | Err(_) => sleep_until(until).await,
            }
        }
    }

    /// One comparison with the host. False: the host did not answer.
    async fn round(&mut self) -> bool {
        let vms = match self.host.vms().await {
            Ok(vms) => vms,
            Err(e) => {
                if !self.host_fails {
                    warn!(
                        "the host does not say which VMs it has; asking again: {}",
                        chain(&e)
                    );
                }
                self.host_fails = true;
                return false;
            }
        };
        if self.host_fails {
            info!("the host answers again");
            self.host_fails = false;
        }
        let names = vms.iter().map(|vm| (&vm.id, vm.name.as_str())).collect();
        let have = self.listening.iter();
        let plan = plan(
            have.map(|(id, l)| (id, l.name.as_str(), l.is_well())),
            &names,
        );
        for id in plan.gone {
            self.close(&id).await;
            self.guests.gone(&id);
        }
        for id in plan.anew {
            self.close(&id).await;
        }
        self.failing.retain(|id| names.contains_key(id));
        for vm in &vms {
            if !self.listening.contains_key(&vm.id) {
                self.open(vm);
            }
        }
        true
    }

    /// Closes a VM's listener and its connections, and waits until its name is free.
    async fn close(&mut self, id: &VmId) {
        let Some(listening) = self.listening.remove(id) else {
            return;
        };
        listening.close.cancel();
        match listening.task.await {
            Ok(Ok(())) => info!(vm = %listening.name, "no longer listening"),
            Ok(Err(e)) => warn!(vm = %listening.name, "its listener failed and is made anew: {e}"),
            Err(e) => warn!(vm = %listening.name, "its listener was lost and is made anew: {e}"),
        }
    }

    fn open(&mut self, vm: &Vm) {
        let Some(path) = self.sockets.of(vm) else {
            self.say_once(vm, "its name cannot be a folder's name");
            return;
        };
        let socket = match bind(&path) {
            Ok(socket) => Arc::new(socket),
            Err(e) => {
                self.say_once(vm, &chain(&e));
                return;
            }
        };
        let identity = identity_of(vm.id.instance_uuid, &vm.id.config_path, &vm.name);
        let close = CancellationToken::new();
        let mut acceptor = Acceptor::new(
            identity,
            Limits::default(),
            self.sinks.grpc.clone(),
            close.clone(),
            self.greetings.clone(),
        );
        if let Some(legacy) = &self.sinks.legacy {
            acceptor = acceptor.with_legacy(legacy.clone());
        }
        self.guests.listening(&vm.id, acceptor.gauge());
        let (listener, draining) = (Arc::clone(&socket), self.draining.clone());
        let task = self
            .greetings
            .spawn(async move { acceptor.run(&listener, &draining).await });
        info!(vm = %vm.name, socket = %path.display(), "listening");
        self.failing.remove(&vm.id);
        let name = vm.name.clone();
        let listening = Listening {
            name,
            socket,
            close,
            task,
        };
        self.listening.insert(vm.id.clone(), listening);
    }

    fn say_once(&mut self, vm: &Vm, why: &str) {
        if self.failing.insert(vm.id.clone()) {
            warn!(vm = %vm.name, "cannot listen for this VM; trying again: {why}");
        }
    }
}

fn bind(path: &Path) -> Result<UnixSocket, BindError> {
    if let Some(folder) = path.parent() {
        // Ours to make below the VM's folder; where that is missing, binding says so.
        fs::create_dir(folder).ok();
    }
    UnixSocket::bind(path, MODE)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> VmId {
        VmId {
            instance_uuid: Uuid::from_u128(n),
            config_path: format!("[ds] {n}.vmx"),
        }
    }

    #[test]
    fn only_vms_that_are_gone_renamed_or_unreachable_lose_their_listener() {
        let ids = [id(1), id(2), id(3), id(4)];
        let have = [
            (&ids[0], "same", true),
            (&ids[1], "gone", true),
            (&ids[2], "before", true),
            (&ids[3], "lost", false),
        ];
        let vms = HashMap::from([(&ids[0], "same"), (&ids[2], "after"), (&ids[3], "lost")]);
        let expected = Plan {
            gone: vec![id(2)],
            anew: vec![id(3), id(4)],
        };
        assert_eq!(plan(have.into_iter(), &vms), expected);
    }
}
