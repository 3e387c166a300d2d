//! Who has a disk: the devices of this machine, then the lock files of other hosts.
//!
//! * A device that was not cut off holds its disk, whoever made it and whatever any lease says.
//! * A lock file of another host holds its disk while that host's lease has not lapsed.
//! * A fence that is not finished holds its disk; so does one that failed half-way.
//!
//! A host that crashed leaves devices behind that the memory of a real machine would have lost with it. They are taken
//! down by any host that sees their lease over and their VM dead.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::disks;
use super::init::Init;
use super::leases::Store;
use super::locks::{LockFile, Mode, Opener};
use super::vm::{Cut, Device};
use super::world::World;
use crate::protocol::{Answer, Disk, LabError, LabErrorKind, LockState};
use crate::qemu;
use crate::sys::{self, LoopState};

/// How long what a dead VM left behind is watched before it is taken down where no lease is kept: its own labhv, if it
/// lives, is quicker. Where one is kept, its end has been waited for.
const REAP_AFTER: Duration = Duration::from_secs(1);

pub(super) fn locked(holder: Option<String>, who: &str) -> LabError {
    LabError {
        holder,
        ..LabError::new(LabErrorKind::Locked, format!("disk is locked by {who}"))
    }
}

impl World {
    pub(super) fn store(&self, datastore: &str) -> Result<Arc<Store>, LabError> {
        self.leases
            .store(datastore)
            .cloned()
            .ok_or_else(|| disks::io(format!("this host has no datastore '{datastore}'")))
    }

    /// Nobody has the extent open in a way that excludes us. `own`: our device, just bound.
    pub(super) fn free_for(
        &self,
        store: &Store,
        extent: &Path,
        read_only: bool,
        own: Option<u32>,
    ) -> Result<(), LabError> {
        let conflict = |l: &&LoopState| Some(l.number) != own && !(read_only && l.read_only);
        let openers = disks::openers(extent)?;
        if let Some(other) = openers.iter().find(conflict) {
            let holder = self.holder(other.number);
            let who = holder.as_deref().map_or_else(
                || format!("somebody on this machine (loop{})", other.number),
                |vm| format!("VM {vm}"),
            );
            return Err(locked(holder, &who));
        }
        self.free_of_machines(extent, read_only)?;
        if let Some(vm) = self.fencing(extent) {
            return Err(locked(
                Some(vm.to_owned()),
                &format!("VM {vm}, being fenced"),
            ));
        }
        self.free_of_others(store, extent, read_only)
    }

    /// No other host has a lock that excludes us.
    pub(super) fn free_of_others(
        &self,
        store: &Store,
        extent: &Path,
        read_only: bool,
    ) -> Result<(), LabError> {
        let others = store.others(extent).map_err(|e| unreadable(store, &e))?;
        match others
            .into_iter()
            .find(|l| !(read_only && l.mode == Mode::Read))
        {
            None => Ok(()),
            Some(l) => {
                let who = format!("VM {} of host {}", l.vm, l.host);
                Err(locked(Some(l.vm), &who))
            }
        }
    }

    /// The VM from which this extent is being taken.
    fn fencing(&self, extent: &Path) -> Option<&str> {
        self.vms.iter().find_map(|(name, vm)| {
            let fencing =
                |d: &&Device| d.extent == extent && d.configured.cut == Some(Cut::Fencing);
            vm.devices.iter().find(fencing).map(|_| name.as_str())
        })
    }

    /// Writes our lock file for a disk that this VM is about to open, or has open.
    pub(super) fn take_lock(&self, name: &str, index: usize) -> Result<(), LabError> {
        let vm = self.vm(name)?;
        let Some(device) = vm.devices.get(index) else {
            return Ok(());
        };
        let store = self.store(&device.configured.disk.datastore)?;
        let opener = Opener {
            vm: name,
            instance_uuid: vm.file.instance_uuid,
            init: vm.file.init,
            read_only: device.configured.read_only,
        };
        store
            .take(&device.extent, &opener)
            .map_err(|e| unreadable(&store, &e))
    }

    /// Removes our lock file. One that cannot be removed now is swept later.
    pub(super) fn let_go(&self, datastore: &str, extent: &Path, vm: &str) {
        let Some(store) = self.leases.store(datastore) else {
            return;
        };
        if let Err(e) = store.release(extent, vm)
            && store.reachable().is_ok()
        {
            warn!(datastore, vm, error = %e, "cannot remove a lock file");
        }
    }

    /// Names of our lock files on a datastore that stand for something open.
    pub(super) fn locks_in_use(&self, store: &Store) -> BTreeSet<String> {
        let mut keep = BTreeSet::new();
        for (name, vm) in &self.vms {
            for device in &vm.devices {
                let here = device.configured.disk.datastore == store.name;
                let fencing = device.configured.cut == Some(Cut::Fencing);
                let open = device.is_open() && !vm.file.suspended;
                if here && (open || fencing) {
                    keep.extend(store.lock_name(&device.extent, name).ok());
                }
            }
        }
        for c in self.closing.iter().filter(|c| c.datastore == store.name) {
            keep.extend(store.lock_name(&c.extent, &c.vm).ok());
        }
        keep
    }

    /// Removes our lock files that stand for nothing.
    pub(super) fn sweep_locks(&self, store: &Store) -> io::Result<()> {
        store.sweep(&self.locks_in_use(store))
    }

    /// The VM a loop device serves; one of another host on this machine is known by the device's label.
    pub(super) fn holder(&self, number: u32) -> Option<String> {
        let ours = self
            .vms
            .iter()
            .find(|(_, vm)| vm.devices.iter().any(|d| d.open == Some(number)));
        if let Some((name, _)) = ours {
            return Some(name.clone());
        }
        if let Some(closing) = self.closing.iter().find(|c| c.number == number) {
            return Some(closing.vm.clone());
        }
        let label = sys::loop_label(number).ok()?;
        let (_, vm) = label.strip_prefix("vdvs:")?.split_once(':')?;
        Some(vm.to_owned())
    }

    pub(super) fn lock(&self, disk: &Disk) -> Result<Answer, LabError> {
        let answer = |state, holder| Ok(Answer::Lock { state, holder });
        let unknown = || answer(LockState::Unknown, None);
        let store = match self.leases.store(&disk.datastore) {
            Some(store) if store.reachable().is_err() => return unknown(),
            other => other,
        };
        let extent = match disks::locate(&self.config, disk) {
            Ok(files) => files.extent().to_owned(),
            Err(e) if e.kind == LabErrorKind::Io => return unknown(),
            Err(e) => return Err(e),
        };
        let Some(store) = store else {
            return unknown();
        };
        // The files first: between the two looks a lock can only end.
        let (Ok(others), Ok(openers)) = (store.others(&extent), disks::openers(&extent)) else {
            return unknown();
        };
        if let Some(l) = openers.first() {
            return answer(LockState::Held, self.holder(l.number));
        }
        match qemu::in_use(&extent) {
            Err(_) => return unknown(),
            Ok(qemu::Use::Free) => {}
            Ok(_) => {
                let other = || others.first().map(|l| l.vm.clone());
                let holder = self.machine_with(&extent).or_else(other);
                return answer(LockState::Held, holder);
            }
        }
        let fencing = self.fencing(&extent).map(str::to_owned);
        match fencing.or_else(|| others.into_iter().next().map(|l| l.vm)) {
            Some(vm) => answer(LockState::Held, Some(vm)),
            None => answer(LockState::Free, None),
        }
    }

    /// Takes down what a crashed host left bound on this machine.
    pub(super) fn reap(&mut self) {
        let mut still = Vec::new();
        for store in self.leases.stores().iter().filter(|s| s.answers()) {
            // An unreadable datastore tells nothing; there is another time.
            for lock in store.left_behind().unwrap_or_default() {
                if is_dead(&lock) {
                    still.push((Arc::clone(store), lock));
                }
            }
        }
        let key = |store: &Store, lock: &LockFile| {
            (
                store.name.clone(),
                lock.disk.clone(),
                lock.host_id.clone(),
                lock.vm.clone(),
            )
        };
        let now = Instant::now();
        let keys: BTreeSet<_> = still.iter().map(|(s, l)| key(s, l)).collect();
        self.behind.retain(|k, _| keys.contains(k));
        for (store, lock) in still {
            let since = *self.behind.entry(key(&store, &lock)).or_insert(now);
            if store.keeps_leases() || since.elapsed() >= REAP_AFTER {
                take_down(&store, &lock);
            }
        }
    }
}

fn unreadable(store: &Store, e: &io::Error) -> LabError {
    disks::io(format!("cannot lock on datastore '{}': {e}", store.name))
}

/// The VM that had the lock is dead on this machine.
fn is_dead(lock: &LockFile) -> bool {
    lock.init
        .is_some_and(|id| matches!(Init::hold(id), Ok(None)))
}

fn take_down(store: &Store, lock: &LockFile) {
    let extent = store.root.join(&lock.disk);
    let label = device_label(&lock.host_id, &lock.vm);
    for l in disks::openers(&extent).unwrap_or_default() {
        let cut = sys::loop_open_as(l.number, &extent, &label).and_then(|device| match device {
            None => Ok(false),
            Some(d) => d.cut().and_then(|()| d.clear()).map(|()| true),
        });
        match cut {
            Ok(true) => {
                info!(
                    number = l.number,
                    vm = lock.vm,
                    host = lock.host,
                    "closed a device of a dead host"
                );
            }
            Ok(false) => {}
            Err(e) => {
                warn!(number = l.number, error = %e, "cannot close a device of a dead host");
            }
        }
    }
}

/// What a device is labelled with, as long as the kernel keeps it.
pub(super) fn device_label(host_id: &str, vm: &str) -> String {
    const KEPT: usize = 63;
    let label = format!("vdvs:{host_id}:{vm}");
    let end = (0..=KEPT.min(label.len()))
        .rev()
        .find(|at| label.is_char_boundary(*at));
    label.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
