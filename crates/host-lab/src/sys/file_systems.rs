//! Whole file systems: cutting one off from its disk, as a power failure does; and holding one still.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{Ioctl, c_int};

use super::done;

/// A request's number in the C library's type, which is signed in one and not in the other.
#[cfg(target_env = "musl")]
const fn request(number: u32) -> Ioctl {
    number.cast_signed()
}

/// As above.
#[cfg(not(target_env = "musl"))]
const fn request(number: u32) -> Ioctl {
    number as Ioctl
}

/// `_IOR('X', 125, __u32)`: `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`; one number for all file systems that have it.
const FS_SHUTDOWN: Ioctl = request(0x8004_587d);
/// Write nothing any more, not even the log.
const NO_LOG_FLUSH: u32 = 2;
/// `_IOWR('X', 119, int)`.
const FIFREEZE: Ioctl = request(0xc004_5877);
/// `_IOWR('X', 120, int)`.
const FITHAW: Ioctl = request(0xc004_5878);

/// Makes the file system that holds this open file or folder drop everything it has not written to its disk, and
/// refuse all further work. What the guest has flushed stays; on the next mount it looks as after a power cut.
///
/// # Errors
/// The file system cannot do this (`ENOTTY`: neither ext4 nor XFS), or the caller is not root.
pub fn shut_down_file_system(file: &File) -> io::Result<()> {
    let how = NO_LOG_FLUSH;
    // SAFETY: the descriptor is open for the whole call, and the kernel only reads the four bytes of `how`.
    let result: c_int = unsafe { libc::ioctl(file.as_raw_fd(), FS_SHUTDOWN, &raw const how) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Writes everything out and holds the file system still: whoever writes waits. Frozen already: nothing to do.
pub(crate) fn freeze(file: &File) -> io::Result<()> {
    // SAFETY: the argument is not looked at; the descriptor is open for the call.
    match done(unsafe { libc::ioctl(file.as_raw_fd(), FIFREEZE, 0) }) {
        Err(e) if e.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        other => other,
    }
}

/// Lets a frozen file system go on. Not frozen: nothing to do.
pub(crate) fn thaw(file: &File) -> io::Result<()> {
    // SAFETY: as in `freeze`.
    match done(unsafe { libc::ioctl(file.as_raw_fd(), FITHAW, 0) }) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(()),
        other => other,
    }
}
