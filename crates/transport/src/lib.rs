//! How bytes reach the agent, and from whom. This room knows bytes and peers; it knows nothing of volumes.
//!
//! ```text
//!   guest:  Address ──dial──► stream ──channel──► tonic client
//!   host:   UnixSocket::bind ──Acceptor──► first bytes ─┬─ HTTP/2 preface ──► Conn (with its Peer) ──► tonic server
//!                                                       ├─ the original's frame ──► Conn ──► `legacy`
//!                                                       └─ anything else, or silence: closed
//! ```
//!
//! Invariants:
//! * **A peer's identity is its listener's, or what the hypervisor says of the connection.** Nothing a peer sends can
//!   change it.
//! * **One peer cannot hurt another**: connections per peer are bounded, and how fast they come; one that says nothing
//!   gives way to the next and is closed, a pending connection that fails is forgotten, and no step of one connection runs in the accept loop.
//! * **An accept error is about the pending connection, about the host, or about the listener.** The first two are
//!   retried, only the last ends the loop.
//! * Every stream is carried by `tokio::net::UnixStream`, also a vSocket: the shipped daemon drives descriptors with
//!   `poll(2)`, where the runtime re-arms only its own socket types. So the stream's own address methods are never
//!   called; addresses are read before wrapping.
//!
//! | module | concept |
//! |---|---|
//! | [`address`] | where an agent listens: `unix:/path`, `vsock:CID:PORT` |
//! | [`unix`] | a listening Unix socket with a stated mode, that takes over only a dead one |
//! | [`vsock`] | dialling from a privileged port; listening on a hypervisor |
//! | [`sniff`] | which protocol the first bytes choose |
//! | [`peer`] | who is at the other end |
//! | [`places`] | how many connections a peer has, and which goes when it wants another |
//! | [`accept`] | the accept loop of one peer's listener |
//! | [`door`] | one listener for all VMs |
//! | [`conn`] | an accepted connection |
//! | [`legacy`] | the frames of the original |
//! | [`grpc`] | settings of both ends of gRPC, dialling included |
//! | [`kernel`] | which system calls there are |
//! | [`backoff`] | how long to wait before trying again |
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod accept;
pub mod address;
pub mod backoff;
pub mod conn;
pub mod door;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod greeting;
pub mod grpc;
#[allow(unsafe_code, reason = "calls made to be refused; see the module")]
pub mod kernel;
pub mod legacy;
mod pace;
pub mod peer;
pub mod places;
pub mod sniff;
pub mod unix;
pub mod vsock;

pub use accept::{Acceptor, Limits};
pub use address::{Address, AddressError};
pub use backoff::Backoff;
pub use conn::Conn;
pub use door::{Door, Porter};
pub use greeting::Sinks;
pub use grpc::{channel, dial};
pub use peer::{Identity, Peer};
pub use unix::{BindError, UnixSocket};
