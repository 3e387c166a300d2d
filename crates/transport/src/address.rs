//! Where an agent listens, as people write it: `unix:/run/vdvs-vsock/1019` or `vsock:2:1019`.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest path that fits `sockaddr_un` on Linux with its closing zero.
pub const MAX_SOCKET_PATH: usize = 107;

/// An address to dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A vSocket: context id 2 is the host, its agent listens on port 1019.
    Vsock {
        /// Context id.
        cid: u32,
        /// Port.
        port: u32,
    },
}

/// Not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither form.
    #[error("'{0}' is not an address: write unix:/path/of/socket, or vsock:2:1019")]
    Form(String),
    /// A relative path, which would depend on where the program was started.
    #[error(
        "'{0}' is not an absolute path: a Unix socket is named as in unix:/run/vdvs-vsock/1019"
    )]
    Relative(String),
    /// A path the kernel has no room for.
    #[error(
        "the socket path is {length} bytes long and the system takes {MAX_SOCKET_PATH}: {path}"
    )]
    TooLong {
        /// Its length.
        length: usize,
        /// The path.
        path: String,
    },
    /// A context id or port that is no number.
    #[error("'{0}' is not a number: a vSocket is named as in vsock:2:1019")]
    Number(String),
}

/// Refuses a path that no socket address has room for.
///
/// # Errors
/// [`AddressError::TooLong`], naming both lengths.
pub fn check_socket_path(path: &Path) -> Result<(), AddressError> {
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_SOCKET_PATH {
        let path = path.display().to_string();
        return Err(AddressError::TooLong { length, path });
    }
    Ok(())
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let cut = |t: &str| t.chars().take(120).collect::<String>();
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') {
                return Err(AddressError::Relative(cut(path)));
            }
            let path = PathBuf::from(path);
            check_socket_path(&path)?;
            return Ok(Self::Unix(path));
        }
        let (cid, port) = text
            .strip_prefix("vsock:")
            .and_then(|rest| rest.split_once(':'))
            .ok_or_else(|| AddressError::Form(cut(text)))?;
        let number = |t: &str| t.parse().map_err(|_| AddressError::Number(cut(t)));
        Ok(Self::Vsock {
            cid: number(cid)?,
            port: number(port)?,
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Vsock { cid, port } => write!(f, "vsock:{cid}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read_and_printed() {
        for text in ["unix:/run/vdvs-vsock/1019", "vsock:2:1019", "unix:/a:b"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let vsock = Address::Vsock { cid: 2, port: 1019 };
        assert_eq!("vsock:2:1019".parse(), Ok(vsock));
    }

    #[test]
    fn what_is_no_address_says_how_one_looks() {
        for (text, part) in [
            ("", "unix:/path"),
            ("/run/x", "unix:/path"),
            ("unix:run/x", "absolute"),
            ("vsock:2", "vsock:2:1019"),
            ("vsock:host:1019", "'host' is not a number"),
            ("vsock:2:-1", "'-1' is not a number"),
            ("vsock:2:4294967296", "not a number"),
        ] {
            let err = text.parse::<Address>().unwrap_err().to_string();
            assert!(err.contains(part), "{text}: {err}");
        }
    }

    #[test]
    fn a_path_that_no_socket_address_holds_is_refused_before_it_is_used() {
        let fits = format!("unix:/{}", "x".repeat(MAX_SOCKET_PATH - 1));
        assert!(fits.parse::<Address>().is_ok());
        let err = format!("{fits}x").parse::<Address>().unwrap_err();
        assert!(err.to_string().contains("108 bytes long"), "{err}");
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_prints_back(text in "(unix:|vsock:)?.{0,140}") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string().parse::<Address>().unwrap(), address);
            }
        }
    }
}
