//! The socket Docker finds us at: root and one group may use it, nobody else, at no moment.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::Group;
use tokio::net::UnixListener;
use tracing::warn;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another plugin answers there.
    #[error("{} is served by another process; stop it, or choose another --socket", .0.display())]
    Taken(PathBuf),
    /// Something that is not a socket lies there.
    #[error("{} exists and is not a socket; move it away", .0.display())]
    NotASocket(PathBuf),
    /// The group does not exist.
    #[error("group '{0}' (VDVS_SOCKET_GID, --group or GroupID) does not exist on this machine")]
    NoGroup(String),
    /// The system refused.
    #[error("cannot listen on {}: {cause}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// The group's number. A number is taken as it is. The name `docker` may be missing, as with the original: root then
/// is alone.
///
/// # Errors
/// [`ListenError::NoGroup`].
pub fn resolve_group(name: &str) -> Result<u32, ListenError> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        _ if name == "docker" => {
            warn!("there is no group 'docker'; only root can use the plugin's socket");
            Ok(0)
        }
        _ if name == "root" => Ok(0),
        _ => Err(ListenError::NoGroup(name.to_owned())),
    }
}

/// Listens with mode 0660. Replaces a socket that nobody serves; called once, before other threads make files.
///
/// # Errors
/// [`ListenError`].
pub fn bind(path: &Path, group: u32) -> Result<UnixListener, ListenError> {
    let io = |cause| ListenError::Io {
        path: path.to_owned(),
        cause,
    };
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(io)?;
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(ListenError::NotASocket(path.to_owned()));
        }
        Ok(_) if Probe::connect(path).is_ok() => {
            return Err(ListenError::Taken(path.to_owned()));
        }
        Ok(_) => fs::remove_file(path).map_err(io)?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io(e)),
    }
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(io)?;
    chown(path, None, Some(group)).map_err(io)?;
    fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(io)?;
    Ok(listener)
}
