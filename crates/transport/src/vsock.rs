//! Dialling a vSocket from a privileged port, which proves to the host that root of the guest is calling.
//!
//! Privileged ports run out: a closed pair lingers, and the family does not honour address reuse. So a guest keeps one
//! connection, and a dial walks down the range, each time from where the last one stopped. What an error at which step
//! means is decided by [`after`], which does no I/O.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, sockopt};
use tokio::net::UnixStream;
use tokio::time::sleep;
use vsock::{VMADDR_CID_ANY, VsockAddr};

/// The highest privileged port, where the walk begins, as in the platform's own client.
const HIGHEST: u32 = 1023;
/// The lowest port used. Well-known services of a guest sit below.
const LOWEST: u32 = 512;
/// The agent's own port, never used as a source: a reader of `ss` would take us for an agent.
const AGENT: u32 = 1019;
/// The port before it on the way down.
const ABOVE_AGENT: u32 = AGENT + 1;
/// Resets survived while connecting, each with the next port (the platform's own client has the same limit).
const MAX_RESETS: u32 = 8;
/// Pauses of 1 ms for buffers.
const MAX_PAUSES: u32 = 5;

/// Where the next dial begins.
static NEXT: AtomicU32 = AtomicU32::new(HIGHEST);

/// The step of a dial that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Making the socket.
    Socket,
    /// Binding the source port.
    Bind,
    /// Connecting.
    Connect,
}

/// What to do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try the next port.
    Port,
    /// Try the same again.
    Again,
    /// Wait a millisecond, then try the same again.
    Pause,
    /// Give up.
    Stop,
}

/// Attempts of one dial so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tries {
    ports: u32,
    resets: u32,
    pauses: u32,
}

/// What an error at `stage` means for the dial.
pub fn after(stage: Stage, error: Errno, tries: &mut Tries) -> Next {
    let within = |count: &mut u32, limit: u32, next: Next| {
        *count = count.saturating_add(1);
        if *count <= limit { next } else { Next::Stop }
    };
    match (stage, error) {
        (Stage::Bind, Errno::EADDRINUSE) | (Stage::Connect, Errno::EADDRINUSE) => {
            within(&mut tries.ports, HIGHEST - LOWEST, Next::Port)
        }
        (Stage::Connect, Errno::ECONNRESET) => within(&mut tries.resets, MAX_RESETS, Next::Port),
        (_, Errno::EINTR) => Next::Again,
        (Stage::Connect, Errno::ENOBUFS) => within(&mut tries.pauses, MAX_PAUSES, Next::Pause),
        _ => Next::Stop,
    }
}

/// The port after `port` on the way down; from the bottom back to the top.
#[must_use]
pub const fn port_after(port: u32) -> u32 {
    match port {
        // Passing over the agent's own.
        ABOVE_AGENT => AGENT - 1,
        p if p <= LOWEST || p > HIGHEST => HIGHEST,
        p => p - 1,
    }
}

/// A dial that failed, with what to do about it.
#[derive(Debug)]
pub struct DialError {
    stage: Stage,
    error: Errno,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match (self.stage, self.error) {
            (Stage::Socket, Errno::EAFNOSUPPORT) => {
                "this kernel has no vSocket family; load the modules vsock and vmw_vsock_vmci_transport"
            }
            (Stage::Connect, Errno::ENODEV) => {
                "this machine has no vSocket device; is it a virtual machine with VMCI?"
            }
            (Stage::Bind, Errno::EACCES) => "a port below 1024 needs root",
            (Stage::Bind, Errno::EADDRINUSE) => "all ports from 512 to 1023 are taken",
            (Stage::Connect, Errno::ECONNRESET | Errno::ECONNREFUSED) => {
                "nobody listens on the host; is vdvsd running there?"
            }
            (Stage::Connect, Errno::EHOSTUNREACH | Errno::ENETUNREACH) => {
                "the host cannot be reached; a VMCI filter of this VM may forbid port 1019"
            }
            (Stage::Connect, Errno::ETIMEDOUT) => "the host does not answer",
            _ => "unexpected",
        };
        write!(f, "vSocket: {advice}")
    }
}

impl StdError for DialError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.error)
    }
}

/// Connects to `port` of `cid` from a privileged port.
///
/// # Errors
/// An [`io::Error`] around [`DialError`].
pub async fn dial(cid: u32, port: u32) -> io::Result<UnixStream> {
    let mut tries = Tries::default();
    loop {
        let source = NEXT
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |p| {
                Some(port_after(p))
            })
            .unwrap_or(HIGHEST);
        loop {
            let (stage, error) = match attempt(cid, port, source).await {
                Ok(stream) => return Ok(stream),
                Err(failed) => failed,
            };
            match after(stage, error, &mut tries) {
                Next::Port => break,
                Next::Again => {}
                Next::Pause => sleep(Duration::from_millis(1)).await,
                Next::Stop => return Err(io::Error::other(DialError { stage, error })),
            }
        }
    }
}

async fn attempt(cid: u32, port: u32, source: u32) -> Result<UnixStream, (Stage, Errno)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket::socket(AddressFamily::Vsock, SockType::Stream, flags, None)
        .map_err(|e| (Stage::Socket, e))?;
    socket::bind(fd.as_raw_fd(), &VsockAddr::new(VMADDR_CID_ANY, source))
        .map_err(|e| (Stage::Bind, e))?;
    let at_connect = |e| (Stage::Connect, e);
    match socket::connect(fd.as_raw_fd(), &VsockAddr::new(cid, port)) {
        Ok(()) => wrap(fd).map_err(at_connect),
        Err(Errno::EINPROGRESS) => {
            let stream = wrap(fd).map_err(at_connect)?;
            stream.writable().await.map_err(|e| at_connect(errno(&e)))?;
            match socket::getsockopt(&stream, sockopt::SocketError) {
                Ok(0) => Ok(stream),
                Ok(code) => Err(at_connect(Errno::from_raw(code))),
                Err(e) => Err(at_connect(e)),
            }
        }
        Err(e) => Err(at_connect(e)),
    }
}

/// Hands the descriptor to the runtime. See the crate's documentation for why as a Unix stream.
fn wrap(fd: OwnedFd) -> Result<UnixStream, Errno> {
    UnixStream::from_std(StdStream::from(fd)).map_err(|e| errno(&e))
}

fn errno(e: &io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_walk_visits_every_privileged_port_but_the_agents_and_starts_over() {
        let mut port = HIGHEST;
        let mut seen = BTreeSet::new();
        while seen.insert(port) {
            port = port_after(port);
        }
        assert_eq!(port, HIGHEST);
        assert!(!seen.contains(&AGENT));
        assert_eq!(seen.len(), usize::try_from(HIGHEST - LOWEST).unwrap());
        assert!(seen.iter().all(|p| (LOWEST..=HIGHEST).contains(p)));
        assert_eq!(port_after(0), HIGHEST, "from anywhere back into the range");
    }

    #[test]
    fn a_taken_port_leads_to_the_next_until_all_were_tried() {
        let mut tries = Tries::default();
        for _ in LOWEST..HIGHEST {
            assert_eq!(
                after(Stage::Bind, Errno::EADDRINUSE, &mut tries),
                Next::Port
            );
        }
        assert_eq!(
            after(Stage::Bind, Errno::EADDRINUSE, &mut tries),
            Next::Stop
        );
    }

    #[test]
    fn resets_and_full_buffers_are_survived_a_few_times() {
        let mut tries = Tries::default();
        for _ in 0..MAX_RESETS {
            assert_eq!(
                after(Stage::Connect, Errno::ECONNRESET, &mut tries),
                Next::Port
            );
        }
        assert_eq!(
            after(Stage::Connect, Errno::ECONNRESET, &mut tries),
            Next::Stop
        );
        for _ in 0..MAX_PAUSES {
            assert_eq!(
                after(Stage::Connect, Errno::ENOBUFS, &mut tries),
                Next::Pause
            );
        }
        assert_eq!(
            after(Stage::Connect, Errno::ENOBUFS, &mut tries),
            Next::Stop
        );
        assert_eq!(after(Stage::Socket, Errno::EINTR, &mut tries), Next::Again);
    }

    #[test]
    fn no_family_no_device_and_no_listener_are_told_apart() {
        let text = |stage, error| DialError { stage, error }.to_string();
        assert!(text(Stage::Socket, Errno::EAFNOSUPPORT).contains("load the modules"));
        assert!(text(Stage::Connect, Errno::ENODEV).contains("no vSocket device"));
        assert!(text(Stage::Connect, Errno::ECONNRESET).contains("nobody listens"));
        assert!(text(Stage::Connect, Errno::EHOSTUNREACH).contains("filter"));
    }
}
