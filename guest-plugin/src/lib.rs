//! The guest's side of vDVS: a Docker volume plugin whose volumes are virtual disks.
//!
//! ```text
//!   dockerd ──► docker ──► service ──► journal
//!                             │  ├───► agent     (gRPC to the host, or a fake)
//!                             │  └───► devices   (the room blockdev, or its fake)
//!   dockerd ◄── dockerd (holds GET /events open, so that swarm sees the driver)
//! ```
//! Listens first and connects later: Docker is answered within a second of the start, whether or not the agent or
//! dockerd are there. A restart of the plugin changes nothing for running containers; nothing is unmounted when it
//! stops.
//!
//! | module | concept |
//! |---|---|
//! | [`docker`] | the plugin API on a Unix socket: bytes in, bytes out, no decisions |
//! | [`service`] | what each request means; jobs, counts, the reality check |
//! | [`journal`] | what survives a restart |
//! | [`agent`] | the agent on the host, a port |
//! | [`clock`] | the doors to time and fresh ids |
//! | [`dockerd`] | the plugin's own call to dockerd |
//! | [`settings`] | flags, environment, configuration file: one precedence |
//! | [`log`], [`folding`] | where log lines go; the same one again is a count |
//! | [`install`] | the service of a machine: install, uninstall, status |
//! | [`checks`] | looking at this machine from outside the running plugin |
//! | [`doctor`] | what is wrong on this machine, and what to do |
//! | [`notify`] | telling the service manager that the plugin listens |
#![forbid(unsafe_code)]

pub mod agent;
pub mod checks;
pub mod clock;
pub mod docker;
pub mod dockerd;
pub mod doctor;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
pub mod folding;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod install;
pub mod journal;
pub mod log;
pub mod notify;
pub mod service;
pub mod settings;
