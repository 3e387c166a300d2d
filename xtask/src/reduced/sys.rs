//! The system calls of the launcher.

use std::mem::zeroed;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::raw::c_long;
use std::process::exit;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{ForkResult, fork, getppid, pipe, read, write};

use super::filter::Op;

/// Puts the filter on this process. A child of it, which has no filter, hears of calls to ask about: it is told their
/// numbers, and they are answered *not implemented*.
pub(super) fn supervised(ops: &[Op], note: impl Fn(i64)) -> Result<()> {
    let (from_parent, to_child) = pipe().context("make a pipe")?;
    // SAFETY: this process has one thread, so the child may do whatever it likes.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            drop(to_child);
            supervise(from_parent, &note);
            exit(0)
        }
        ForkResult::Parent { .. } => {
            drop(from_parent);
            let listener = install(ops)?;
            let told = write(&to_child, &listener.as_raw_fd().to_le_bytes())?;
            ensure!(told == 4, "the supervisor was not told");
            // The child closes its end of the pipe once it has taken the listener over.
            wait_taken(&to_child);
            Ok(())
        }
    }
}

/// Until nobody reads the pipe any more.
fn wait_taken(pipe: &OwnedFd) {
    let mut asked = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    // Ten seconds are far more than a process takes to be scheduled.
    poll(&mut asked, PollTimeout::from(10_000_u16)).ok();
}

fn install(ops: &[Op]) -> Result<OwnedFd> {
    let mut filter: Vec<libc::sock_filter> = ops
        .iter()
        .map(|op| libc::sock_filter {
            code: op.code,
            jt: op.jt,
            jf: op.jf,
            k: op.k,
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).context("the filter is too long")?,
        filter: filter.as_mut_ptr(),
    };
    set_no_new_privs().context("forbid new privileges")?;
    // SAFETY: the program and its instructions live until the call returns; the kernel copies them.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    let fd = Errno::result(fd).context("put the filter on; this kernel may not know listeners")?;
    // SAFETY: the call just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// Takes the parent's listener over and answers until the parent is gone.
fn supervise(from_parent: OwnedFd, note: &impl Fn(i64)) {
    let mut number = [0; 4];
    if read(&from_parent, &mut number) != Ok(4) {
        return;
    }
    let parent = c_long::from(getppid().as_raw());
    let flags: c_long = 0;
    // SAFETY: takes no pointer.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, parent, flags) };
    // SAFETY: takes no pointer.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_pidfd_getfd,
            process,
            c_long::from(i32::from_le_bytes(number)),
            flags,
        )
    };
    let Some(fd) = i32::try_from(fd).ok().filter(|fd| *fd >= 0) else {
        eprintln!(
            "reduced kernel: the supervisor cannot hear: {}",
            Errno::last()
        );
        return;
    };
    // SAFETY: the call just made it for us.
    let listener = unsafe { OwnedFd::from_raw_fd(fd) };
    // The parent waits for this before it starts the program.
    drop(from_parent);
    while let Some(call) = next(&listener) {
        note(i64::from(call.data.nr));
        answer(&listener, call.id);
    }
}

fn next(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    loop {
        let mut asked = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut asked, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
        }
        let [asked] = asked;
        if !asked
            .revents()
            .is_some_and(|r| r.contains(PollFlags::POLLIN))
        {
            // Nobody has this filter any more.
            return None;
        }
        // SAFETY: all zeroes are such a value, and the kernel wants it so.
        let mut call: libc::seccomp_notif = unsafe { zeroed() };
        // SAFETY: there is room for what the kernel writes.
        let got = unsafe {
            libc::ioctl(
                listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut call,
            )
        };
        match Errno::result(got) {
            Ok(_) => return Some(call),
            // Who asked was killed meanwhile.
            Err(Errno::ENOENT | Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

fn answer(listener: &OwnedFd, id: u64) {
    let mut response = libc::seccomp_notif_resp {
        id,
        val: 0,
        error: -libc::ENOSYS,
        flags: 0,
    };
    // SAFETY: the kernel reads the response, which lives until the call returns. Who asked may be gone: nothing to do.
    unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut response,
        )
    };
}
