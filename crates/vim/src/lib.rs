//! A SOAP client for hostd, the management daemon of an ESXi host: the calls a volume agent needs, typed.
//!
//! It knows nothing of volumes. It knows that hostd starts late, restarts, drops idle connections and forgets sessions,
//! and makes up for that where nobody can tell the difference. Where somebody could, it says so: every [`Error`] tells
//! whether the call's effect is known.
//!
//! * [`Client`]: session, connections, rules of repetition.
//! * [`Watch`]: changes as they happen, with a session of its own.
//! * Calls are methods of [`Client`] named after the API's: [`Client::create_virtual_disk`], [`Client::reconfig_vm`].
//!   What begins a task returns a [`Task`] for [`Client::finish`].
//! * [`MoRef`]: a reference to one of the host's objects.
//! * [`xml`]: the reader with its limits, and the writer of request bodies.
//!
//! # Failure
//! Nothing panics on what a host sends. Answers beyond [`Limits::ANSWER`] are refused. Every call has a deadline; a call
//! that is dropped closes its connection, and what became of it is not known.
#![forbid(unsafe_code)]

mod calls;
mod client;
mod error;
#[cfg(feature = "fake")]
pub mod fake;
mod fault;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod link;
mod moref;
mod soap;
mod updates;
pub mod xml;

pub use calls::{
    About, AdapterType, Backing, Capability, ConfigSpec, Controller, ControllerKind, Datastore,
    Device, DeviceChange, Disk, DiskMode, DiskType, FileBackedDisk, FileLock, FileLocks, FilePath,
    Found, Hardware, HostSystem, ObjectContent, PowerState, Properties, SearchResult,
    ServiceContent, Task, TaskResult, VmProcess, VmSummary, datastore_path, plain_uuid,
};
pub use client::{Client, Config, Credentials, Secret};
pub use error::{Effect, Error, Lost, NotSent};
pub use fault::{Fault, FaultDetail, FaultKind};
pub use link::{ConfigError, Endpoint, Trust};
pub use moref::MoRef;
pub use updates::{Canceller, Changes, ObjectUpdate, PropertyChange, UpdateKind, Watch};
pub use xml::Limits;
