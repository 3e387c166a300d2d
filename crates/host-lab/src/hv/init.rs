//! The process that is a VM: the init of its namespaces. While it lives the VM is on; its death is the power cut.

use std::fs::{File, OpenOptions, read_to_string};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstatat, mknodat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use crate::sys;

/// A process named so that nobody else can be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitId {
    /// Process id.
    pub pid: i32,
    /// Its start time in clock ticks since boot.
    pub start_time: u64,
}

/// When a process started: field 22 of `/proc/<pid>/stat`.
///
/// # Errors
/// When there is no such process.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, field 2, is in parentheses and may hold spaces and parentheses itself.
    let after_name = stat.rsplit_once(')').map(|(_, rest)| rest);
    after_name
        .and_then(|rest| rest.split_ascii_whitespace().nth(19))
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat has an unknown form")))
}

/// A living init.
#[derive(Debug)]
pub(crate) struct Init {
    pub(crate) id: InitId,
    handle: OwnedFd,
}

impl Init {
    /// Takes hold of the process, if it is still that one and alive.
    pub(crate) fn hold(id: InitId) -> io::Result<Option<Self>> {
        let handle = match sys::pidfd_open(id.pid) {
            Ok(handle) => handle,
            Err(e) if matches!(e.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let init = Self { id, handle };
        // Asked after the handle is held: if the process lives now, the answer was about it.
        let started = start_time(id.pid);
        Ok((started.is_ok_and(|s| s == id.start_time) && init.alive()?).then_some(init))
    }

    pub(crate) fn alive(&self) -> io::Result<bool> {
        Ok(!self.wait_end(Duration::ZERO)?)
    }

    /// Waits for the end of the process. The handle of a namespace's init reports it only when every process in the
    /// namespace has ended.
    pub(crate) fn wait_end(&self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) if Instant::now() >= deadline => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(e) => return Err(e.into()),
            }
        }
    }

    pub(crate) fn kill(&self) -> io::Result<()> {
        match sys::pidfd_signal(&self.handle, libc::SIGKILL) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// A second handle for somebody who only waits.
    pub(crate) fn watch(&self) -> io::Result<OwnedFd> {
        self.handle.try_clone()
    }

    /// The VM's own `/dev`. Refused when it is this machine's: a node removed there would be everybody's.
    fn dev(&self) -> io::Result<File> {
        let dir = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(format!("/proc/{}/root/dev", self.id.pid))?;
        // The id still meant our process when the folder was opened, if that process lives now.
        if !self.alive()? {
            return Err(io::Error::from(Errno::ESRCH));
        }
        let (theirs, ours) = (dir.metadata()?, File::open("/dev")?.metadata()?);
        if (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()) {
            return Err(io::Error::other("the VM has no /dev of its own"));
        }
        Ok(dir)
    }

    /// Makes the device appear in the VM.
    pub(crate) fn add_node(&self, number: u32) -> io::Result<()> {
        let dev = self.dev()?;
        let name = node_name(number);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IWGRP;
        let make = || {
            mknodat(
                &dev,
                name.as_str(),
                SFlag::S_IFBLK,
                mode,
                sys::loop_rdev(number),
            )
        };
        match make() {
            Err(Errno::EEXIST) => {
                let there = fstatat(&dev, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
                let block = there.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFBLK.bits();
                if block && there.st_rdev == sys::loop_rdev(number) {
                    return Ok(());
                }
                unlinkat(&dev, name.as_str(), UnlinkatFlags::NoRemoveDir)?;
                Ok(make()?)
            }
            other => Ok(other?),
        }
    }

    /// Makes it disappear. A node that is not there, or a VM that has ended, is what was wanted.
    pub(crate) fn remove_node(&self, number: u32) -> io::Result<()> {
        let dev = match self.dev() {
            Ok(dev) => dev,
            Err(_) if !self.alive()? => return Ok(()),
            Err(e) => return Err(e),
        };
        match unlinkat(&dev, node_name(number).as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

fn node_name(number: u32) -> String {
    format!("loop{number}")
}

/// Where the VM finds the device.
pub(crate) fn locator(number: u32) -> String {
    format!("/dev/{}", node_name(number))
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn a_process_is_recognised_by_id_and_start_time() {
        let pid = i32::try_from(process::id()).unwrap();
        let started = start_time(pid).unwrap();
        let held = Init::hold(InitId {
            pid,
            start_time: started,
        })
        .unwrap()
        .unwrap();
        assert!(held.alive().unwrap());
        assert!(
            Init::hold(InitId {
                pid,
                start_time: started + 1
            })
            .unwrap()
            .is_none()
        );
        assert!(
            Init::hold(InitId {
                pid: i32::MAX,
                start_time: 0
            })
            .unwrap()
            .is_none()
        );
    }

    #[test]
    fn a_vm_without_a_dev_of_its_own_gets_no_nodes() {
        let pid = i32::try_from(process::id()).unwrap();
        let id = InitId {
            pid,
            start_time: start_time(pid).unwrap(),
        };
        let err = Init::hold(id).unwrap().unwrap().add_node(7).unwrap_err();
        assert!(err.to_string().contains("no /dev of its own"), "{err}");
    }
}
