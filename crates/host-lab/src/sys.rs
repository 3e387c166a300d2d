//! The kernel calls that have no safe wrapper: loop devices, pidfds, freezing of file systems. All `unsafe` of the
//! crate is here and below.

mod file_systems;
mod loops;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null;

use libc::{c_int, c_long};

pub use file_systems::shut_down_file_system;
pub(crate) use file_systems::{freeze, thaw};
pub(crate) use loops::{
    LoopDevice, LoopState, loop_bind, loop_claim, loop_gone, loop_label, loop_open_as, loop_rdev,
    loop_state, loops,
};

/// A handle on a process that stays with it when its id is used again.
pub(crate) fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes an id and flags and returns a new descriptor or -1; no memory is involved.
    let fd: c_long = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends the process a signal.
pub(crate) fn pidfd_signal(fd: &OwnedFd, signal: c_int) -> io::Result<()> {
    // SAFETY: the null pointer stands for "no siginfo"; the descriptor is open for the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd.as_raw_fd(),
            signal,
            null::<libc::siginfo_t>(),
            0,
        )
    };
    done(c_int::try_from(rc).unwrap_or(-1))
}

fn done(rc: c_int) -> io::Result<()> {
    if rc < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_handle_is_refused_for_nobody() {
        assert!(pidfd_open(i32::MAX).is_err());
    }
}
