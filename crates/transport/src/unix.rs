//! A listening Unix socket.
//!
//! * Its mode is right from its first moment: the descriptor's mode is set before the name appears.
//! * A name that exists is taken over only when it is a socket and nobody answers on it. Anything else is somebody's.
//! * It removes its name when dropped, but only while the name is still its own.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::UnixListener;

use crate::address::{AddressError, check_socket_path};

/// Connections the kernel keeps waiting. A guest opens one; this absorbs a crowd while the loop is busy.
const BACKLOG: i32 = 128;

/// Why a socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path does not fit.
    #[error(transparent)]
    Path(#[from] AddressError),
    /// Another process answers there.
    #[error("another process already listens on {0}; stop it first")]
    InUse(PathBuf),
    /// The name belongs to something that is no socket.
    #[error("{0} exists and is not a socket; remove it if nobody needs it")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {path}")]
    System {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A Unix socket that listens.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the name, to notice that somebody replaced it.
    name: (u64, u64),
}

impl UnixSocket {
    /// Listens on `path`; only those whom `mode` lets write may connect. Needs a running runtime.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        check_socket_path(path)?;
        let failed = |source| BindError::System {
            path: path.to_owned(),
            source,
        };
        let bound = match listen(path, mode) {
            Err(e) if e.raw_os_error() == Some(Errno::EADDRINUSE as i32) => {
                remove_if_dead(path)?;
                listen(path, mode)
            }
            other => other,
        };
        let listener = bound.map_err(failed)?;
        let name = name_of(path).map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            name,
        })
    }

    /// The listener.
    #[must_use]
    pub const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its name still leads here. A folder that was removed and made again leaves a listener nobody reaches.
    #[must_use]
    pub fn is_reachable(&self) -> bool {
        name_of(&self.path).is_ok_and(|name| name == self.name)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if self.is_reachable() {
            // A name left behind is found dead and taken over by the next bind.
            fs::remove_file(&self.path).ok();
        }
    }
}

fn listen(path: &Path, mode: u32) -> io::Result<StdListener> {
    let fd = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    // Linux gives a socket's name the mode of its descriptor; the second call is for kernels that do not.
    fchmod(&fd, Mode::from_bits_truncate(mode))?;
    socket::bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(mode))?;
    socket::listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(StdListener::from(fd))
}

/// Removes the socket at `path` if nobody answers on it.
fn remove_if_dead(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::System {
        path: path.to_owned(),
        source,
    };
    let found = fs::symlink_metadata(path).map_err(failed)?;
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match StdStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        // Whether it accepted, was too busy, or would not say: it is not proven dead.
        Ok(_) | Err(_) => Err(BindError::InUse(path.to_owned())),
    }
}

fn name_of(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[tokio::test]
    async fn a_socket_has_its_mode_and_leaves_no_name_behind() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = UnixSocket::bind(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_dead_socket_is_taken_over_and_a_live_one_is_not() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves the name");
        let live = UnixSocket::bind(&path, 0o600).unwrap();
        let err = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert!(matches!(err, BindError::InUse(_)), "{err}");
        assert!(live.is_reachable());
    }

    #[tokio::test]
    async fn a_file_is_never_removed() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        fs::write(&path, "precious").unwrap();
        let err = UnixSocket::bind(&path, 0o600).unwrap_err();
        assert!(matches!(err, BindError::NotASocket(_)), "{err}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_name_that_was_replaced_is_noticed_and_left_alone() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        let old = UnixSocket::bind(&path, 0o600).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!old.is_reachable());
        let new = UnixSocket::bind(&path, 0o600).unwrap();
        drop(old);
        assert!(new.is_reachable());
    }

    #[tokio::test]
    async fn a_path_too_long_says_so() {
        let path = PathBuf::from(format!("/tmp/{}", "x".repeat(120)));
        let err = UnixSocket::bind(&path, 0o600).unwrap_err().to_string();
        assert!(err.contains("the system takes 107"), "{err}");
    }
}
