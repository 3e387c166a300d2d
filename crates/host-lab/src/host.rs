//! The engine's [`Host`] port, by asking labhv. A labhv that is not there did nothing; one that does not answer may
//! have done what was asked, and only looking tells.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{DatastoreName, HostId, VmId};
use vdvs_engine::ports::{
    AttachedDisk, Detached, DiskLock, DiskPath, DsPath, Host, HostError, HostIdentity, Power, Vm,
    VmDisk,
};

use crate::client::{ClientError, LabClient};
use crate::config::{ConfigError, HostConfig};
use crate::known::Known;
use crate::protocol::{self, Disk, LabErrorKind, LockState};

/// For calls without a deadline of their own. labhv answers such calls in less than a millisecond, behind an attach
/// or a power cut in a few seconds.
const LIMIT: Duration = Duration::from_secs(10);

/// A lab host.
#[derive(Debug)]
pub struct LabHost {
    identity: HostIdentity,
    labhv: LabClient,
    known: Known,
}

impl LabHost {
    /// The host in this folder; labhv need not run yet.
    ///
    /// # Errors
    /// When its `host.json` cannot be used.
    pub fn new(host_dir: &Path) -> Result<Self, ConfigError> {
        let config = HostConfig::load(host_dir)?;
        let identity = HostIdentity {
            id: HostId::new(config.host_id),
            name: config.name,
            kind: "lab",
        };
        Ok(Self {
            identity,
            labhv: client(host_dir),
            known: Known::default(),
        })
    }

    /// labhv's name for a VM. Asked each time: a name may be given to another VM later.
    async fn name(&self, vm: &VmId, deadline: Instant) -> Result<String, HostError> {
        let vms = self
            .labhv
            .vms(deadline)
            .await
            .map_err(|e| fault(e, &vm.config_path, ""))?;
        vms.into_iter()
            .find(|v| v.instance_uuid == vm.instance_uuid && v.config_path == vm.config_path)
            .map(|v| v.name)
            .ok_or_else(|| HostError::NoSuchVm {
                vm: format!("{} ({})", vm.config_path, vm.instance_uuid),
            })
    }

    async fn remove(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        force: bool,
        deadline: Instant,
    ) -> Result<Detached, HostError> {
        let name = self.name(vm, deadline).await?;
        let changed = self
            .labhv
            .detach(&name, &asked(disk), force, deadline)
            .await
            .map_err(|e| fault(e, &name, &disk.to_string()))?;
        Ok(if changed {
            Detached::Removed
        } else {
            Detached::WasAbsent
        })
    }
}

/// The client of the labhv that serves this host's folder.
pub(crate) fn client(host_dir: &Path) -> LabClient {
    LabClient::new(&host_dir.join("labhv.sock"))
}

/// The protocol's form of a disk.
pub(crate) fn asked(disk: &DiskPath) -> Disk {
    Disk {
        datastore: disk.datastore.to_string(),
        path: disk.path.to_string(),
    }
}

fn vm(state: protocol::VmState) -> Vm {
    Vm {
        home: home(&state.config_path),
        id: VmId {
            instance_uuid: state.instance_uuid,
            config_path: state.config_path,
        },
        name: state.name,
        power: match state.power {
            protocol::Power::On => Power::On,
            protocol::Power::Off => Power::Off,
            protocol::Power::Suspended => Power::Suspended,
        },
    }
}

/// The datastore in `[datastore] folder/file.vmx`.
fn home(config_path: &str) -> Option<DatastoreName> {
    let (name, _) = config_path.strip_prefix('[')?.split_once(']')?;
    DatastoreName::new(name).ok()
}

fn disk(device: protocol::Device) -> Result<VmDisk, HostError> {
    let failed = |why: String| HostError::Failed { why };
    let datastore =
        DatastoreName::new(&device.disk.datastore).map_err(|e| failed(e.to_string()))?;
    let path = DsPath::new(&device.disk.path).map_err(|e| failed(e.to_string()))?;
    Ok(VmDisk {
        disk: DiskPath { datastore, path },
        read_only: device.read_only,
        locator: locator(&device),
    })
}

/// Where the guest finds it: a SCSI address in a QEMU VM, else a path.
fn locator(device: &protocol::Device) -> Option<Locator> {
    let scsi = device.place.map(|place| Locator::Scsi {
        controller_pci_slot: place.pci_slot,
        target: place.target,
    });
    scsi.or_else(|| device.locator.clone().map(Locator::Path))
}

fn fault(error: ClientError, vm: &str, disk: &str) -> HostError {
    match error {
        ClientError::Refused(refusal) => match refusal.kind {
            LabErrorKind::NoSuchVm => HostError::NoSuchVm { vm: vm.to_owned() },
            LabErrorKind::PoweredOff => HostError::PoweredOff { vm: vm.to_owned() },
            LabErrorKind::NoSuchDisk => HostError::NoSuchDisk {
                disk: disk.to_owned(),
            },
            LabErrorKind::Locked => HostError::Locked {
                holder: refusal.holder.unwrap_or(refusal.text),
            },
            LabErrorKind::NoSpace => HostError::NoSlot { vm: vm.to_owned() },
            LabErrorKind::Busy => HostError::Busy,
            // labhv undoes what it could not finish before it says so.
            LabErrorKind::Invalid | LabErrorKind::Io => HostError::Failed { why: refusal.text },
            LabErrorKind::Unfinished => HostError::NoAnswer { why: refusal.text },
        },
        // Nothing was sent, so nothing can have happened.
        unreachable @ ClientError::Unreachable(..) => HostError::Failed {
            why: unreachable.to_string(),
        },
        ClientError::NoAnswer(why) => HostError::NoAnswer { why },
    }
}

#[async_trait]
impl Host for LabHost {
    fn identity(&self) -> HostIdentity {
        self.identity.clone()
    }

    async fn vms(&self) -> Result<Vec<Vm>, HostError> {
        let vms = self
            .labhv
            .vms(Instant::now() + LIMIT)
            .await
            .map_err(|e| fault(e, "", ""))?;
        Ok(vms.into_iter().map(vm).collect())
    }

    async fn known_vms(&self) -> Result<Arc<Vec<Vm>>, HostError> {
        if let Some(vms) = self.known.now() {
            return Ok(vms);
        }
        // First the generation, then the list: a change in between makes the list too new for it, never too old.
        let generation = self.changed(0, Instant::now() + LIMIT).await?;
        let vms = Arc::new(self.vms().await?);
        self.known.learn(generation, &vms);
        Ok(vms)
    }

    async fn disks(&self, vm: &VmId) -> Result<Vec<VmDisk>, HostError> {
        let deadline = Instant::now() + LIMIT;
        let name = self.name(vm, deadline).await?;
        let devices = self
            .labhv
            .devices(&name, deadline)
            .await
            .map_err(|e| fault(e, &name, ""))?;
        devices.into_iter().map(disk).collect()
    }

    async fn attach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        read_only: bool,
        deadline: Instant,
    ) -> Result<AttachedDisk, HostError> {
        let name = self.name(vm, deadline).await?;
        let (device, _) = self
            .labhv
            .attach(&name, &asked(disk), read_only, deadline)
            .await
            .map_err(|e| fault(e, &name, &disk.to_string()))?;
        let locator = locator(&device).ok_or_else(|| HostError::NoAnswer {
            why: "labhv attached the disk and does not say where".to_owned(),
        })?;
        // A loop device shows the guest no SCSI page, and QEMU's page holds 64 of the 128 bits: nothing it could
        // compare.
        Ok(AttachedDisk {
            locator,
            disk_uuid: None,
        })
    }

    async fn detach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        deadline: Instant,
    ) -> Result<Detached, HostError> {
        self.remove(vm, disk, false, deadline).await
    }

    async fn fence(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        deadline: Instant,
    ) -> Result<Detached, HostError> {
        self.remove(vm, disk, true, deadline).await
    }

    async fn lock(&self, disk: &DiskPath) -> DiskLock {
        match self.labhv.lock(&asked(disk), Instant::now() + LIMIT).await {
            Ok((LockState::Free, _)) => DiskLock::Free,
            Ok((LockState::Held, holder)) => DiskLock::Held {
                by: holder.unwrap_or_else(|| "another program".to_owned()),
            },
            Ok((LockState::Unknown, _)) => DiskLock::Unknown {
                why: "labhv cannot tell".to_owned(),
            },
            Err(e) => DiskLock::Unknown { why: e.to_string() },
        }
    }

    async fn changed(&self, generation: u64, deadline: Instant) -> Result<u64, HostError> {
        let wait = self.known.wait(generation);
        let now = self.labhv.wait_change(generation, deadline).await;
        if now.as_ref().ok() != Some(&generation) {
            self.known.forget();
        }
        drop(wait);
        now.map_err(|e| fault(e, "", ""))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn a_vms_home_is_the_datastore_of_its_configuration() {
        let home = |path| home(path).map(|d| d.to_string());
        assert_eq!(
            home("[vsanDatastore] a/a.vmx").as_deref(),
            Some("vsanDatastore")
        );
        assert_eq!(home("/vmfs/volumes/a/a.vmx"), None);
    }

    #[test]
    fn only_a_question_that_was_sent_has_an_unknown_outcome() {
        let silent = fault(ClientError::NoAnswer("x".to_owned()), "vm", "disk");
        assert!(silent.outcome_is_unknown());
        let absent = ClientError::Unreachable("/nowhere".into(), Error::other("x"));
        assert!(!fault(absent, "vm", "disk").outcome_is_unknown());
        let half_way = protocol::LabError::new(LabErrorKind::Unfinished, "x");
        assert!(fault(half_way.into(), "vm", "disk").outcome_is_unknown());
    }
}
