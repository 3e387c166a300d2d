//! vSockets: between a VM and the hypervisor it runs on, without a network.
//!
//! The two ends are different platforms with the same calls. On the **host** the address family has a number that is
//! asked for, the peer's process group says which VM it is, and options bear the hypervisor's numbers ([`host`],
//! [`numbers`]). In the **guest** it is Linux's family 40, dialled from a privileged port ([`dial`]). Every system call of
//! the host's end is behind [`HostSockets`], of the guest's behind [`GuestSockets`], so that what an answer means is
//! tested without either platform.
//!
//! A context id is never an identity: it changes with vMotion and with snapshots.

mod dial;
mod host;
pub mod numbers;
#[allow(unsafe_code, reason = "calls that nobody wraps; see the module")]
mod sys;

pub use dial::{Cause, DialError, GuestSockets, Next, Stage, Tries, after, dial, port_after};
pub use host::{
    Arrival, BACKLOG, Departure, Family, FoundBy, HostListener, HostSockets, ListenError, Refusal,
    admit, find_family,
};
pub use sys::{EsxSockets, LinuxSockets};
