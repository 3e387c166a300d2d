//! The use cases: create, delete, get, list, attach, detach, format, report. See the modules.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod api;
mod engine;
pub mod ports;

pub use engine::Engine;
