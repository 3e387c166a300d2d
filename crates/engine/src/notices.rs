//! Who should hear of a change: waiters inside this agent, and guests that watch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, watch};
use vdvs_domain::{Epoch, VmId, VmRef, VolumeId};

use crate::api::Notice;
use crate::inner::locked;

/// Notices a slow guest may be behind. It learns everything again from its inventory report.
const NOTICES: usize = 64;

type Waiting = Arc<Mutex<HashMap<VolumeId, Vec<VmRef>>>>;

/// The engine's notice board.
#[derive(Debug)]
pub(crate) struct Notices {
    changes: watch::Sender<u64>,
    watchers: Mutex<HashMap<VmId, Vec<mpsc::Sender<Notice>>>>,
    waiting: Waiting,
}

impl Default for Notices {
    fn default() -> Self {
        Self {
            changes: watch::channel(0).0,
            watchers: Mutex::default(),
            waiting: Waiting::default(),
        }
    }
}

/// A request that waits for a volume, until dropped.
#[derive(Debug)]
pub(crate) struct Waiter {
    waiting: Waiting,
    volume: VolumeId,
    vm: VmRef,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = locked(&self.waiting);
        let Some(list) = waiting.get_mut(&self.volume) else {
            return;
        };
        if let Some(at) = list.iter().position(|vm| *vm == self.vm) {
            list.swap_remove(at);
        }
        if list.is_empty() {
            waiting.remove(&self.volume);
        }
    }
}

impl Notices {
    /// Something changed: a record, or the host.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Sees every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Registers a guest.
    pub(crate) fn watch(&self, vm: &VmId) -> mpsc::Receiver<Notice> {
        let (sender, receiver) = mpsc::channel(NOTICES);
        let mut watchers = locked(&self.watchers);
        let list = watchers.entry(vm.clone()).or_default();
        list.retain(|s| !s.is_closed());
        list.push(sender);
        receiver
    }

    fn tell(&self, vm: &VmId, notice: &Notice) {
        let mut watchers = locked(&self.watchers);
        let Some(list) = watchers.get_mut(vm) else {
            return;
        };
        list.retain(|s| !s.is_closed());
        for sender in list.iter() {
            if sender.try_send(notice.clone()).is_err() {
                tracing::debug!(vm = %vm.instance_uuid, "a guest is behind with its notices");
            }
        }
        if list.is_empty() {
            watchers.remove(vm);
        }
    }

    /// `by` waits for a volume that `owner` holds.
    pub(crate) fn wait(&self, volume: VolumeId, owner: Option<&VmId>, by: &VmRef) -> Waiter {
        locked(&self.waiting)
            .entry(volume)
            .or_default()
            .push(by.clone());
        if let Some(owner) = owner {
            let by_vm = by.name.clone();
            self.tell(owner, &Notice::Wanted { volume, by_vm });
        }
        Waiter {
            waiting: Arc::clone(&self.waiting),
            volume,
            vm: by.clone(),
        }
    }

    /// The first VM that waits for a volume.
    pub(crate) fn wanted_by(&self, volume: VolumeId) -> Option<VmRef> {
        locked(&self.waiting).get(&volume)?.first().cloned()
    }

    /// The attachment of `vm` ended without it.
    pub(crate) fn superseded(&self, vm: &VmId, volume: VolumeId, epoch: Epoch) {
        self.tell(vm, &Notice::Superseded { volume, epoch });
    }
}
