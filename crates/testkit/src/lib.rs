//! What the suites and the house's own tools share: a lab of virtual machines with real engines, external programs
//! under control, and waiting without sleeping. Never part of what is shipped.

#![forbid(unsafe_code)]

pub mod lab;
pub mod mount_times;
pub mod planting;
pub mod postgres;
pub mod process;
pub mod session;
pub mod vcsim;
pub mod wait;
