//! A stand-in for hostd that nobody here wrote: the simulator of Debian's govmomi package, built with a thin layer of
//! ours (`tests/vcsim`), and pyvmomi, an independent client that says what is really there.
//!
//! Both are built in cargo's target folder, once. [`Vcsim`] starts, kills and restarts the simulator: its folder keeps
//! datastores, devices and power states, as a host keeps them while its hostd restarts. A test that cannot have them
//! gets [`Missing`] and says so.

mod agent;
mod build;
mod sim;
mod witness;

pub use agent::Agent;
pub use build::{Missing, PACKAGES, Peers, REQUIRED, prepare};
pub use sim::{Mode, Vcsim};
pub use witness::Witness;
