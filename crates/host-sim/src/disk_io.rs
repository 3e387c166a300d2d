//! A guest reads and writes blocks of its disks.

use vdvs_domain::VmId;
use vdvs_engine::ports::{DiskPath, Power};

use crate::observe::Event;
use crate::state::State;
use crate::world::World;

/// Bytes of a block that was never written take no room; any other takes this much of its datastore, as far as the
/// disk is thin.
pub(crate) const BLOCK_BYTES: u64 = 1 << 20;

/// Why a VM cannot read or write a block now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DiskIoError {
    /// It does not run.
    #[error("the VM does not run")]
    NotRunning,
    /// It does not have the disk.
    #[error("the VM does not have the disk")]
    NotAttached,
    /// It has the disk for reading only.
    #[error("the disk is attached read-only")]
    ReadOnly,
    /// The lock on the disk was lost: it answers no more until it is attached anew.
    #[error("the disk was lost")]
    Lost,
    /// Its host does not reach the datastore now; it may again.
    #[error("the datastore does not answer")]
    Unreachable,
    /// The datastore is full and the block was never written before.
    #[error("the datastore is full")]
    NoSpace,
}

impl State {
    /// Whether a VM may use a disk now, and for what.
    fn may_use(&self, vm: &VmId, disk: &DiskPath, write: bool) -> Result<(), DiskIoError> {
        let running = self.vm(vm).filter(|v| v.power == Power::On);
        let found = running.ok_or(DiskIoError::NotRunning)?;
        let device = found.device(disk).ok_or(DiskIoError::NotAttached)?;
        if device.dead {
            return Err(DiskIoError::Lost);
        }
        if !self.reaches(found.host, &disk.datastore) {
            return Err(DiskIoError::Unreachable);
        }
        if write && device.read_only {
            return Err(DiskIoError::ReadOnly);
        }
        Ok(())
    }

    fn write_now(
        &mut self,
        vm: &VmId,
        disk: &DiskPath,
        block: u64,
        bytes: &[u8],
    ) -> Result<(), DiskIoError> {
        self.may_use(vm, disk, true)?;
        let ds = self.datastores.get_mut(&disk.datastore);
        let ds = ds.ok_or(DiskIoError::Unreachable)?;
        let room = ds.capacity.saturating_sub(ds.used());
        let found = ds.disks.get_mut(disk.path.as_str());
        let found = found.filter(|d| d.complete).ok_or(DiskIoError::Lost)?;
        if found.thin && !found.bytes.blocks.contains_key(&block) {
            if room < BLOCK_BYTES {
                return Err(DiskIoError::NoSpace);
            }
            found.allocated = found.allocated.saturating_add(BLOCK_BYTES);
        }
        found.bytes.blocks.insert(block, bytes.to_vec());
        found.bytes.writes += 1;
        Ok(())
    }
}

impl World {
    /// A guest writes a block: accepted exactly when the VM runs, has the disk open for writing, and its host reaches
    /// the datastore. An accepted write is on the disk.
    ///
    /// # Errors
    /// [`DiskIoError`]; nothing changed.
    pub fn write_block(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        block: u64,
        bytes: &[u8],
    ) -> Result<(), DiskIoError> {
        let mut state = self.state();
        let outcome = state.write_now(vm, disk, block, bytes);
        state.tell(&Event::Wrote {
            vm: vm.clone(),
            disk: disk.clone(),
            block,
            outcome,
        });
        outcome
    }

    /// A guest reads a block; empty when it was never written.
    ///
    /// # Errors
    /// [`DiskIoError`]
    pub fn read_block(
        &self,
        vm: &VmId,
        disk: &DiskPath,
        block: u64,
    ) -> Result<Vec<u8>, DiskIoError> {
        let state = self.state();
        state.may_use(vm, disk, false)?;
        let ds = state.datastores.get(&disk.datastore);
        let found = ds.and_then(|ds| ds.disks.get(disk.path.as_str()));
        let found = found.filter(|d| d.complete).ok_or(DiskIoError::Lost)?;
        Ok(found.bytes.blocks.get(&block).cloned().unwrap_or_default())
    }

    /// The blocks that were ever written to a disk, as they are on the medium, whoever may read them.
    #[must_use]
    pub fn blocks(&self, disk: &DiskPath) -> Vec<(u64, Vec<u8>)> {
        let state = self.state();
        let ds = state.datastores.get(&disk.datastore);
        let found = ds.and_then(|ds| ds.disks.get(disk.path.as_str()));
        let blocks = found.map(|d| d.bytes.blocks.iter());
        let blocks = blocks.into_iter().flatten();
        blocks.map(|(at, bytes)| (*at, bytes.clone())).collect()
    }
}
