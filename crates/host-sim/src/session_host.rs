//! The hypervisor's port.

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};
use vdvs_domain::VmId;
use vdvs_engine::ports::{
    AttachedDisk, Autostart, Detached, DiskLock, DiskPath, Host, HostError, HostIdentity, Power,
    Vm, VmDisk,
};

use crate::changes::{Change, What};
use crate::session::{Broken, Session};
use crate::state::{State, VmState, disks_of};

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

impl Session {
    fn change(&self, vm: &VmId, disk: &DiskPath, what: What) -> Change {
        Change {
            host: self.host,
            vm: vm.clone(),
            disk: disk.clone(),
            what,
        }
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
            found
                .map(VmState::disks)
                .ok_or_else(|| HostError::NoSuchVm {
                    vm: vm.config_path.clone(),
                })
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
        let change = self.change(vm, disk, What::Attach { read_only });
        self.call_or_later("attach", Some(&change), |state, _| change.attach(state))
            .await?
    }

    async fn detach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        _deadline: Instant,
    ) -> Result<Detached, HostError> {
        let change = self.change(vm, disk, What::Detach);
        self.call_or_later("detach", Some(&change), |state, _| change.detach(state))
            .await?
    }

    async fn fence(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        _deadline: Instant,
    ) -> Result<Detached, HostError> {
        let change = self.change(vm, disk, What::Fence);
        self.call_or_later("fence", Some(&change), |state, _| change.detach(state))
            .await?
    }

    async fn pinned(&self, vm: &VmId) -> Result<Vec<DiskPath>, HostError> {
        let of_vm = |state: &mut State| {
            let pinned = state.pinned.iter();
            let pinned = pinned.filter(|(of, _)| of == vm);
            pinned.map(|(_, disk)| disk.clone()).collect()
        };
        Ok(self.call("pinned", |state, _| of_vm(state)).await?)
    }

    async fn autostart(&self) -> Result<Vec<Autostart>, HostError> {
        let host = self.host;
        let mine = |state: &mut State| state.autostart.get(&host).cloned().unwrap_or_default();
        Ok(self.call("autostart", |state, _| mine(state)).await?)
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
        let changes = self.call("changed", |state, _| {
            let host = state.hosts.get(&self.host);
            host.map(|host| host.changes.clone())
        });
        let Some(changes) = changes.await? else {
            return Err(HostError::Failed {
                why: "no such host".to_owned(),
            });
        };
        // Generations begin with 1, so that who knows none asks with 0.
        let seen = generation.checked_sub(1);
        if let Some(seen) = seen {
            // The deadline: the present number all the same.
            drop(timeout_at(deadline, changes.after(seen)).await);
        }
        Ok(changes.count().saturating_add(1))
    }
}
