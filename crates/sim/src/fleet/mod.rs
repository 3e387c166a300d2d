//! What moves work between VMs and knows nothing of volumes.
//!
//! * `scheduler`: an orchestrator that moves tasks 10 to 20 s after it lost a node, and fences nothing.
//! * `availability`: what starts the VMs of a dead host elsewhere.
//! * `administrator`: commands on a host at bad moments.

mod administrator;
mod availability;
mod scheduler;

pub use administrator::administer;
pub use availability::{come_back, restart_elsewhere};
pub use scheduler::Scheduler;
