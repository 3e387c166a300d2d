//! What administrators do to hosts and VMs that has nothing to do with volumes, and stands in their way.

use std::time::Duration;

use vdvs_domain::{DatastoreName, HostId, VmId};
use vdvs_engine::ports::{Autostart, DiskPath};

use crate::state::Device;
use crate::world::World;

impl World {
    /// A snapshot of a VM contains the disk, or does not any more.
    pub fn pin(&self, vm: &VmId, disk: &DiskPath, pinned: bool) {
        let what = (vm.clone(), disk.clone());
        let mut state = self.state();
        match pinned {
            true => drop(state.pinned.insert(what)),
            false => drop(state.pinned.remove(&what)),
        }
    }

    /// No snapshot of any VM contains a disk any more.
    pub fn pin_nothing(&self) {
        self.state().pinned.clear();
    }

    /// Calls take up to so many milliseconds from now on, each as luck has it.
    pub fn set_pace(&self, luck: u64, most: u64) {
        // Never zero, and seeds that are neighbours are none here.
        let luck = luck.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        self.state().pace = (luck, most);
    }

    /// Folders are listed in two parts, one after the other, as large ones are: what takes the place of something
    /// meanwhile may be in the first, and what it replaced in the second.
    pub fn list_in_parts(&self) {
        self.state().lists_in_parts = true;
    }

    /// A host starts a VM by itself, so long after its own start; `None`: it does not any more.
    pub fn set_autostart(&self, host: HostId, vm: &VmId, after: Option<Duration>) {
        let mut state = self.state();
        let started = state.autostart.entry(host).or_default();
        started.retain(|s| s.vm != *vm);
        started.extend(after.map(|after| Autostart {
            vm: vm.clone(),
            after,
        }));
    }
}

/// Damage, and what is done behind the agent's back.
impl World {
    /// A disk comes into a VM's configuration without the agent.
    pub fn plug_disk(&self, vm: &VmId, disk: &DiskPath) {
        let mut state = self.state();
        if let Some(found) = state.vm_mut(vm)
            && let Some(unit) = found.free_unit()
        {
            found.devices.push(Device {
                disk: disk.clone(),
                read_only: false,
                unit,
                dead: false,
            });
        }
    }

    /// A disk is gone from its datastore.
    pub fn lose_disk(&self, disk: &DiskPath) {
        if let Some(ds) = self.state().datastores.get_mut(&disk.datastore) {
            ds.disks.remove(disk.path.as_str());
        }
    }

    /// A file is gone from its datastore.
    pub fn lose_file(&self, ds: &DatastoreName, path: &str) {
        if let Some(ds) = self.state().datastores.get_mut(ds) {
            ds.files.remove(path);
        }
    }
}
