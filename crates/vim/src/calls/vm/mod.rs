//! `VirtualMachine`: what it is made of, whether it runs, and changes of its devices.

mod devices;
mod reconfigure;
mod summary;

pub use devices::{Backing, Controller, ControllerKind, Device, Disk, Hardware};
pub use reconfigure::{ConfigSpec, DeviceChange, DiskMode};
pub use summary::{PowerState, VmSummary};
