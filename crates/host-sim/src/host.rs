//! The hypervisor of one simulated host.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::{self, Instant};
use vdvs_domain::ownership::Locator;
use vdvs_domain::{HostId, VmId};
use vdvs_engine::ports::{
    AttachedDisk, Detached, DiskLock, DiskPath, Host, HostError, HostIdentity, Power, Vm, VmDisk,
};

use crate::faults::CallKind;
use crate::world::{Device, State, VmState, World};

/// Four controllers of fifteen disks.
const UNITS: u32 = 60;

/// One host's hypervisor.
#[derive(Debug)]
pub struct SimHost {
    world: Arc<World>,
    id: HostId,
    name: String,
}

impl SimHost {
    pub(crate) fn new(world: Arc<World>, id: HostId, name: &str) -> Self {
        Self {
            world,
            id,
            name: name.to_owned(),
        }
    }

    fn vm<'a>(&self, state: &'a mut State, vm: &VmId) -> Result<&'a mut VmState, HostError> {
        match state.vms.get_mut(vm) {
            Some(found) if found.host == self.id => Ok(found),
            _ => Err(HostError::NoSuchVm {
                vm: vm.config_path.clone(),
            }),
        }
    }
}

fn refused(why: &'static str, unknown: bool) -> HostError {
    if unknown {
        HostError::NoAnswer {
            why: why.to_owned(),
        }
    } else {
        HostError::Failed {
            why: why.to_owned(),
        }
    }
}

fn locator(unit: u32) -> Locator {
    Locator::Path(format!("/dev/sim{unit}"))
}

#[async_trait]
impl Host for SimHost {
    fn identity(&self) -> HostIdentity {
        HostIdentity {
            id: self.id,
            name: self.name.clone(),
            kind: "sim",
        }
    }

    async fn vms(&self) -> Result<Vec<Vm>, HostError> {
        let list = |state: &mut State, _: bool| {
            let here = state.vms.iter().filter(|(_, vm)| vm.host == self.id);
            let vms = here.map(|(id, vm)| Vm {
                id: id.clone(),
                name: vm.name.clone(),
                power: vm.power,
                home: Some(vm.home.clone()),
            });
            Ok(vms.collect())
        };
        self.world.call(CallKind::HostVms, refused, list).await
    }

    async fn disks(&self, vm: &VmId) -> Result<Vec<VmDisk>, HostError> {
        let list = |state: &mut State, _: bool| {
            let vm = self.vm(state, vm)?;
            let on = vm.power == Power::On;
            let disks = vm.devices.iter().map(|d| VmDisk {
                disk: d.disk.clone(),
                read_only: d.read_only,
                locator: on.then(|| locator(d.unit)),
            });
            Ok(disks.collect())
        };
        self.world.call(CallKind::HostDisks, refused, list).await
    }

    async fn attach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        read_only: bool,
        _deadline: Instant,
    ) -> Result<AttachedDisk, HostError> {
        let attach = |state: &mut State, _: bool| {
            let there = self.vm(state, vm)?;
            if there.power != Power::On {
                return Err(HostError::PoweredOff {
                    vm: there.name.clone(),
                });
            }
            if let Some(has) = there.devices.iter().find(|d| d.disk == *disk) {
                return if has.read_only == read_only {
                    Ok(AttachedDisk {
                        locator: locator(has.unit),
                        disk_uuid: None,
                    })
                } else {
                    Err(HostError::Failed {
                        why: "it is attached in the other mode".to_owned(),
                    })
                };
            }
            let exists = state
                .datastore(self.id, &disk.datastore)
                .map_err(|why| HostError::Failed {
                    why: why.to_string(),
                })?
                .disks
                .contains_key(disk.path.as_str());
            if !exists {
                return Err(HostError::NoSuchDisk {
                    disk: disk.to_string(),
                });
            }
            if let Some(holder) = state.blocker(disk, read_only, Some(vm)) {
                return Err(HostError::Locked { holder });
            }
            let there = self.vm(state, vm)?;
            let taken = |unit: &u32| there.devices.iter().any(|d| d.unit == *unit);
            let Some(unit) = (0..UNITS).find(|unit| !taken(unit)) else {
                return Err(HostError::NoSlot {
                    vm: there.name.clone(),
                });
            };
            there.devices.push(Device {
                disk: disk.clone(),
                read_only,
                unit,
            });
            Ok(AttachedDisk {
                locator: locator(unit),
                disk_uuid: None,
            })
        };
        self.world.call(CallKind::HostAttach, refused, attach).await
    }

    async fn detach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        _deadline: Instant,
    ) -> Result<Detached, HostError> {
        let detach = |state: &mut State, _: bool| {
            let vm = self.vm(state, vm)?;
            if vm.power != Power::Off && vm.in_use.contains(disk) {
                return Err(HostError::Busy);
            }
            let before = vm.devices.len();
            vm.devices.retain(|d| d.disk != *disk);
            Ok(if vm.devices.len() < before {
                Detached::Removed
            } else {
                Detached::WasAbsent
            })
        };
        self.world.call(CallKind::HostDetach, refused, detach).await
    }

    async fn lock(&self, disk: &DiskPath) -> DiskLock {
        let asked = self
            .world
            .call(CallKind::HostLock, refused, |_, _| Ok(()))
            .await;
        match asked {
            Ok(()) => self.world.lock_of(disk),
            Err(why) => DiskLock::Unknown {
                why: why.to_string(),
            },
        }
    }

    async fn changed(&self, generation: u64, deadline: Instant) -> Result<u64, HostError> {
        let waited = time::timeout_at(deadline, self.world.wait_changed(generation)).await;
        Ok(waited.unwrap_or_else(|_| self.world.generation()))
    }
}
