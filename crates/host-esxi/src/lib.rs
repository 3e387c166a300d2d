//! A real ESXi host behind the engine's ports: everything about VMs and disks through hostd's API, everything small as
//! plain files below the datastores' folders. No child processes, no private libraries, no credentials in files.
//!
//! ```text
//!   engine ─ Host ───────► EsxHost ────────┐
//!                            devices, place  ├─ Esx (session, who we are, VMs) ─ vdvs-vim ─ hostd
//!   engine ─ Datastores ─► EsxDatastores ──┤
//!                            stores::disks ──┘
//!                            stores::folder ─ stores::pool (threads of each datastore) ─ /vmfs/volumes/…
//! ```
//!
//! | module | concept |
//! |---|---|
//! | [`EsxiConfig`] | how hostd is reached and who we are there |
//! | [`EsxHost`] | the port `Host`: VMs, attach, detach, locks, changes |
//! | [`EsxDatastores`] | the port `Datastores` |
//! | `esx` | what both share: the session, this host, its VMs |
//! | `feed` | who hears first that something changed |
//! | `place` | pure: which controller and unit a disk gets |
//! | `devices` | a VM's device list read as volumes' disks |
//! | `faults` | what hostd's faults mean to the engine |
//! | `stores` | datastores: which there are, small files, disks |
//!
//! # Failure
//! hostd starts late, restarts, forgets sessions. What did not go out had no effect and says so; what went out and got
//! no answer is settled by looking at the VM's device list or at the disk, never assumed. Files are read and written
//! without hostd, so records stay readable while it restarts. A datastore that hangs blocks its own few threads.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod attach;
mod cartel;
mod config;
mod devices;
mod esx;
mod faults;
mod feed;
mod files;
mod host;
mod locks;
mod open;
mod place;
mod prepare;
mod probe;
mod queues;
mod stores;

pub use config::{EsxiConfig, LOCAL_URL, Login};
pub use host::EsxHost;
pub use open::{OpenError, Opened};
pub use probe::{Heard, probe};
pub use stores::EsxDatastores;
