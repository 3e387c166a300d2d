//! The system calls themselves. The only unsafe code of this crate: calls that nobody wraps, because the family's number
//! is not known when the program is built, and addresses of a family that has no name here.
//!
//! All go through the C library, which knows the older forms of calls that a kernel lacks.

use std::mem::size_of_val;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self as sockets, AddressFamily, Backlog, SockFlag, SockType, sockopt};
use nix::sys::stat::Mode;
use tokio::net::UnixStream;
use vsock::{VMADDR_CID_ANY, VsockAddr};

use super::dial::GuestSockets;
use super::host::HostSockets;
use super::numbers::SockaddrVm;

/// The hypervisor's.
#[derive(Debug, Clone, Copy, Default)]
pub struct EsxSockets;

/// A guest's.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinuxSockets;

/// A request's number in the C library's type, which is signed in one and not in the other.
#[cfg(target_env = "musl")]
const fn number(request: u32) -> libc::Ioctl {
    request.cast_signed()
}

/// As above.
#[cfg(not(target_env = "musl"))]
const fn number(request: u32) -> libc::Ioctl {
    request as libc::Ioctl
}

fn length_of<T>(value: &T) -> Result<socklen_t, Errno> {
    socklen_t::try_from(size_of_val(value)).map_err(|_| Errno::EINVAL)
}

fn done(result: c_int) -> Result<c_int, Errno> {
    Errno::result(result)
}

/// Takes a descriptor that a call just returned, and sees to it that no child inherits it and nothing blocks on it.
fn own(raw: c_int, blocks: bool) -> Result<OwnedFd, Errno> {
    // SAFETY: the call that returned it made it for us; nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    if !blocks {
        let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    }
    Ok(fd)
}

impl HostSockets for EsxSockets {
    fn open(&self, device: &Path) -> Result<OwnedFd, Errno> {
        open(device, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
    }

    fn ask(&self, device: BorrowedFd<'_>, request: u32) -> Result<i32, Errno> {
        let mut answer: c_int = -1;
        let request = number(request);
        // SAFETY: every request that is sent here writes one int, for which there is room for the whole call.
        done(unsafe { libc::ioctl(device.as_raw_fd(), request, &raw mut answer) })?;
        Ok(answer)
    }

    fn socket(&self, family: i32) -> Result<OwnedFd, Errno> {
        // Without flags in the type, which came to Linux later than this interface.
        // SAFETY: takes no pointer.
        own(
            done(unsafe { libc::socket(family, libc::SOCK_STREAM, 0) })?,
            true,
        )
    }

    fn bind(&self, socket: BorrowedFd<'_>, address: &SockaddrVm) -> Result<(), Errno> {
        let length = length_of(address)?;
        let address: *const SockaddrVm = address;
        // SAFETY: the address is whole and lives longer than the call, which only reads it.
        done(unsafe { libc::bind(socket.as_raw_fd(), address.cast(), length) }).map(drop)
    }

    fn listen(&self, socket: BorrowedFd<'_>, backlog: i32) -> Result<(), Errno> {
        sockets::listen(&socket, Backlog::new(backlog)?)
    }

    fn wait(&self, socket: BorrowedFd<'_>, patience: Duration) -> Result<bool, Errno> {
        let mut asked = [PollFd::new(socket, PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut asked, patience)? > 0)
    }

    fn accept(&self, socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        // The address is asked for afterwards, of the connection itself.
        own(sockets::accept(socket.as_raw_fd())?, false)
    }

    fn peer(&self, socket: BorrowedFd<'_>) -> Result<SockaddrVm, Errno> {
        let mut address = SockaddrVm::new(0, 0, 0);
        let mut length = length_of(&address)?;
        let place: *mut SockaddrVm = &raw mut address;
        // SAFETY: there is room for as many bytes as `length` says, and any bytes are an address.
        done(unsafe { libc::getpeername(socket.as_raw_fd(), place.cast(), &raw mut length) })?;
        match usize::try_from(length) {
            Ok(12..=16) => Ok(address),
            _ => Err(Errno::EINVAL),
        }
    }

    fn option(&self, socket: BorrowedFd<'_>, level: i32, option: i32) -> Result<i32, Errno> {
        let mut value: c_int = 0;
        let mut length = length_of(&value)?;
        let whole = length;
        let place: *mut c_void = (&raw mut value).cast();
        // SAFETY: there is room for as many bytes as `length` says, and any bytes are a number.
        done(unsafe {
            libc::getsockopt(socket.as_raw_fd(), level, option, place, &raw mut length)
        })?;
        if length == whole {
            Ok(value)
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn set_text(
        &self,
        socket: BorrowedFd<'_>,
        level: i32,
        option: i32,
        text: &str,
    ) -> Result<(), Errno> {
        let bytes: Vec<u8> = text.bytes().chain([0]).collect();
        let length = socklen_t::try_from(bytes.len()).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the call reads `length` bytes, and so many are there until it returns.
        done(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                level,
                option,
                bytes.as_ptr().cast(),
                length,
            )
        })
        .map(drop)
    }
}

impl GuestSockets for LinuxSockets {
    fn socket(&self) -> Result<OwnedFd, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        sockets::socket(AddressFamily::Vsock, SockType::Stream, flags, None)
    }

    fn bind(&self, socket: BorrowedFd<'_>, port: u32) -> Result<(), Errno> {
        sockets::bind(socket.as_raw_fd(), &VsockAddr::new(VMADDR_CID_ANY, port))
    }

    fn connect(&self, socket: BorrowedFd<'_>, cid: u32, port: u32) -> Result<(), Errno> {
        sockets::connect(socket.as_raw_fd(), &VsockAddr::new(cid, port))
    }

    fn outcome(&self, stream: &UnixStream) -> Result<(), Errno> {
        match sockets::getsockopt(&stream.as_fd(), sockopt::SocketError)? {
            0 => Ok(()),
            code => Err(Errno::from_raw(code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream as StdStream};

    use tempfile::tempdir;

    use super::super::numbers::request;
    use super::*;

    // What can be shown without the family: the calls themselves, on sockets of another one.

    #[test]
    fn a_connection_is_awaited_taken_and_neither_blocks_nor_is_inherited() {
        let dir = tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        let there = |ms| EsxSockets.wait(listener.as_fd(), Duration::from_millis(ms));
        assert_eq!(there(1), Ok(false));
        let _client = StdStream::connect(dir.path().join("s")).unwrap();
        assert_eq!(there(20_000), Ok(true));
        let taken = EsxSockets.accept(listener.as_fd()).unwrap();
        let flags = fcntl(&taken, FcntlArg::F_GETFL).unwrap();
        assert!(OFlag::from_bits_truncate(flags).contains(OFlag::O_NONBLOCK));
        assert_eq!(fcntl(&taken, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
    }

    #[test]
    fn options_are_numbers_of_one_length_and_other_addresses_are_none() {
        let (one, _other) = StdStream::pair().unwrap();
        let kind = EsxSockets.option(one.as_fd(), libc::SOL_SOCKET, libc::SO_TYPE);
        assert_eq!(kind, Ok(libc::SOCK_STREAM));
        let unknown = EsxSockets.option(one.as_fd(), libc::SOL_SOCKET, 9999);
        assert_eq!(unknown, Err(Errno::ENOPROTOOPT));
        assert_eq!(EsxSockets.peer(one.as_fd()), Err(Errno::EINVAL));
        let text = EsxSockets.set_text(one.as_fd(), libc::SOL_SOCKET, 9999, "label");
        assert_eq!(text, Err(Errno::ENOPROTOOPT));
    }

    #[test]
    fn a_device_that_is_none_has_no_family() {
        let device = EsxSockets.open(Path::new("/dev/null")).unwrap();
        assert_eq!(fcntl(&device, FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
        let asked = EsxSockets.ask(device.as_fd(), request::FAMILY);
        assert_eq!(asked, Err(Errno::ENOTTY));
        assert!(EsxSockets.open(Path::new("/nowhere/vsock")).is_err());
    }
}
