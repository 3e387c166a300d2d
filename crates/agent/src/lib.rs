//! `vdvsd`, the agent on the host.
//!
//! ```text
//!   guest's socket ──► Acceptor ──► Conn (Peer = VM) ─┐
//!   guest's socket ──► Acceptor ──► Conn (Peer = VM) ─┴─► gRPC server ─► handler ─► caller ─► engine ─► reply
//!                                   └─ the original's frames ─► legacy ──────────────┘
//!   admin.sock     ──► Acceptor ──► Conn (Peer = admin) ─► gRPC server ─► handler ───────────► engine ─► reply
//!                                                                               reconciler ─► engine
//! ```
//! This crate wires and translates; it decides nothing about volumes.
//!
//! * **A caller is its listener's VM**, or the one that the hypervisor names for the connection; messages name no VM.
//!   The administrator's service is not even offered on a VM's socket.
//! * **A handler is thin**: read the request, say who calls, run the use case, write the reply.
//! * **A use case that changes something runs to its own end.** The handler's task may be dropped at any await when
//!   its caller goes away; the use case runs in a task of its own and is told through its cancellation token, which
//!   it heeds only before its point of no return.
//! * **Each VM has its own places** for calls, by class, so that waiting attaches keep neither reads nor detaches out.
//! * **Starting never fails because the host is not there yet**; it is asked again, one line says so, and whoever calls
//!   meanwhile hears it.
//! * **Stopping** (SIGTERM, SIGINT): no new connections, waiting attaches are told, calls under way may finish for six
//!   seconds, and after eight the process is gone.
//!
//! | module | concept |
//! |---|---|
//! | [`config`] | flags and file |
//! | [`run`] | wiring, start and drain |
//! | [`hosts`] | which hypervisor |
//! | [`listeners`] | one socket for each VM |
//! | [`doors`] | one door for all VMs, where the hypervisor names each connection |
//! | [`guests`] | what is known of each VM's connections |
//! | [`calls`] | deadline, cancellation and places of a call |
//! | [`volume_service`], [`admin`] | the handlers |
//! | [`legacy`] | the handler of the original's frames |
//! | [`view`] | the engine's types into the contract's |
//! | [`clock`], [`ids`] | the only source of time, and of identities |
//! | [`logs`], [`quiet`] | where lines go, and how many one VM may cause |
//! | [`signals`] | whom it heeds |
//! | [`probe`] | what this host offers |
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod admin;
pub mod calls;
pub mod clock;
pub mod config;
pub mod doors;
mod esxi;
pub mod guests;
pub mod hosts;
pub mod ids;
pub mod legacy;
pub mod listeners;
pub mod logs;
pub mod probe;
pub mod quiet;
pub mod run;
pub mod signals;
pub mod view;
pub mod volume_service;
mod waiting;

/// Program and version, as peers and people see it.
pub const PROGRAM: &str = concat!("vdvsd ", env!("CARGO_PKG_VERSION"));
