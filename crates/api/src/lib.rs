//! The wire contract in Rust.
//!
//! Generated messages stop at this crate's edge: [`model`] turns what a peer sent into the types of the domain, once,
//! and refuses what cannot exist; [`status`] carries a failure across with its machine string; [`version`] agrees on
//! what both ends speak; [`limits`] bounds what is read at all. Inside the agent and the plugin there are no wire types.
//!
//! [`generated`] is written from `proto/vdvs/v1` by `cargo xtask codegen` and committed; `tests/drift.rs` fails when
//! the two part. `tests/golden.rs` holds one encoding of every message, so that no change of the bytes goes unseen.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod limits;
pub mod listing;
pub mod model;
pub mod status;
pub mod version;

pub use generated::v1;
pub use status::RemoteError;

use tonic::transport::Channel;

use crate::v1::admin_service_client::AdminServiceClient;
use crate::v1::volume_service_client::VolumeServiceClient;

/// What the generator wrote. Never edited; the lints of the house do not apply.
#[allow(clippy::all, clippy::restriction, clippy::pedantic, clippy::nursery)]
#[allow(missing_docs, unreachable_pub, missing_debug_implementations)]
pub mod generated {
    /// Package `vdvs.v1`.
    #[rustfmt::skip]
    #[path = "vdvs.v1.rs"]
    pub mod v1;
}

/// A guest's client with this contract's bounds.
#[must_use]
pub fn volume_client(channel: Channel) -> VolumeServiceClient<Channel> {
    VolumeServiceClient::new(channel)
        .max_encoding_message_size(limits::MAX_REQUEST)
        .max_decoding_message_size(limits::MAX_REPLY)
}

/// An administrator's client with this contract's bounds.
#[must_use]
pub fn admin_client(channel: Channel) -> AdminServiceClient<Channel> {
    AdminServiceClient::new(channel)
        .max_encoding_message_size(limits::MAX_REQUEST)
        .max_decoding_message_size(limits::MAX_REPLY)
}
