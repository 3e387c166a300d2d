//! A world in memory: hosts, VMs, datastores, disks and their locks, behind the engine's ports.
//!
//! * [`World`] is what survives: VMs, files, disks. Several hosts share its datastores.
//! * [`Session`] is one agent process on one host. It implements all ports. It can be made to fail, to give no answer,
//!   or to die at a chosen call ([`Fault`]); a dead session never answers again, and a new one over the same world is
//!   the restarted agent.
//!
//! Time is tokio's, so a paused clock controls it. Identities are counted, so a run repeats exactly.
//!
//! The lock on a disk is what the hypervisor's would be: held by running VMs that have the disk in their
//! configuration, exclusively unless all of them have it read-only, and for a while after a host crashed. A suspended
//! VM holds none, as on the real thing; its configuration file names the saved state.
#![forbid(unsafe_code)]

mod bell;
mod changes;
mod disk_io;
mod fault;
mod life;
mod observe;
mod quirks;
mod session;
mod session_host;
mod session_storage;
mod state;
mod survives;
mod world;

pub use bell::Bell;
pub use disk_io::DiskIoError;
pub use fault::{Called, Fault, When};
pub use observe::{Event, Removal};
pub use session::Session;
pub use world::World;
