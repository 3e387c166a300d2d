//! The real `vdvsd`, spoken to over its sockets: on a simulated host, and on a lab host with real files.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on may panic"
)]

mod hostile;
mod isolation;
mod lab;
mod legacy;
mod peers;
mod process;
mod service;
mod stop;
mod told;
