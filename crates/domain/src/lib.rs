//! The domain of vDVS: what a volume is, who owns it, and what may happen next.
//!
//! Everything here is a pure function of its arguments: no I/O, no clock, no randomness, no runtime. Values are
//! parsed once, at the edge, into the types of this crate; inside, an invalid name, capacity or state cannot exist.
//!
//! | module | concept |
//! |---|---|
//! | [`names`] | volume, datastore, vmgroup and file-system names; `name@datastore` addresses |
//! | [`capacity`] | sizes of disks in bytes, and the forms people write them in |
//! | [`ids`] | volumes, requests, hosts, vmgroups, virtual machines, epochs, points in time |
//! | [`options`] | the options of *create* |
//! | [`record`] | what a datastore remembers about one volume |
//! | [`filesystem`] | whether a volume may be formatted (never by guess) |
//! | [`ownership`] | who may write a volume: the state machine and its transition table |
//! | [`policy`] | vSAN policies by name |
//! | [`access`] | may this VM do this here? |
//! | [`address`] | how an administrator names a volume |
//! | [`governing`] | why a verb about the configuration as a whole is refused |
//! | [`suggest`] | the nearest valid word for a mistyped one |
//! | `neutral` | what a VM is told of a failure |
//! | [`error`] | every failure a caller can see, with its wire code, machine string and exit code |
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod access;
pub mod address;
pub mod capacity;
pub mod error;
pub mod filesystem;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod governing;
pub mod history;
pub mod ids;
pub mod names;
mod neutral;
pub mod options;
pub mod ownership;
pub mod policy;
pub mod record;
pub mod suggest;

pub use capacity::Capacity;
pub use error::{Error, ErrorKind};
pub use filesystem::{Filesystem, FilesystemState};
pub use ids::{Epoch, GroupId, HostId, RequestId, Timestamp, VmId, VmRef, VolumeId};
pub use names::{DatastoreName, FsType, GroupName, PolicyName, VolumeAddress, VolumeName};
pub use options::{Access, AttachAs, CreateOptions, DiskFormat, Failover, FenceAfter, Layout};
pub use ownership::{Owner, Ownership};
pub use record::{Operation, OperationKind, VolumeRecord};
