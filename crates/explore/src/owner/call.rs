//! Calls to the ports as data, so that they can wait, be told, and take effect at another moment than they return.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};

use vdvs_domain::Capacity;
use vdvs_engine::ports::{
    AttachedDisk, Detached, DiskLock, DiskStat, Entry, HostError, StorageError, Vm, VmDisk,
};

/// What is asked of the world. VMs by their number; there is one datastore and one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Op {
    /// A guest's message arrives at the agent.
    Deliver(String),
    ReadDir(String),
    Read(String),
    /// The second, unless the first is there.
    ReadUnless(String, String),
    Create(String),
    Write(String, Vec<u8>),
    Remove(String),
    MakeDir(String),
    MakeDisk(String, Capacity),
    StatDisk(String),
    Vms,
    Disks(usize),
    Attach(usize, bool),
    Detach(usize),
    Fence(usize),
    Lock,
}

/// What the world says.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Unit(Result<(), StorageError>),
    Flag(Result<bool, StorageError>),
    Bytes(Result<Vec<u8>, StorageError>),
    Unless(Result<Option<Vec<u8>>, StorageError>),
    Entries(Result<Vec<Entry>, StorageError>),
    Stat(Option<DiskStat>),
    Vms(Vec<Vm>),
    Disks(Result<Vec<VmDisk>, HostError>),
    Attached(Result<AttachedDisk, HostError>),
    Detached(Result<Detached, HostError>),
    Lock(DiskLock),
    /// The effect took place, and nobody hears of it.
    Lost,
}

impl Op {
    /// Whether it is a call to the hypervisor whose answer can be lost.
    pub(crate) const fn can_lose_its_answer(&self) -> bool {
        matches!(self, Self::Attach(..) | Self::Detach(_) | Self::Fence(_))
    }

    /// Whether others see that it was made.
    pub(crate) const fn has_an_effect(&self) -> bool {
        matches!(
            self,
            Self::Create(_) | Self::Write(..) | Self::Remove(_) | Self::MakeDir(_)
        ) || self.can_lose_its_answer()
    }

    /// As a number, without spelling out what is written.
    pub(crate) fn number(&self) -> u64 {
        let mut digest = DefaultHasher::new();
        match self {
            Self::Write(path, bytes) => ("write", path, bytes).hash(&mut digest),
            other => format!("{other:?}").hash(&mut digest),
        }
        digest.finish()
    }
}

impl Answer {
    pub(crate) fn number(&self) -> u64 {
        let mut digest = DefaultHasher::new();
        match self {
            Self::Bytes(Ok(bytes)) => ("bytes", bytes).hash(&mut digest),
            Self::Unless(Ok(Some(bytes))) => ("unless", bytes).hash(&mut digest),
            other => format!("{other:?}").hash(&mut digest),
        }
        digest.finish()
    }
}

/// The last component of a path: all that differs.
fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(what) => write!(f, "hears: {what}"),
            Self::ReadDir(path) => write!(f, "lists {}", name(path)),
            Self::Read(path) => write!(f, "reads {}", name(path)),
            Self::ReadUnless(_, path) => write!(f, "looks whether {} is the last", name(path)),
            Self::Create(path) => write!(f, "makes {}", name(path)),
            Self::Write(path, _) => write!(f, "writes {}", name(path)),
            Self::Remove(path) => write!(f, "removes {}", name(path)),
            Self::MakeDir(path) => write!(f, "makes folder {}", name(path)),
            Self::MakeDisk(path, _) => write!(f, "makes disk {}", name(path)),
            Self::StatDisk(path) => write!(f, "looks at disk {}", name(path)),
            Self::Vms => f.write_str("lists its VMs"),
            Self::Disks(vm) => write!(f, "lists the disks of vm{vm}"),
            Self::Attach(vm, _) => write!(f, "attaches the disk to vm{vm}"),
            Self::Detach(vm) => write!(f, "detaches the disk from vm{vm}"),
            Self::Fence(vm) => write!(f, "fences vm{vm}"),
            Self::Lock => f.write_str("looks at the lock"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(Ok(())) => Ok(()),
            Self::Flag(Ok(_)) | Self::Entries(Ok(_)) | Self::Stat(_) | Self::Vms(_) => Ok(()),
            Self::Bytes(Ok(bytes)) if bytes.is_empty() => f.write_str(": empty"),
            Self::Bytes(Ok(_)) => Ok(()),
            Self::Unless(Ok(Some(_))) => f.write_str(": yes"),
            Self::Unless(Ok(None)) => f.write_str(": no"),
            Self::Unless(Err(why)) => write!(f, ": {}", short(why)),
            Self::Unit(Err(why)) => write!(f, ": {}", short(why)),
            Self::Flag(Err(why)) => write!(f, ": {}", short(why)),
            Self::Bytes(Err(why)) => write!(f, ": {}", short(why)),
            Self::Entries(Err(why)) => write!(f, ": {}", short(why)),
            Self::Disks(Ok(disks)) => write!(f, ": {}", disks.len()),
            Self::Attached(Ok(_)) => f.write_str(": done"),
            Self::Detached(Ok(what)) => write!(f, ": {what:?}"),
            Self::Disks(Err(why)) | Self::Attached(Err(why)) | Self::Detached(Err(why)) => {
                write!(f, ": {why}")
            }
            Self::Lock(lock) => write!(f, ": {lock:?}"),
            Self::Lost => f.write_str(": done, and the answer is lost"),
        }
    }
}

const fn short(why: &StorageError) -> &'static str {
    match why {
        StorageError::NotFound(_) => "not there",
        StorageError::AlreadyExists(_) => "there already",
        _ => "failed",
    }
}
