//! No answer: why, after how long, and whether the agent may have heard the question.
//!
//! A person reads two different things: *nothing changed* when no connection came about, so nobody can have acted; and
//! *not known* when the request may have arrived. The second is said whenever there is doubt.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::time::Duration;

use nix::errno::Errno;
use tonic::Status;
use vdvs_transport::Address;

/// A call without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// The last cause.
    pub why: String,
    /// The agent may have heard it.
    pub heard: bool,
    /// How long was waited.
    pub waited: Duration,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.waited.as_secs_f64().round();
        if seconds >= 1.0 {
            write!(f, "no answer from the agent for {seconds} s ({})", self.why)
        } else {
            write!(f, "no answer from the agent ({})", self.why)
        }
    }
}

impl Silence {
    /// What follows from it, and what to do.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        if self.heard {
            "whether it was done is not known, and the same command again finds out; if this stays, run `vdvs-plugin doctor`"
        } else {
            "nothing changed, run `vdvs-plugin doctor`"
        }
    }
}

/// What kept a connection from coming about, in words for people; none: there was one, or nobody can say.
#[must_use]
pub fn unreachable(status: &Status, address: &Address) -> Option<String> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(status);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return refused(io, address);
        }
        cause = error.source();
    }
    None
}

/// Only errors that an established connection never shows.
fn refused(error: &io::Error, address: &Address) -> Option<String> {
    let device = matches!(address, Address::Vsock { .. });
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            return Some(format!("nobody listens on {address}"));
        }
        io::ErrorKind::PermissionDenied => {
            return Some(format!("{address} may not be used by this user"));
        }
        _ => {}
    }
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENODEV | Errno::EAFNOSUPPORT) if device => Some(format!(
            "this VM has no vSocket device, so {address} cannot be reached"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refused_connection_is_said_to_have_changed_nothing() {
        let unix: Address = "unix:/run/vdvs-vsock/1019".parse().unwrap();
        let vsock: Address = "vsock:2:1019".parse().unwrap();
        let told = |errno: Errno, address: &Address| {
            refused(&io::Error::from_raw_os_error(errno as i32), address)
        };
        let nobody = Some("nobody listens on unix:/run/vdvs-vsock/1019".to_owned());
        assert_eq!(told(Errno::ENOENT, &unix), nobody);
        assert_eq!(told(Errno::ECONNREFUSED, &unix), nobody);
        assert!(
            told(Errno::EACCES, &unix)
                .unwrap()
                .contains("may not be used")
        );
        assert!(
            told(Errno::ENODEV, &vsock)
                .unwrap()
                .contains("no vSocket device")
        );
        // A vSocket nobody listens on is reset, like a connection that broke: not known.
        for errno in [
            Errno::ECONNRESET,
            Errno::EPIPE,
            Errno::ETIMEDOUT,
            Errno::EIO,
        ] {
            assert_eq!(told(errno, &vsock), None, "{errno}");
        }
    }

    #[test]
    fn the_text_names_the_time_the_cause_and_the_command() {
        let silence = Silence {
            why: "nobody listens on unix:/x".into(),
            heard: false,
            waited: Duration::from_millis(59_900),
        };
        assert_eq!(
            format!("{silence}: {}", silence.advice()),
            "no answer from the agent for 60 s (nobody listens on unix:/x): nothing changed, run `vdvs-plugin doctor`"
        );
        let heard = Silence {
            heard: true,
            waited: Duration::ZERO,
            ..silence
        };
        assert!(
            heard
                .to_string()
                .starts_with("no answer from the agent (nobody")
        );
        assert!(heard.advice().contains("not known"));
    }
}
