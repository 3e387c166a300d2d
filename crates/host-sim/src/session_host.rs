//! The hypervisor's port.

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use vdvs_domain::VmId;
use vdvs_engine::ports::{
    AttachedDisk, Detached, DiskLock, DiskPath, Host, HostError, HostIdentity, Power, Vm, VmDisk,
};

use crate::session::{Broken, Session};
use crate::state::{Device, State, VmState, disks_of};

impl From<Broken> for HostError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Failed => Self::Failed {
                why: "the simulated host refuses".to_owned(),
            },
            Broken::NoAnswer => Self::NoAnswer {
                why: "the simulated connection broke".to_owned(),
            },
        }
    }
}

fn no_such_vm(vm: &VmId) -> HostError {
    HostError::NoSuchVm {
        vm: vm.config_path.clone(),
    }
}

impl Session {
    fn attach_now(
        &self,
        state: &mut State,
        vm: &VmId,
        disk: &DiskPath,
        read_only: bool,
    ) -> Result<AttachedDisk, HostError> {
        let found = state
            .vm(vm)
            .filter(|v| v.host == self.host)
            .ok_or_else(|| no_such_vm(vm))?;
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
        Ok(attached)
    }

    fn detach_now(
        &self,
        state: &mut State,
        vm: &VmId,
        disk: &DiskPath,
        force: bool,
    ) -> Result<Detached, HostError> {
        let host = self.host;
        if let Some(ghost) = state.ghost(host, vm) {
            let before = ghost.len();
            ghost.retain(|d| d.disk != *disk);
            return Ok(match ghost.len() < before {
                true => Detached::Removed,
                false => Detached::WasAbsent,
            });
        }
        let found = state
            .vm_mut(vm)
            .filter(|v| v.host == host)
            .ok_or_else(|| no_such_vm(vm))?;
        let Some(device) = found.device(disk) else {
            return Ok(Detached::WasAbsent);
        };
        if !force && !device.dead && found.power != Power::Off && found.busy.contains(disk) {
            return Err(HostError::Busy);
        }
        found.devices.retain(|d| d.disk != *disk);
        found.busy.remove(disk);
        state.bump(host);
        Ok(Detached::Removed)
    }
}

fn answer(device: &Device) -> AttachedDisk {
    AttachedDisk {
        locator: device.locator(),
        disk_uuid: Some(format!("sim-{}", device.disk.path.file_name())),
    }
}

#[async_trait]
impl Host for Session {
    fn identity(&self) -> HostIdentity {
        let state = self.world.state();
        HostIdentity {
            id: self.host,
            name: state
                .hosts
                .get(&self.host)
                .map(|h| h.name.clone())
                .unwrap_or_default(),
            kind: "sim",
        }
    }

    async fn vms(&self) -> Result<Vec<Vm>, HostError> {
        let list = self.call("vms", |state, _| {
            let ghosts = state.hosts.get(&self.host).map(|h| &h.ghosts);
            let power = |v: &VmState| match v.host == self.host {
                true => Some(v.power),
                false => ghosts.filter(|g| g.contains_key(&v.id)).map(|_| Power::Off),
            };
            let here = state.vms.iter().filter_map(|v| Some((v, power(v)?)));
            here.map(|(v, power)| Vm {
                id: v.id.clone(),
                name: v.name.clone(),
                power,
                home: Some(v.home.clone()),
            })
            .collect()
        });
        Ok(list.await?)
    }

    async fn disks(&self, vm: &VmId) -> Result<Vec<VmDisk>, HostError> {
        self.call("disks", |state, _| {
            if let Some(ghost) = state.ghost(self.host, vm) {
                return Ok(disks_of(ghost, false));
            }
            let found = state.vm(vm).filter(|v| v.host == self.host);
            found.map(VmState::disks).ok_or_else(|| no_such_vm(vm))
        })
        .await?
    }

    async fn attach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        read_only: bool,
        _deadline: Instant,
    ) -> Result<AttachedDisk, HostError> {
        self.call("attach", |state, _| {
            self.attach_now(state, vm, disk, read_only)
        })
        .await?
    }

    async fn detach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        _deadline: Instant,
    ) -> Result<Detached, HostError> {
        self.call("detach", |state, _| self.detach_now(state, vm, disk, false))
            .await?
    }

    async fn fence(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        _deadline: Instant,
    ) -> Result<Detached, HostError> {
        self.call("fence", |state, _| self.detach_now(state, vm, disk, true))
            .await?
    }

    async fn lock(&self, disk: &DiskPath) -> DiskLock {
        let lock = self
            .call("lock", |state, _| state.lock(disk, Instant::now()))
            .await;
        lock.unwrap_or_else(|_| DiskLock::Unknown {
            why: "the simulated connection broke".to_owned(),
        })
    }

    async fn changed(&self, generation: u64, deadline: Instant) -> Result<u64, HostError> {
        let watch = self.call("changed", |state, _| {
            state
                .hosts
                .get(&self.host)
                .map(|host| host.generation.subscribe())
        });
        let Some(mut watch) = watch.await? else {
            return Err(HostError::Failed {
                why: "no such host".to_owned(),
            });
        };
        // The deadline or a dropped world: the present number either way.
        drop(timeout_at(deadline, watch.wait_for(|now| *now > generation)).await);
        let now = *watch.borrow();
        Ok(now)
    }
}
