//! The calls, one file per managed object. Each is named after the API's method and says whether it may be repeated.

mod autostart;
mod content;
mod datastore;
mod disk;
mod esxcli;
mod files;
mod host;
mod inventory;
mod namespace;
pub(crate) mod property;
mod search;
pub(crate) mod session;
mod task;
mod vm;

pub use content::{About, ServiceContent};
pub use datastore::{Capability, Datastore, Found, SearchResult};
pub use disk::{AdapterType, DiskType, FileBackedDisk, plain_uuid};
pub use esxcli::VmProcess;
pub use files::{FileLock, FileLocks, FilePath, datastore_path};
pub use host::HostSystem;
pub use property::{ObjectContent, Properties};
pub use task::{Task, TaskResult};
pub use vm::{
    Backing, ConfigSpec, Controller, ControllerKind, Device, DeviceChange, Disk, DiskMode,
    Hardware, PowerState, VmSummary,
};
