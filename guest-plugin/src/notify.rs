//! Telling the service manager that the plugin listens, so that dockerd is started only then (`Type=notify`).

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says that the service is ready, if somebody asked to be told; `NOTIFY_SOCKET` is a path, or `@` and an abstract name.
///
/// # Errors
/// Somebody asked and cannot be told.
pub fn ready() -> io::Result<()> {
    match env::var_os("NOTIFY_SOCKET") {
        Some(at) if !at.is_empty() => tell(at.as_bytes(), b"READY=1"),
        _ => Ok(()),
    }
}

fn tell(at: &[u8], what: &[u8]) -> io::Result<()> {
    let address = match at.split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(OsStr::from_bytes(at))?,
    };
    UnixDatagram::unbound()?
        .send_to_addr(what, &address)
        .map(drop)
}

#[cfg(test)]
mod tests {
    use std::process::id;

    use super::*;

    #[test]
    fn who_asked_is_told_by_path_or_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("vdvs-notify-{}", id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let asked = [
            (
                UnixDatagram::bind(&path).unwrap(),
                path.to_str().unwrap().to_owned(),
            ),
            (
                UnixDatagram::bind_addr(&abstract_name).unwrap(),
                format!("@{name}"),
            ),
        ];
        for (socket, at) in asked {
            tell(at.as_bytes(), b"READY=1").unwrap();
            let mut heard = [0; 16];
            let length = socket.recv(&mut heard).unwrap();
            assert_eq!(&heard[..length], b"READY=1");
        }
        assert!(tell(b"/nonexistent/notify", b"READY=1").is_err());
    }
}
