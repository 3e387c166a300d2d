//! Who should hear of a change: requests inside this agent that wait, and guests that watch.
//!
//! A change of one volume wakes who waits for that volume and nobody else. Waking is a hint: every waiter also looks by
//! itself, since another host may have made the change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use vdvs_domain::{Epoch, Timestamp, VmId, VmRef, VolumeId};

use crate::api::Notice;
use crate::inner::locked;

/// Notices a slow guest may be behind. It learns everything again from its inventory report.
const NOTICES: usize = 64;

type Wakers = Arc<Mutex<HashMap<VolumeId, Arc<Waker>>>>;
type Waiting = Arc<Mutex<BTreeMap<VolumeId, Vec<Want>>>>;

/// The engine's notice board.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    wakers: Wakers,
    watchers: Mutex<HashMap<VmId, Vec<mpsc::Sender<Notice>>>>,
    waiting: Waiting,
}

/// A request of this host that waits for a volume.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    /// The VM that wants it.
    pub(crate) by: VmRef,
    /// Since when, for people.
    pub(crate) since: Timestamp,
    /// The same for measuring.
    pub(crate) begun: Instant,
    owner: Option<VmId>,
}

/// A place in the table of those who wait, until dropped.
#[derive(Debug)]
pub(crate) struct Waiter {
    waiting: Waiting,
    volume: VolumeId,
    vm: VmRef,
    begun: Instant,
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = locked(&self.waiting);
        let Some(list) = waiting.get_mut(&self.volume) else {
            return;
        };
        let mine = |want: &Want| want.by == self.vm && want.begun == self.begun;
        if let Some(at) = list.iter().position(mine) {
            list.remove(at);
        }
        if list.is_empty() {
            waiting.remove(&self.volume);
        }
    }
}

/// Wakes who waits for one volume in the order in which they came, which a watch channel does not.
#[derive(Debug, Default)]
struct Waker {
    changes: AtomicU64,
    wake: Notify,
}

impl Waker {
    fn count(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn ring(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_waiters();
    }
}

/// Sees the changes of one volume, until dropped.
#[derive(Debug)]
pub(crate) struct Changes {
    wakers: Wakers,
    volume: VolumeId,
    waker: Arc<Waker>,
    seen: u64,
}

impl Changes {
    /// From now on only what comes later counts.
    pub(crate) fn mark_unchanged(&mut self) {
        self.seen = self.waker.count();
    }

    /// Waits for the next change.
    pub(crate) async fn changed(&mut self) {
        loop {
            // Before the count is read: what rings in between wakes it.
            let woken = self.waker.wake.notified();
            let now = self.waker.count();
            if now != self.seen {
                self.seen = now;
                return;
            }
            woken.await;
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        let mut wakers = locked(&self.wakers);
        // The table's and this one's.
        if Arc::strong_count(&self.waker) <= 2 {
            wakers.remove(&self.volume);
        }
    }
}

impl Notices {
    /// Something about a volume changed.
    pub(crate) fn changed(&self, volume: VolumeId) {
        if let Some(waker) = locked(&self.wakers).get(&volume) {
            waker.ring();
        }
    }

    /// These VMs changed: wakes who waits for what they hold.
    pub(crate) fn vms_changed(&self, vms: &HashSet<VmId>) {
        let held = |list: &[Want]| {
            let mut owners = list.iter().filter_map(|w| w.owner.as_ref());
            owners.any(|owner| vms.contains(owner))
        };
        let volumes: Vec<VolumeId> = locked(&self.waiting)
            .iter()
            .filter(|(_, list)| held(list))
            .map(|(volume, _)| *volume)
            .collect();
        for volume in volumes {
            self.changed(volume);
        }
    }

    /// Sees every change of a volume from now on.
    pub(crate) fn changes(&self, volume: VolumeId) -> Changes {
        let mut wakers = locked(&self.wakers);
        let waker = Arc::clone(wakers.entry(volume).or_default());
        Changes {
            wakers: Arc::clone(&self.wakers),
            volume,
            seen: waker.count(),
            waker,
        }
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

    /// `by` waits for a volume that `owner` holds, since `since` alias `begun`.
    pub(crate) fn wait(
        &self,
        volume: VolumeId,
        owner: Option<&VmId>,
        by: &VmRef,
        (since, begun): (Timestamp, Instant),
    ) -> Waiter {
        locked(&self.waiting).entry(volume).or_default().push(Want {
            by: by.clone(),
            since,
            begun,
            owner: owner.cloned(),
        });
        if let Some(owner) = owner {
            self.wanted(owner, volume, by);
        }
        Waiter {
            waiting: Arc::clone(&self.waiting),
            volume,
            vm: by.clone(),
            begun,
        }
    }

    /// Tells a guest that another VM waits for a volume of its.
    pub(crate) fn wanted(&self, owner: &VmId, volume: VolumeId, by: &VmRef) {
        let by_vm = by.name.clone();
        self.tell(owner, &Notice::Wanted { volume, by_vm });
    }

    /// The request of this host that waits longest for a volume.
    pub(crate) fn first_want(&self, volume: VolumeId) -> Option<Want> {
        let waiting = locked(&self.waiting);
        waiting
            .get(&volume)?
            .iter()
            .min_by_key(|w| w.begun)
            .cloned()
    }

    /// The requests of this host that wait.
    pub(crate) fn all_wants(&self) -> Vec<(VolumeId, Want)> {
        let waiting = locked(&self.waiting);
        let each = waiting.iter();
        let each = each.flat_map(|(volume, wants)| wants.iter().map(|w| (*volume, w.clone())));
        each.collect()
    }

    /// The attachment of `vm` ended without it.
    pub(crate) fn superseded(&self, vm: &VmId, volume: VolumeId, epoch: Epoch) {
        self.tell(vm, &Notice::Superseded { volume, epoch });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use uuid::Uuid;

    use super::*;

    fn volume(n: u128) -> VolumeId {
        VolumeId::new(Uuid::from_u128(n))
    }

    fn vm(n: u128) -> VmRef {
        VmRef {
            id: VmId {
                instance_uuid: Uuid::from_u128(n),
                config_path: String::new(),
            },
            name: format!("vm{n}"),
        }
    }

    async fn hears(changes: &mut Changes) -> bool {
        let wait = timeout(Duration::from_millis(1), changes.changed());
        wait.await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_wakes_who_waits_for_that_volume_and_leaves_nothing_behind() {
        let notices = Notices::default();
        let (mut first, mut also, mut other) = (
            notices.changes(volume(1)),
            notices.changes(volume(1)),
            notices.changes(volume(2)),
        );
        notices.changed(volume(1));
        assert!(hears(&mut first).await && hears(&mut also).await);
        assert!(!hears(&mut other).await);
        drop(first);
        notices.changed(volume(1));
        assert!(hears(&mut also).await, "the second still listens");
        drop((also, other));
        assert!(locked(&notices.wakers).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_vm_that_changed_wakes_who_waits_for_what_it_holds() {
        let notices = Notices::default();
        let now = (Timestamp::default(), Instant::now());
        let (owner, stranger) = (vm(1), vm(2));
        let mut changes = notices.changes(volume(1));
        let waiter = notices.wait(volume(1), Some(&owner.id), &vm(3), now);
        notices.vms_changed(&[stranger.id].into());
        assert!(!hears(&mut changes).await);
        notices.vms_changed(&[owner.id].into());
        assert!(hears(&mut changes).await);
        drop(waiter);
        assert!(notices.first_want(volume(1)).is_none());
        assert!(locked(&notices.waiting).is_empty());
    }
}
