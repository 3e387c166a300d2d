//! What the engine needs from the world. Every implementation (a real ESXi host, the lab, the simulator) keeps the
//! promises written on the methods; the engine relies on nothing else.
//!
//! * [`Host`]: virtual machines, their disks, and the lock on a disk.
//! * [`Datastores`]: small files, folders and virtual disks.
//! * [`Store`]: what this host keeps for itself; rebuildable, the audit apart.
//! * [`Clock`], [`Ids`]: time and fresh identities, so that a simulation controls both.

mod datastores;
mod host;
mod local;
mod progress;

pub use datastores::{
    DatastoreInfo, DatastoreKind, Datastores, DiskSpec, DiskStat, DsPath, DsPathError, Entry,
    FolderStamp, StorageError,
};
pub use host::{
    AttachedDisk, Autostart, Detached, DiskLock, DiskPath, Host, HostError, HostIdentity, Power,
    Prepared, Vm, VmDisk,
};
pub use local::{
    AuditEntry, AuditOutcome, AuditPage, AuditQuery, AuditRow, Clock, Ids, KeptConfig, Store,
    StoreError,
};
pub use progress::Progress;
