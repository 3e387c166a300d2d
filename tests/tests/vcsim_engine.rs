//! The engine over hostd's API: its real code and store, `host-esxi`, and a hostd that nobody here wrote, as a host by
//! itself and as a vCenter. pyvmomi, a client that shares nothing with ours, says what is really there after each step.
//!
//! What the simulator does not model is added by `tests/vcsim` and proves nothing about ESXi: `docs/esxi.md`.

#[path = "vcsim_engine/deaths.rs"]
mod deaths;
#[path = "vcsim_engine/devices.rs"]
mod devices;
#[path = "vcsim_engine/life.rs"]
mod life;
#[path = "vcsim_engine/outages.rs"]
mod outages;
#[path = "vcsim_engine/rig.rs"]
mod rig;
#[path = "vcsim_engine/stores.rs"]
mod stores;
