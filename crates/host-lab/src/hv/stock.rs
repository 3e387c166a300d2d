//! After a start: whose loop devices these are.
//!
//! By label first: other hosts on this machine share the datastores, their devices are theirs. Then by number and
//! extent: two read-only disks of two VMs look alike but for the number. A device that was cut off is only taken for
//! one that was meant to be.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::devices::CLOSE_LIMIT;
use super::leases::Store;
use super::suspend::thaw_left_behind;
use super::vm::{Cut, Device, Vm};
use super::world::World;
use crate::sys::{self, LoopState};

/// Whether `device` can be open on `l`.
fn fits(device: &Device, suspended: bool, l: &LoopState, by_number: bool) -> bool {
    let known = device.configured.loop_hint == Some(l.number);
    l.backing == device.extent
        && l.read_only == device.configured.read_only
        && (!by_number || known)
        // Cut off on purpose, or by a lost lease and not noted yet: then the number tells.
        && (!l.is_cut() || known || suspended || device.configured.cut == Some(Cut::Fencing))
}

impl World {
    /// Gives each living VM its devices back and closes what nobody names.
    pub(super) fn adopt(&mut self) -> io::Result<()> {
        let prefix = self.label();
        let is_ours =
            |l: &LoopState| sys::loop_label(l.number).is_ok_and(|x| x.starts_with(&prefix));
        let mut ours: Vec<LoopState> = sys::loops()?.into_iter().filter(is_ours).collect();
        for by_number in [true, false] {
            let living = |vm: &Vm| vm.init.is_some() && vm.shows_nodes();
            for (name, vm) in self.vms.iter_mut().filter(|(_, vm)| living(vm)) {
                let suspended = vm.file.suspended;
                let lost = |d: &Device| d.configured.cut == Some(Cut::Lost);
                for device in vm
                    .devices
                    .iter_mut()
                    .filter(|d| d.open.is_none() && !lost(d))
                {
                    let here = |l: &LoopState| fits(device, suspended, l, by_number);
                    let Some(at) = ours.iter().position(here) else {
                        continue;
                    };
                    let number = ours.remove(at).number;
                    device.open = Some(number);
                    info!(vm = name, disk = %device.configured.disk, number, "found again");
                    if device.configured.cut.is_none()
                        && let Some(Err(e)) = vm.init.as_ref().map(|i| i.add_node(number))
                    {
                        error!(vm = name, number, error = %e, "cannot show the VM its device");
                    }
                }
            }
        }
        ours.into_iter()
            .for_each(|orphan| self.close_orphan(&orphan));
        self.adopt_machines();
        Ok(())
    }

    /// Brings everything to the state that the configuration tells: leases and lock files first, then what was
    /// ordered or happened while nobody served, then what is configured and not open.
    pub(super) fn take_stock(&mut self) {
        for store in self.leases.clone().stores() {
            // Before the lease is renewed: no lock of an earlier life may come to life again.
            if let Err(e) = self.sweep_locks(store) {
                info!(datastore = store.name, error = %e, "cannot look after lock files");
            }
        }
        self.leases.begin();
        let names: Vec<String> = self.vms.keys().cloned().collect();
        for name in &names {
            self.lock_again(name);
        }
        self.finish_fences();
        for name in &names {
            let Ok(vm) = self.vm(name) else { continue };
            if vm.file.suspended && vm.init.is_some() {
                self.suspend_again(name);
            } else if vm.runs() {
                self.notice_cuts(name);
                if let Err(e) = self.open_all(name) {
                    error!(vm = name, error = %e, "cannot open a configured disk");
                }
            }
        }
    }

    /// The lock files of what is open.
    fn lock_again(&mut self, name: &str) {
        let Ok(vm) = self.vm(name) else { return };
        if vm.file.suspended {
            return;
        }
        for index in 0..vm.devices.len() {
            let vm = self.vms.get(name);
            let device = vm.and_then(|vm| vm.devices.get(index));
            if device.is_some_and(Device::is_open)
                && let Err(e) = self.take_lock(name, index)
            {
                info!(vm = name, error = %e, "cannot write a lock file");
            }
        }
    }

    /// A device of ours that no living VM's configuration names: a VM that ended with the last labhv, a detach that
    /// was cut off after its first step, or a fenced one that its guest still has mounted.
    fn close_orphan(&mut self, orphan: &LoopState) {
        let vm = self.holder(orphan.number).unwrap_or_default();
        if self.is_unreadable(&vm) {
            error!(
                number = orphan.number,
                vm, "left alone: the VM it belongs to cannot be read"
            );
            return;
        }
        // Before the number can be used again; nobody else's node can have it yet.
        for (name, living) in &self.vms {
            let init = living.init.as_ref().filter(|_| living.shows_nodes());
            if let Some(Err(e)) = init.map(|i| i.remove_node(orphan.number)) {
                error!(number = orphan.number, vm = name, error = %e, "cannot take a device from the VM");
                return;
            }
        }
        info!(number = orphan.number, vm, backing = %orphan.backing.display(), "closing a device nobody names");
        if orphan.is_cut()
            && let Err(e) = thaw_left_behind(orphan.number, &self.host_dir.join("thaw"))
        {
            warn!(number = orphan.number, error = %e, "cannot let a file system go on");
        }
        let datastore = self.datastore_of(&orphan.backing);
        self.unbind(orphan.number, &orphan.backing, &datastore, &vm, CLOSE_LIMIT);
    }

    /// The datastore an extent lies on.
    fn datastore_of(&self, extent: &Path) -> String {
        let here = |s: &&Arc<Store>| extent.starts_with(&s.root);
        let store = self.leases.stores().iter().find(here);
        store.map(|s| s.name.clone()).unwrap_or_default()
    }

    /// What was cut off by a lost lease while nobody noted it.
    fn notice_cuts(&mut self, name: &str) {
        let count = self.vms.get(name).map_or(0, |vm| vm.devices.len());
        for index in 0..count {
            let device = self.vms.get(name).and_then(|vm| vm.devices.get(index));
            if device.is_some_and(|d| d.open.is_some() && d.configured.cut.is_none()) {
                self.lose(name, index);
            }
        }
    }
}
