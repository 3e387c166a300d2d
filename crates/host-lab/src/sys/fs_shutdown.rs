//! Cutting a file system off from its disk, as a power failure does.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use libc::{Ioctl, c_int};

/// `_IOR('X', 125, __u32)`: `EXT4_IOC_SHUTDOWN`, `XFS_IOC_GOINGDOWN`; one number for all file systems that have it.
const FS_SHUTDOWN: Ioctl = 0x8004_587d;
/// Write nothing any more, not even the log.
const NO_LOG_FLUSH: u32 = 2;

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
