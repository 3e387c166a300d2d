//! The wire contract in Rust: generated messages, clients and servers.
//!
//! `generated::v1` is written from `proto/vdvs/v1` by `cargo xtask codegen` and committed; `tests/drift.rs` fails
//! when the two part.

#![forbid(unsafe_code)]

/// What the generator wrote. Never edited; the lints of the house do not apply.
#[allow(clippy::all, clippy::restriction, clippy::pedantic, clippy::nursery)]
#[allow(missing_docs, unreachable_pub, missing_debug_implementations)]
pub mod generated {
    /// Package `vdvs.v1`.
    #[rustfmt::skip]
    #[path = "vdvs.v1.rs"]
    pub mod v1;
}
