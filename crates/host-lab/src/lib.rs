//! A Linux machine as a hypervisor host: folders are datastores, namespaces are VMs, a loop device on a disk's extent
//! together with a node in the VM's private `/dev` is a hot-plugged disk. Or a VM is a QEMU process, and a disk is plugged
//! into its PVSCSI controllers.
//!
//! A host is **two processes**, so that killing the agent is not killing the host:
//!
//! ```text
//!   vdvsd ── LabHost ──┐                      ┌─ vms/<VM>/vm.json, devices.json
//!                      ├─ labhv.sock ─ vdvs-labhv ─ loop devices, nodes in the VMs' /dev
//!   lab runner ────────┘  (protocol)          └─ pidfd of each VM's init
//!   vdvsd ── LabDatastores ── plain files below the datastores' folders
//! ```
//!
//! | module | concept |
//! |---|---|
//! | [`protocol`] | what is said on `labhv.sock` |
//! | [`client`] | saying it, async and blocking |
//! | [`config`] | `host.json`: who this host is, where its datastores lie |
//! | [`hv`] | the VMkernel's stand-in: VMs, power, devices, locks; what `vdvs-labhv` runs |
//! | [`qemu`] | the second kind of VM: a QEMU process, its monitor, its locks |
//! | [`host`], [`datastores`] | the engine's ports |
//!
//! Only `sys` calls the kernel without a safe wrapper; only [`hv`] runs loop ioctls and makes device nodes.

pub mod client;
pub mod config;
pub mod datastores;
mod files;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod host;
pub mod hv;
mod known;
mod policy;
pub mod protocol;
pub mod qemu;
mod sys;

pub use client::{BlockingClient, ClientError, LabClient};
pub use config::HostConfig;
pub use datastores::LabDatastores;
pub use host::LabHost;
pub use sys::shut_down_file_system;
