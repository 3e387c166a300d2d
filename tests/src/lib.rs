//! What the black-box suites share: a lab with everything in it, and the questions they ask it.

#![forbid(unsafe_code)]

pub mod driver;
pub mod qemu;
pub mod rig;
