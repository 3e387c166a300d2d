//! The whole system in one process, one thread and one paused clock, from one seed.
//!
//! Several hosts with the real engine over the simulated hypervisor, VMs with the real plugin's volume service and
//! journal, dockerds that behave as measured, an orchestrator that fences nothing. A seed becomes a [`schedule`]: a list
//! of steps with their faults. Running it leaves a trace; the same seed leaves the same trace, to the byte. A [`check`]er that
//! knows neither engine nor plugin watches the disks and what was promised to whom.
//!
//! ```text
//!  schedule ── steps ──► fleet (tasks, HA, vMotion, administrators)
//!     │                    │
//!     │ faults             ▼
//!     ├──────────────► guest + docker ── calls, lost and repeated ──► universe: engine of the host where the VM is
//!     │                    │ blocks                                      │ ports, failing
//!     │                    ▼                                             ▼
//!     └─ verdict ◄──── check ◄──── every attach, detach, write ◄── host-sim's World
//! ```
//!
//! What it does not do: real block devices, real kernels, real sockets. Those have suites of their own; here is what
//! only thousands of schedules find.
#![forbid(unsafe_code)]

pub mod check;
pub mod docker;
pub mod fleet;
pub mod guest;
pub mod planted;
pub mod schedule;
pub mod universe;
