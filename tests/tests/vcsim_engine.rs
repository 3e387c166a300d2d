//! The engine over hostd's API: its real code and store, `host-esxi`, and a hostd that nobody here wrote, as a host by
//! itself and as a vCenter. pyvmomi, a client that shares nothing with ours, says what is really there after each step.
//!
//! What the simulator does not model is added by `tests/vcsim` and proves nothing about ESXi: `docs/esxi.md`.
#![forbid(unsafe_code)]

#[cfg(test)]
#[path = "vcsim_engine/deaths.rs"]
mod deaths;
#[cfg(test)]
#[path = "vcsim_engine/devices.rs"]
mod devices;
#[cfg(test)]
#[path = "vcsim_engine/life.rs"]
mod life;
#[cfg(test)]
#[path = "vcsim_engine/outages.rs"]
mod outages;
#[cfg(test)]
#[path = "vcsim_engine/rig.rs"]
mod rig;
#[cfg(test)]
#[path = "vcsim_engine/stores.rs"]
mod stores;
