//! The engine's [`Host`] port.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vdvs_domain::VmId;
use vdvs_domain::options::AttachAs;
use vdvs_engine::ports::{
    AttachedDisk, Autostart, Detached, DiskLock, DiskPath, Host, HostError, HostIdentity, Power,
    Prepared, Vm, VmDisk,
};
use vdvs_vim::{DiskMode, Hardware, MoRef};

use crate::devices;
use crate::esx::{Esx, Known};
use crate::faults;
use crate::locks::Locks;
use crate::queues::Queues;
use crate::stores::Stores;

/// For calls without a deadline of their own.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// An ESXi host.
#[derive(Debug)]
pub struct EsxHost {
    pub(crate) identity: HostIdentity,
    pub(crate) esx: Arc<Esx>,
    pub(crate) stores: Arc<Stores>,
    pub(crate) locks: Arc<Locks>,
    pub(crate) queues: Queues,
    /// Ends the waiter.
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Drop for EsxHost {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl EsxHost {
    /// Ends the waiter and waits until its session is closed.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The VM of this identity. Two of one identity are refused: nobody could say which of them is meant.
    pub(crate) async fn find(&self, id: &VmId, deadline: Instant) -> Result<Known, HostError> {
        let name = || format!("{} ({})", id.config_path, id.instance_uuid);
        let found = self
            .esx
            .vm(id, deadline)
            .await
            .map_err(|e| faults::host(&e, &name(), ""))?;
        let mut found = found.into_iter();
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(one),
            (None, _) => Err(HostError::NoSuchVm { vm: name() }),
            (Some(one), Some(other)) => Err(HostError::Failed {
                why: format!(
                    "VMs '{}' and '{}' have the same instance UUID and configuration file {}: remove one of them from \
                     the inventory",
                    one.vm.name,
                    other.vm.name,
                    name()
                ),
            }),
        }
    }

    /// A VM with its devices, read now.
    pub(crate) async fn look(
        &self,
        id: &VmId,
        deadline: Instant,
    ) -> Result<(Known, Hardware), HostError> {
        let seen = self.esx.vm_and_hardware(id, deadline).await;
        let name = || format!("{} ({})", id.config_path, id.instance_uuid);
        if let Some(seen) = seen.map_err(|e| faults::host(&e, &name(), ""))? {
            return Ok(seen);
        }
        let vm = self.find(id, deadline).await?;
        let hardware = self.hardware(&vm, deadline).await?;
        Ok((vm, hardware))
    }

    /// A VM's devices, read now.
    pub(crate) async fn hardware(
        &self,
        vm: &Known,
        deadline: Instant,
    ) -> Result<Hardware, HostError> {
        let read = self.esx.client.hardware(&vm.object, deadline).await;
        read.map_err(|e| faults::host(&e, &vm.vm.name, ""))?
            .ok_or_else(|| HostError::Failed {
                why: format!(
                    "hostd cannot read the configuration of VM {} now",
                    vm.vm.name
                ),
            })
    }
}

#[async_trait]
impl Host for EsxHost {
    fn identity(&self) -> HostIdentity {
        self.identity.clone()
    }

    async fn vms(&self) -> Result<Vec<Vm>, HostError> {
        let vms = self.esx.vms(Instant::now() + LIMIT).await;
        let vms = vms.map_err(|e| faults::host(&e, "", ""))?;
        Ok(vms.into_iter().map(|known| known.vm).collect())
    }

    async fn known_vms(&self) -> Result<Arc<Vec<Vm>>, HostError> {
        if let Some(vms) = self.esx.feed.list() {
            return Ok(vms);
        }
        // First the generation, then the list: a change in between makes the list too new for it, never too old.
        let generation = self.esx.feed.generation();
        let vms = Arc::new(self.vms().await?);
        self.esx.feed.learn(generation, &vms);
        Ok(vms)
    }

    async fn disks(&self, vm: &VmId) -> Result<Vec<VmDisk>, HostError> {
        let deadline = Instant::now() + LIMIT;
        let (vm, hardware) = self.look(vm, deadline).await?;
        let mine = devices::disks(&self.stores, &hardware).await;
        let shown = |m: devices::Mine| VmDisk {
            read_only: devices::is_read_only(&m.disk),
            locator: devices::locator(&hardware, &m.disk).filter(|_| vm.vm.power == Power::On),
            disk: m.path,
        };
        Ok(mine.into_iter().map(shown).collect())
    }

    async fn attach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        read_only: bool,
        deadline: Instant,
    ) -> Result<AttachedDisk, HostError> {
        let mode = AttachAs::IndependentPersistent;
        self.attach_as(vm, disk, read_only, mode, deadline).await
    }

    async fn attach_as(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        read_only: bool,
        mode: AttachAs,
        deadline: Instant,
    ) -> Result<AttachedDisk, HostError> {
        let mode = match (read_only, mode) {
            (true, _) => DiskMode::IndependentNonpersistent,
            (false, AttachAs::IndependentPersistent) => DiskMode::IndependentPersistent,
            (false, AttachAs::Persistent) => DiskMode::Persistent,
        };
        self.attach_disk(vm, disk, mode, deadline).await
    }

    async fn detach(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        deadline: Instant,
    ) -> Result<Detached, HostError> {
        self.detach_disk(vm, disk, deadline).await
    }

    /// The hypervisor takes the disk whether or not the guest uses it; what the guest sends then fails.
    async fn fence(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        deadline: Instant,
    ) -> Result<Detached, HostError> {
        self.detach_disk(vm, disk, deadline).await
    }

    async fn prepare(
        &self,
        vm: &VmId,
        controllers: u32,
        deadline: Instant,
    ) -> Result<Prepared, HostError> {
        self.make_ready(vm, controllers, deadline).await
    }

    async fn pinned(&self, vm: &VmId) -> Result<Vec<DiskPath>, HostError> {
        let deadline = Instant::now() + LIMIT;
        let vm = self.find(vm, deadline).await?;
        let hardware = self.hardware(&vm, deadline).await?;
        let mine = devices::disks(&self.stores, &hardware).await;
        let below_deltas = mine.into_iter().filter(|m| devices::has_delta(&m.disk));
        Ok(below_deltas.map(|m| m.path).collect())
    }

    async fn autostart(&self) -> Result<Vec<Autostart>, HostError> {
        let deadline = Instant::now() + LIMIT;
        let failed = |e| faults::host(&e, "", "");
        let me = self.esx.me(deadline).await.map_err(failed)?;
        let started = self.esx.client.autostart(&me.host.object, deadline).await;
        let vms = self.esx.vms(deadline).await.map_err(failed)?;
        let known = |(object, after): (MoRef, Duration)| {
            let vm = vms.iter().find(|k| k.object == object)?.vm.id.clone();
            Some(Autostart { vm, after })
        };
        Ok(started
            .map_err(failed)?
            .into_iter()
            .filter_map(known)
            .collect())
    }

    async fn lock(&self, disk: &DiskPath) -> DiskLock {
        self.locks.of(disk).await
    }

    async fn changed(&self, generation: u64, deadline: Instant) -> Result<u64, HostError> {
        Ok(self.esx.feed.wait(generation, deadline).await)
    }
}
