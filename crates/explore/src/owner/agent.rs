//! The ports of one agent in one of its lives: every call becomes an [`Op`] and waits to be chosen.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;
use vdvs_domain::{DatastoreName, HostId, RequestId, Timestamp, VmId, VolumeId};
use vdvs_engine::api::Ports;
use vdvs_engine::ports::{
    AttachedDisk, AuditEntry, AuditPage, AuditQuery, Clock, DatastoreInfo, DatastoreKind,
    Datastores, Detached, DiskLock, DiskPath, DiskSpec, DiskStat, DsPath, Entry, Host, HostError,
    HostIdentity, Ids, KeptConfig, Progress, StorageError, Store, StoreError, Vm, VmDisk,
};

use super::call::{Answer, Op};
use super::core::Shared;
use super::datastore;

/// 2026-01-01 in milliseconds: where wall clocks start.
const EPOCH_MILLIS: u64 = 1_767_225_600_000;
/// Size of the datastore.
const DATASTORE_BYTES: u64 = 10 << 40;

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) shared: Arc<Shared>,
    pub(crate) host: usize,
    pub(crate) life: u64,
}

fn lost() -> HostError {
    HostError::NoAnswer {
        why: "the connection broke".to_owned(),
    }
}

fn failed() -> StorageError {
    StorageError::Io("no answer".to_owned())
}

impl Agent {
    pub(crate) fn ports(self: &Arc<Self>) -> Ports {
        Ports {
            host: Arc::<Self>::clone(self),
            datastores: Arc::<Self>::clone(self),
            store: Arc::<Self>::clone(self),
            clock: Arc::<Self>::clone(self),
            ids: Arc::<Self>::clone(self),
        }
    }

    async fn ask(&self, op: Op) -> Answer {
        self.shared.ask(self.host, self.life, op).await
    }

    fn number(&self, vm: &VmId) -> Result<usize, HostError> {
        let core = self.shared.core();
        let found = core.world.fixed.vms.iter().position(|v| v == vm);
        found.ok_or_else(|| HostError::NoSuchVm {
            vm: vm.config_path.clone(),
        })
    }

    async fn unit(&self, op: Op) -> Result<(), StorageError> {
        match self.ask(op).await {
            Answer::Unit(answer) => answer,
            _ => Err(failed()),
        }
    }

    async fn detached(&self, op: Op) -> Result<Detached, HostError> {
        match self.ask(op).await {
            Answer::Detached(answer) => answer,
            _ => Err(lost()),
        }
    }
}

#[async_trait]
impl Host for Agent {
    fn identity(&self) -> HostIdentity {
        let core = self.shared.core();
        let id = core.world.fixed.hosts.get(self.host).copied();
        HostIdentity {
            id: id.unwrap_or(HostId::new(Uuid::nil())),
            name: format!("host{}", self.host),
            kind: "sim",
        }
    }

    async fn vms(&self) -> Result<Vec<Vm>, HostError> {
        match self.ask(Op::Vms).await {
            Answer::Vms(vms) => Ok(vms),
            _ => Err(lost()),
        }
    }

    async fn disks(&self, vm: &VmId) -> Result<Vec<VmDisk>, HostError> {
        let vm = self.number(vm)?;
        match self.ask(Op::Disks(vm)).await {
            Answer::Disks(answer) => answer,
            _ => Err(lost()),
        }
    }

    async fn attach(
        &self,
        vm: &VmId,
        _: &DiskPath,
        read_only: bool,
        _: Instant,
    ) -> Result<AttachedDisk, HostError> {
        let vm = self.number(vm)?;
        match self.ask(Op::Attach(vm, read_only)).await {
            Answer::Attached(answer) => answer,
            _ => Err(lost()),
        }
    }

    async fn detach(&self, vm: &VmId, _: &DiskPath, _: Instant) -> Result<Detached, HostError> {
        let vm = self.number(vm)?;
        self.detached(Op::Detach(vm)).await
    }

    async fn fence(&self, vm: &VmId, _: &DiskPath, _: Instant) -> Result<Detached, HostError> {
        let vm = self.number(vm)?;
        self.detached(Op::Fence(vm)).await
    }

    async fn lock(&self, _: &DiskPath) -> DiskLock {
        match self.ask(Op::Lock).await {
            Answer::Lock(lock) => lock,
            _ => DiskLock::Unknown {
                why: "no answer".to_owned(),
            },
        }
    }

    /// Nobody is told of changes: the engine has to look by itself.
    async fn changed(&self, generation: u64, deadline: Instant) -> Result<u64, HostError> {
        sleep_until(deadline).await;
        Ok(generation)
    }
}

#[async_trait]
impl Datastores for Agent {
    async fn list(&self) -> Result<Vec<DatastoreInfo>, StorageError> {
        Ok(vec![DatastoreInfo {
            name: datastore(),
            kind: DatastoreKind::Vmfs,
            accessible: true,
            capacity_bytes: DATASTORE_BYTES,
            free_bytes: DATASTORE_BYTES,
        }])
    }

    async fn read_dir(&self, _: &DatastoreName, dir: &DsPath) -> Result<Vec<Entry>, StorageError> {
        match self.ask(Op::ReadDir(dir.to_string())).await {
            Answer::Entries(answer) => answer,
            _ => Err(failed()),
        }
    }

    async fn make_dir(&self, _: &DatastoreName, dir: &DsPath) -> Result<(), StorageError> {
        self.unit(Op::MakeDir(dir.to_string())).await
    }

    async fn create_new(&self, _: &DatastoreName, file: &DsPath) -> Result<(), StorageError> {
        self.unit(Op::Create(file.to_string())).await
    }

    async fn write(
        &self,
        _: &DatastoreName,
        file: &DsPath,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        self.unit(Op::Write(file.to_string(), bytes.to_vec())).await
    }

    async fn read(
        &self,
        _: &DatastoreName,
        file: &DsPath,
        _: usize,
    ) -> Result<Vec<u8>, StorageError> {
        match self.ask(Op::Read(file.to_string())).await {
            Answer::Bytes(answer) => answer,
            _ => Err(failed()),
        }
    }

    async fn read_unless(
        &self,
        _: &DatastoreName,
        newer: &DsPath,
        file: &DsPath,
        _: usize,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let op = Op::ReadUnless(newer.to_string(), file.to_string());
        match self.ask(op).await {
            Answer::Unless(answer) => answer,
            _ => Err(failed()),
        }
    }

    async fn remove(&self, _: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        match self.ask(Op::Remove(file.to_string())).await {
            Answer::Flag(answer) => answer,
            _ => Err(failed()),
        }
    }

    async fn create_disk(
        &self,
        _: &DatastoreName,
        file: &DsPath,
        spec: &DiskSpec,
        _: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        self.unit(Op::MakeDisk(file.to_string(), spec.capacity))
            .await
    }

    async fn clone_disk(
        &self,
        _: &DiskPath,
        _: &DiskPath,
        _: &DiskSpec,
        _: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        Err(failed())
    }

    async fn delete_disk(&self, _: &DatastoreName, _: &DsPath) -> Result<bool, StorageError> {
        Err(failed())
    }

    async fn stat_disk(
        &self,
        _: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<DiskStat>, StorageError> {
        match self.ask(Op::StatDisk(file.to_string())).await {
            Answer::Stat(answer) => Ok(answer),
            _ => Err(failed()),
        }
    }
}

/// Forgets everything at once: nothing in it may be needed.
#[async_trait]
impl Store for Agent {
    async fn audit(&self, _: AuditEntry) -> Result<(), StoreError> {
        Ok(())
    }

    async fn audit_page(&self, _: AuditQuery) -> Result<AuditPage, StoreError> {
        Ok(AuditPage::default())
    }

    async fn keep_config(&self, _: Uuid, _: KeptConfig) -> Result<(), StoreError> {
        Ok(())
    }

    async fn kept_config(&self, _: Uuid) -> Result<Option<KeptConfig>, StoreError> {
        Ok(None)
    }

    async fn kept_configs(&self) -> Result<Vec<Uuid>, StoreError> {
        Ok(Vec::new())
    }

    async fn remember_deleted(&self, _: RequestId, _: VolumeId) -> Result<(), StoreError> {
        Ok(())
    }

    async fn recall_deleted(&self, _: RequestId) -> Result<Option<VolumeId>, StoreError> {
        Ok(None)
    }
}

impl Clock for Agent {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(EPOCH_MILLIS.saturating_add(self.shared.now()))
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

impl Ids for Agent {
    fn volume_id(&self) -> VolumeId {
        VolumeId::new(self.uuid())
    }

    fn uuid(&self) -> Uuid {
        let mut core = self.shared.core();
        let Some(agent) = core.agents.get_mut(self.host) else {
            return Uuid::nil();
        };
        agent.ids += 1;
        let host = u128::try_from(self.host).unwrap_or(u128::MAX);
        // Version and variant bits of a UUID v7; then host, life and a count.
        let base = 0x019b_0000_0000_7000_8000_u128 << 48;
        Uuid::from_u128(base | host << 40 | u128::from(self.life) << 24 | u128::from(agent.ids))
    }
}
