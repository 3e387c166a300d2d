//! What a host does to a VM's configuration, now or later than anybody waits for.

use tokio::time::Instant;
use vdvs_domain::{HostId, VmId};
use vdvs_engine::ports::{AttachedDisk, Detached, DiskPath, HostError, Power};

use crate::observe::{Event, Removal};
use crate::state::{Device, State};

/// A change of one disk of one VM.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) host: HostId,
    pub(crate) vm: VmId,
    pub(crate) disk: DiskPath,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    Attach { read_only: bool },
    Detach,
    Fence,
}

impl Change {
    /// Takes effect, when nobody hears of it any more.
    pub(crate) fn unheard(&self, state: &mut State) {
        match self.what {
            What::Attach { .. } => drop(self.attach(state)),
            What::Detach | What::Fence => drop(self.detach(state)),
        }
    }

    fn no_such_vm(&self) -> HostError {
        let vm = self.vm.config_path.clone();
        HostError::NoSuchVm { vm }
    }

    /// Hot-adds the disk.
    pub(crate) fn attach(&self, state: &mut State) -> Result<AttachedDisk, HostError> {
        let What::Attach { read_only } = self.what else {
            let why = "a detach is no attach".to_owned();
            return Err(HostError::Failed { why });
        };
        let (vm, disk) = (&self.vm, &self.disk);
        let found = state.vm(vm).filter(|v| v.host == self.host);
        let found = found.ok_or_else(|| self.no_such_vm())?;
        if found.power != Power::On {
            let vm = found.name.clone();
            return Err(HostError::PoweredOff { vm });
        }
        if let Some(device) = found.device(disk).filter(|d| !d.dead) {
            if device.read_only != read_only {
                let why = "the VM has the disk in another mode".to_owned();
                return Err(HostError::Failed { why });
            }
            return Ok(answer(device));
        }
        if !state.reaches(self.host, &disk.datastore) {
            let why = format!("datastore {} is not reachable", disk.datastore);
            return Err(HostError::Failed { why });
        }
        let there = state
            .datastores
            .get(&disk.datastore)
            .and_then(|ds| ds.disks.get(disk.path.as_str()));
        if !there.is_some_and(|d| d.complete) {
            let disk = disk.to_string();
            return Err(HostError::NoSuchDisk { disk });
        }
        if let Some(holder) = state.refusal(disk, vm, read_only, Instant::now()) {
            return Err(HostError::Locked { holder });
        }
        let unit = found.free_unit().ok_or_else(|| HostError::NoSlot {
            vm: found.name.clone(),
        })?;
        let device = Device {
            disk: disk.clone(),
            read_only,
            unit,
            dead: false,
        };
        let attached = answer(&device);
        if let Some(found) = state.vm_mut(vm) {
            // A dead one makes room for the new.
            found.devices.retain(|d| d.disk != *disk);
            found.devices.push(device);
        }
        state.bump(self.host);
        state.tell(&Event::Attached {
            vm: vm.clone(),
            host: self.host,
            disk: disk.clone(),
            read_only,
        });
        Ok(attached)
    }

    /// Takes the disk out.
    pub(crate) fn detach(&self, state: &mut State) -> Result<Detached, HostError> {
        let (host, vm, disk) = (self.host, &self.vm, &self.disk);
        if let Some(ghost) = state.ghost(host, vm) {
            let before = ghost.len();
            ghost.retain(|d| d.disk != *disk);
            return Ok(match ghost.len() < before {
                true => Detached::Removed,
                false => Detached::WasAbsent,
            });
        }
        let pinned = state.pinned.contains(&(vm.clone(), disk.clone()));
        let found = state.vm_mut(vm).filter(|v| v.host == host);
        let found = found.ok_or_else(|| self.no_such_vm())?;
        let Some(device) = found.device(disk) else {
            return Ok(Detached::WasAbsent);
        };
        if pinned {
            let why = "a snapshot of the VM contains the disk".to_owned();
            return Err(HostError::Failed { why });
        }
        let force = matches!(self.what, What::Fence);
        let running = !device.dead && found.power != Power::Off;
        if !force && running && found.busy.contains(disk) {
            return Err(HostError::Busy);
        }
        found.devices.retain(|d| d.disk != *disk);
        found.busy.remove(disk);
        state.bump(host);
        state.tell(&Event::Removed {
            vm: vm.clone(),
            disk: disk.clone(),
            how: match force {
                true => Removal::Fence,
                false => Removal::Detach,
            },
            running,
        });
        Ok(Detached::Removed)
    }
}

fn answer(device: &Device) -> AttachedDisk {
    AttachedDisk {
        locator: device.locator(),
        disk_uuid: Some(format!("sim-{}", device.disk.path.file_name())),
    }
}
