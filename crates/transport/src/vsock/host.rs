//! The hypervisor's end: which family, who calls, why it left.
//!
//! ```text
//!   find the family ──► bind any context, port ──► listen ──► wait ──► accept ──┬─ facts read ──► Arrival
//!   (device kept open)                                          ▲               ├─ that connection failed ──► next
//!                                                               └───────────────┘  listener broken ──► error
//! ```
//! Facts are read from the descriptor **before** it becomes a stream of the runtime, which would misread its addresses. A
//! connection whose facts cannot be read is refused, never served as nobody's.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tracing::info;

use super::numbers::{
    ANY_CID, DEVICES, LINUX_FAMILY, SockaddrVm, UNPRIVILEGED, cause, host_option, request,
};
use crate::peer::Peer;

/// Connections that may wait to be accepted: every VM of a full host reconnects at once after a restart of the agent.
pub const BACKLOG: i32 = 128;
/// What the hypervisor's own tools show a socket as.
const LABEL: &str = "vdvs";

/// The system calls of the host's end.
pub trait HostSockets: Send + Sync + fmt::Debug {
    /// Opens a device, close-on-exec.
    ///
    /// # Errors
    /// The system's.
    fn open(&self, device: &Path) -> Result<OwnedFd, Errno>;
    /// Asks a device for a number.
    ///
    /// # Errors
    /// The system's.
    fn ask(&self, device: BorrowedFd<'_>, request: u32) -> Result<i32, Errno>;
    /// A stream socket, close-on-exec.
    ///
    /// # Errors
    /// The system's.
    fn socket(&self, family: i32) -> Result<OwnedFd, Errno>;
    /// Gives a socket its address.
    ///
    /// # Errors
    /// The system's.
    fn bind(&self, socket: BorrowedFd<'_>, address: &SockaddrVm) -> Result<(), Errno>;
    /// Begins to listen.
    ///
    /// # Errors
    /// The system's.
    fn listen(&self, socket: BorrowedFd<'_>, backlog: i32) -> Result<(), Errno>;
    /// Whether a connection is there, at the latest after this long.
    ///
    /// # Errors
    /// The system's.
    fn wait(&self, socket: BorrowedFd<'_>, patience: Duration) -> Result<bool, Errno>;
    /// Takes a connection: close-on-exec, not blocking.
    ///
    /// # Errors
    /// The system's.
    fn accept(&self, socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno>;
    /// The other end's address.
    ///
    /// # Errors
    /// The system's.
    fn peer(&self, socket: BorrowedFd<'_>) -> Result<SockaddrVm, Errno>;
    /// An option that is a number.
    ///
    /// # Errors
    /// The system's.
    fn option(&self, socket: BorrowedFd<'_>, level: i32, option: i32) -> Result<i32, Errno>;
    /// Sets an option that is a text.
    ///
    /// # Errors
    /// The system's.
    fn set_text(
        &self,
        socket: BorrowedFd<'_>,
        level: i32,
        option: i32,
        text: &str,
    ) -> Result<(), Errno>;
}

/// Who said which number the family has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundBy {
    /// A device.
    Device(PathBuf),
    /// Nobody; it is the guests' number.
    Convention,
}

impl fmt::Display for FoundBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "{}", path.display()),
            Self::Convention => f.write_str("convention (no device says)"),
        }
    }
}

/// The family, usable while this exists.
#[derive(Debug)]
pub struct Family {
    number: i32,
    by: FoundBy,
    version: Option<i32>,
    local_cid: Option<i32>,
    /// The number is valid while this is open.
    _device: Option<OwnedFd>,
}

impl Family {
    /// Its number.
    #[must_use]
    pub const fn number(&self) -> i32 {
        self.number
    }

    /// Who said so.
    #[must_use]
    pub const fn by(&self) -> &FoundBy {
        &self.by
    }

    /// The interface's version, where a device says.
    #[must_use]
    pub const fn version(&self) -> Option<i32> {
        self.version
    }

    /// Our own context, where a device says.
    #[must_use]
    pub const fn local_cid(&self) -> Option<i32> {
        self.local_cid
    }
}

/// Asks which number the family has: both devices, then what Linux uses.
#[must_use]
pub fn find_family(system: &dyn HostSockets) -> Family {
    for device in DEVICES {
        let path = Path::new(device);
        let Ok(fd) = system.open(path) else { continue };
        match system.ask(fd.as_fd(), request::FAMILY) {
            Ok(number) if (1..=i32::from(u16::MAX)).contains(&number) => {
                return Family {
                    number,
                    by: FoundBy::Device(path.to_owned()),
                    version: system.ask(fd.as_fd(), request::VERSION).ok(),
                    local_cid: system.ask(fd.as_fd(), request::LOCAL_CID).ok(),
                    _device: Some(fd),
                };
            }
            Ok(_) | Err(_) => {}
        }
    }
    Family {
        number: LINUX_FAMILY,
        by: FoundBy::Convention,
        version: None,
        local_cid: None,
        _device: None,
    }
}

/// Listening failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for virtual machines: {step}: {}", advice(.step, *.error))]
pub struct ListenError {
    /// What failed.
    step: &'static str,
    /// Why.
    #[source]
    error: Errno,
}

impl ListenError {
    /// Why.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.error
    }
}

fn advice(step: &str, error: Errno) -> &'static str {
    match (step, error) {
        (_, Errno::EAFNOSUPPORT | Errno::ENODEV) => {
            "this kernel has no vSockets; run 'vdvsd --probe' and see which device it misses"
        }
        (_, Errno::EADDRINUSE) => {
            "another program has the port; stop the original's service or the other vdvsd"
        }
        (_, Errno::EACCES | Errno::EPERM) => "the system forbids it; vdvsd has to run as root",
        _ => "the system refuses",
    }
}

/// Why a connection is refused before anybody asks whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Any user of the guest can have such a port.
    #[error("its source port {port} is 1024 or above, so it need not be root of its guest")]
    Unprivileged {
        /// The port.
        port: u32,
    },
    /// The system does not say which VM it is.
    #[error("the system does not say which VM it is ({0})")]
    Nameless(Errno),
    /// The number cannot be one.
    #[error("the system says VM {0}, which none can be")]
    NoVm(i32),
}

/// The rule of privileged ports, and the VM's number.
///
/// # Errors
/// [`Refusal`].
pub fn admit(
    privileged_only: bool,
    peer: Result<SockaddrVm, Errno>,
    vm: Result<i32, Errno>,
) -> Result<u32, Refusal> {
    let peer = peer.map_err(Refusal::Nameless)?;
    if privileged_only && peer.port >= UNPRIVILEGED {
        return Err(Refusal::Unprivileged { port: peer.port });
    }
    let vm = vm.map_err(Refusal::Nameless)?;
    match u32::try_from(vm) {
        Ok(vm) if vm > 0 => Ok(vm),
        _ => Err(Refusal::NoVm(vm)),
    }
}

/// A connection that came, with what the system says about it.
#[derive(Debug)]
pub struct Arrival {
    /// The connection, not blocking.
    pub socket: OwnedFd,
    /// The process group of the VM, or why it is refused.
    pub vm: Result<u32, Refusal>,
}

/// A listening vSocket.
#[derive(Debug)]
pub struct HostListener {
    system: Arc<dyn HostSockets>,
    family: Family,
    socket: OwnedFd,
    privileged_only: bool,
}

impl HostListener {
    /// Listens on a port of every context.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn open(
        system: Arc<dyn HostSockets>,
        port: u32,
        privileged_only: bool,
    ) -> Result<Self, ListenError> {
        let family = find_family(&*system);
        let at = |step: &'static str| move |error| ListenError { step, error };
        let number = family.number;
        let short = u16::try_from(number).map_err(|_| at("socket")(Errno::EAFNOSUPPORT))?;
        let socket = system.socket(number).map_err(at("socket"))?;
        let address = SockaddrVm::new(short, ANY_CID, port);
        system.bind(socket.as_fd(), &address).map_err(at("bind"))?;
        system
            .listen(socket.as_fd(), BACKLOG)
            .map_err(at("listen"))?;
        // For people who look at the host's sockets; nothing depends on it.
        system
            .set_text(socket.as_fd(), number, host_option::SERVICE_LABEL, LABEL)
            .ok();
        Ok(Self {
            system,
            family,
            socket,
            privileged_only,
        })
    }

    /// The family.
    #[must_use]
    pub const fn family(&self) -> &Family {
        &self.family
    }

    /// The next connection; none after this long. Blocks its thread.
    ///
    /// # Errors
    /// The system's; see [`crate::accept::judge`] for what to do about it.
    pub fn next(&self, patience: Duration) -> io::Result<Option<Arrival>> {
        if !self.system.wait(self.socket.as_fd(), patience)? {
            return Ok(None);
        }
        let socket = self.system.accept(self.socket.as_fd())?;
        let peer = self.system.peer(socket.as_fd());
        let vm = self
            .system
            .option(socket.as_fd(), self.family.number, host_option::PEER_VM);
        let vm = admit(self.privileged_only, peer, vm);
        Ok(Some(Arrival { socket, vm }))
    }

    /// What to ask when one of its connections ends.
    #[must_use]
    pub fn departure(&self) -> Departure {
        Departure {
            system: Arc::clone(&self.system),
            family: self.family.number,
        }
    }
}

/// Asks why a peer left.
#[derive(Debug, Clone)]
pub struct Departure {
    system: Arc<dyn HostSockets>,
    family: i32,
}

impl Departure {
    /// Whether its VM goes on running on another host. None: the system does not say.
    #[must_use]
    pub fn by_vmotion(&self, socket: impl AsFd) -> Option<bool> {
        let option = host_option::DISCONNECT_CAUSE;
        match self.system.option(socket.as_fd(), self.family, option) {
            Ok(cause::VMOTION) => Some(true),
            Ok(cause::REGULAR) => Some(false),
            Ok(_) | Err(_) => None,
        }
    }

    pub(crate) fn report(&self, peer: &Peer, socket: impl AsFd) {
        if self.by_vmotion(socket) == Some(true) {
            info!(%peer, "its VM left by vMotion; what it began is finished from its new host");
        }
    }
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
