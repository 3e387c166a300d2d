//! Dialling a vSocket from a privileged port, which proves to the host that root of the guest is calling.
//!
//! Privileged ports run out: a closed pair lingers, and the family does not honour address reuse. So a guest keeps one
//! connection, and a dial walks down the range, each time from where the last one stopped. What an error at which step
//! means is decided by [`after`], which does no I/O.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::UnixStream;
use tokio::time::sleep;

use super::sys::LinuxSockets;

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

/// The system calls of a dial.
pub trait GuestSockets: Send + Sync + fmt::Debug {
    /// A stream socket of the guests' family: close-on-exec, not blocking.
    ///
    /// # Errors
    /// The system's.
    fn socket(&self) -> Result<OwnedFd, Errno>;
    /// Gives it a source port.
    ///
    /// # Errors
    /// The system's.
    fn bind(&self, socket: BorrowedFd<'_>, port: u32) -> Result<(), Errno>;
    /// Begins to connect. [`Errno::EINPROGRESS`]: it is not decided yet.
    ///
    /// # Errors
    /// The system's.
    fn connect(&self, socket: BorrowedFd<'_>, cid: u32, port: u32) -> Result<(), Errno>;
    /// What came of it, once the stream can be written to.
    ///
    /// # Errors
    /// Why it is not connected.
    fn outcome(&self, stream: &UnixStream) -> Result<(), Errno>;
}

/// What is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The kernel has no vSockets.
    NoFamily,
    /// It has, and no device that leads to a host.
    NoDevice,
    /// The host answers, and no agent does.
    NobodyListens,
    /// Something lets nothing through.
    Filtered,
    /// A privileged port may not be taken.
    NotRoot,
    /// None is left.
    NoPortLeft,
    /// The host does not answer.
    Silent,
    /// Anything else.
    Other,
}

impl Cause {
    const fn of(stage: Stage, error: Errno) -> Self {
        match (stage, error) {
            (_, Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT) => Self::NoFamily,
            // Modules are loaded, transports are not; or there is nothing they could drive.
            (_, Errno::ENODEV | Errno::ENXIO) => Self::NoDevice,
            (Stage::Bind, Errno::EACCES | Errno::EPERM) => Self::NotRoot,
            (_, Errno::EADDRINUSE) => Self::NoPortLeft,
            (Stage::Connect, Errno::ECONNRESET | Errno::ECONNREFUSED) => Self::NobodyListens,
            (
                Stage::Connect,
                Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::EACCES | Errno::EPERM,
            ) => Self::Filtered,
            (Stage::Connect, Errno::ETIMEDOUT) => Self::Silent,
            _ => Self::Other,
        }
    }

    /// What it means, and what to do next.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NoFamily => {
                "this kernel has no vSocket family; load it with 'modprobe vmw_vsock_vmci_transport'"
            }
            Self::NoDevice => {
                "this machine has no vSocket device; is it a virtual machine with VMCI (look for it with 'lspci'), and is \
                 the module vmw_vsock_vmci_transport loaded?"
            }
            Self::NobodyListens => {
                "nobody listens on the host; is vdvsd running there ('/etc/init.d/vdvsd status' on the host)?"
            }
            Self::Filtered => {
                "the host lets nothing through; a VMCI filter of this VM may forbid stream port 1019 to the host"
            }
            Self::NotRoot => "a port below 1024 needs root, or CAP_NET_BIND_SERVICE",
            Self::NoPortLeft => {
                "all ports from 512 to 1023 are taken; closed connections give theirs back within a minute or two"
            }
            Self::Silent => "the host does not answer; it may be paused, or just moving this VM",
            Self::Other => "unexpected; it goes on trying",
        }
    }
}

/// A dial that failed, with what to do about it.
#[derive(Debug)]
pub struct DialError {
    cause: Cause,
    error: Errno,
}

impl DialError {
    const fn new(stage: Stage, error: Errno) -> Self {
        Self {
            cause: Cause::of(stage, error),
            error,
        }
    }

    /// What is in the way.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        self.cause
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vSocket: {}", self.cause.advice())
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
    dial_with(&LinuxSockets, &NEXT, cid, port).await
}

async fn dial_with(
    system: &dyn GuestSockets,
    walk: &AtomicU32,
    cid: u32,
    port: u32,
) -> io::Result<UnixStream> {
    let mut tries = Tries::default();
    loop {
        let source = walk
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |p| {
                Some(port_after(p))
            })
            .unwrap_or(HIGHEST);
        loop {
            let (stage, error) = match attempt(system, cid, port, source).await {
                Ok(stream) => return Ok(stream),
                Err(failed) => failed,
            };
            match after(stage, error, &mut tries) {
                Next::Port => break,
                Next::Again => {}
                Next::Pause => sleep(Duration::from_millis(1)).await,
                Next::Stop => return Err(io::Error::other(DialError::new(stage, error))),
            }
        }
    }
}

async fn attempt(
    system: &dyn GuestSockets,
    cid: u32,
    port: u32,
    source: u32,
) -> Result<UnixStream, (Stage, Errno)> {
    let at_connect = |e| (Stage::Connect, e);
    let fd = system.socket().map_err(|e| (Stage::Socket, e))?;
    system
        .bind(fd.as_fd(), source)
        .map_err(|e| (Stage::Bind, e))?;
    match system.connect(fd.as_fd(), cid, port) {
        Ok(()) => wrap(fd).map_err(at_connect),
        Err(Errno::EINPROGRESS) => {
            let stream = wrap(fd).map_err(at_connect)?;
            stream.writable().await.map_err(|e| at_connect(errno(&e)))?;
            system.outcome(&stream).map_err(at_connect)?;
            Ok(stream)
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
    use std::sync::Mutex;

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

    /// Answers of the system, step by step; the last counts for all that follow.
    #[derive(Debug, Default)]
    struct Fake {
        binds: Vec<Errno>,
        connects: Vec<Errno>,
        outcomes: Vec<Errno>,
        asked: Mutex<(Vec<u32>, usize, usize)>,
        far: Mutex<Vec<StdStream>>,
    }

    fn answer(list: &[Errno], at: usize) -> Result<(), Errno> {
        list.get(at).map_or(Ok(()), |e| Err(*e))
    }

    impl GuestSockets for Fake {
        fn socket(&self) -> Result<OwnedFd, Errno> {
            let (near, far) = StdStream::pair().unwrap();
            near.set_nonblocking(true).unwrap();
            self.far.lock().unwrap().push(far);
            Ok(near.into())
        }

        fn bind(&self, _: BorrowedFd<'_>, port: u32) -> Result<(), Errno> {
            let ports = &mut self.asked.lock().unwrap().0;
            ports.push(port);
            answer(&self.binds, ports.len() - 1)
        }

        fn connect(&self, _: BorrowedFd<'_>, cid: u32, port: u32) -> Result<(), Errno> {
            assert_eq!((cid, port), (2, 1019));
            let count = &mut self.asked.lock().unwrap().1;
            *count += 1;
            answer(&self.connects, *count - 1)
        }

        fn outcome(&self, _: &UnixStream) -> Result<(), Errno> {
            let count = &mut self.asked.lock().unwrap().2;
            *count += 1;
            answer(&self.outcomes, *count - 1)
        }
    }

    async fn dialled(fake: &Fake) -> Result<Vec<u32>, Cause> {
        let walk = AtomicU32::new(HIGHEST);
        match dial_with(fake, &walk, 2, 1019).await {
            Ok(_) => Ok(fake.asked.lock().unwrap().0.clone()),
            Err(e) => {
                let inner = e.get_ref().unwrap().downcast_ref::<DialError>();
                Err(inner.unwrap().cause())
            }
        }
    }

    #[tokio::test]
    async fn a_dial_walks_down_past_ports_that_are_taken_or_reset() {
        let fake = Fake {
            binds: vec![Errno::EADDRINUSE, Errno::EADDRINUSE, Errno::EINTR],
            connects: vec![Errno::EINPROGRESS, Errno::ENOBUFS, Errno::EINPROGRESS],
            outcomes: vec![Errno::ECONNRESET],
            ..Fake::default()
        };
        // The fourth source answers with a reset, the fifth is short of buffers once.
        let fake_outcome = dialled(&fake).await.unwrap();
        assert_eq!(fake_outcome, [1023, 1022, 1021, 1021, 1020, 1020]);
    }

    #[tokio::test]
    async fn what_is_in_the_way_is_told_apart() {
        for (stage, error, cause, words) in [
            (Stage::Bind, Errno::EACCES, Cause::NotRoot, "root"),
            (
                Stage::Bind,
                Errno::EADDRINUSE,
                Cause::NoPortLeft,
                "512 to 1023",
            ),
            (Stage::Connect, Errno::ENODEV, Cause::NoDevice, "lspci"),
            (
                Stage::Connect,
                Errno::ECONNRESET,
                Cause::NobodyListens,
                "vdvsd running",
            ),
            (
                Stage::Connect,
                Errno::EHOSTUNREACH,
                Cause::Filtered,
                "VMCI filter",
            ),
            (Stage::Connect, Errno::EPERM, Cause::Filtered, "1019"),
            (
                Stage::Connect,
                Errno::ETIMEDOUT,
                Cause::Silent,
                "does not answer",
            ),
            (Stage::Connect, Errno::EIO, Cause::Other, "unexpected"),
        ] {
            let always = vec![error; 2000];
            let fake = match stage {
                Stage::Bind => Fake {
                    binds: always,
                    ..Fake::default()
                },
                _ => Fake {
                    connects: always,
                    ..Fake::default()
                },
            };
            assert_eq!(dialled(&fake).await, Err(cause));
            assert!(cause.advice().contains(words), "{cause:?}");
        }
        assert_eq!(
            Cause::of(Stage::Socket, Errno::EAFNOSUPPORT),
            Cause::NoFamily
        );
        assert!(Cause::NoFamily.advice().contains("modprobe"));
    }
}
