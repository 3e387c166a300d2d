//! Hosts with the real engine, their agents, the VMs and the datastores they share.
//!
//! * `switchboard`: which agent answers a VM now: what a guest's connection reaches.
//! * `bell`: waking those who wait, first come first served, so that a run repeats.

mod bell;
mod switchboard;

pub use bell::Bell;
pub use switchboard::{Line, Switchboard};
