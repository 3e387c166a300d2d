//! Virtual disks as files: a text descriptor and the flat extent it names.
//!
//! On ESXi the hypervisor makes and reads these files itself. Every other host needs this crate, and what it writes
//! is meant to be read by anybody's tools: `createType="vmfs"`, one `VMFS` extent, a full disk data base.
//!
//! | module | concept |
//! |---|---|
//! | [`descriptor`] | the text format: parse anything without panicking, write what was read |
//! | [`disk`] | create, delete, stat and check a disk in a folder, with a stated crash order |
//! | `clone` | a new disk with another one's content; holes stay holes |
//!
//! The extent is raw: byte *n* of the disk is byte *n* of the extent file. Whoever attaches the disk opens the extent
//! and needs nothing from here.
//!
//! Not here: extend, snapshot chains (a descriptor with a parent is recognised and refused), sparse extent
//! formats (parsed as descriptors, never read).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod clone;
pub mod descriptor;
pub mod disk;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod new;

pub use descriptor::{Descriptor, Extent, ExtentAccess, ExtentKind, ParseError};
pub use disk::{DiskFiles, DiskStat, Error, Finding, Progress};
pub use new::{Adapter, DiskUuid, NewDisk, Provisioning};
