//! A failure on its way over the wire: the gRPC code, the text, and in the trailer `vdvs-reason` the machine string
//! that programs decide on.
//!
//! Coming back, a status **without** that trailer was not made by an agent's use case but by something on the way: a
//! lost connection, a deadline, a limit. Then nothing is known about the effect of the call, and it must never be read
//! as an answer (least of all as "not found").

use std::error::Error as StdError;
use std::time::Duration;

use http::HeaderValue;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use vdvs_domain::{Error, ErrorKind};

use crate::limits::{MAX_ERROR_TEXT, cut};

/// Trailer that carries the machine string.
pub const REASON: &str = "vdvs-reason";

/// The status for a failure.
#[must_use]
pub fn from_error(error: &Error) -> Status {
    let row = error.kind().row();
    let mut trailers = MetadataMap::new();
    trailers.insert(REASON, MetadataValue::from_static(row.reason));
    let text = cut(&error.to_string(), MAX_ERROR_TEXT).to_owned();
    Status::with_metadata(Code::from_i32(i32::from(row.grpc)), text, trailers)
}

/// A failed call, as its caller sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct RemoteError {
    /// What programs decide on.
    pub kind: ErrorKind,
    /// For people.
    pub text: String,
    /// The agent did not answer this: whether the call had its effect is not known.
    pub transport: bool,
}

impl From<Status> for RemoteError {
    fn from(status: Status) -> Self {
        let answered = status
            .metadata()
            .get(REASON)
            .and_then(|reason| reason.to_str().ok());
        if let Some(reason) = answered {
            return Self {
                // A newer agent may know a kind that we do not: then its code says most.
                kind: ErrorKind::from_reason(reason).unwrap_or_else(|| kind_of(status.code())),
                text: status.message().to_owned(),
                transport: false,
            };
        }
        Self {
            kind: kind_of(status.code()),
            text: describe(&status),
            transport: true,
        }
    }
}

impl From<Error> for RemoteError {
    /// A reply that does not make sense: as good as none.
    fn from(error: Error) -> Self {
        Self {
            kind: error.kind(),
            text: format!("the agent's answer does not make sense: {error}"),
            transport: true,
        }
    }
}

/// The nearest kind for a code that came without a reason. Never one that states a fact about a volume.
const fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Timeout,
        Code::Unimplemented => ErrorKind::VersionMismatch,
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::ResourceExhausted => ErrorKind::Overloaded,
        _ => ErrorKind::Unavailable,
    }
}

/// The text of a status that no agent wrote, with the cause that the transport knows.
fn describe(status: &Status) -> String {
    let what = match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => "the agent did not answer in time",
        Code::Unimplemented => "the agent does not know this request; upgrade it",
        Code::Unavailable => "the agent cannot be reached",
        _ => "the agent did not answer",
    };
    let mut text = what.to_owned();
    let mut cause: Option<&(dyn StdError + 'static)> = StdError::source(status);
    if cause.is_none() && !status.message().is_empty() {
        text.push_str(": ");
        text.push_str(status.message());
    }
    while let Some(error) = cause {
        let part = error.to_string();
        // Layers that only repeat what they wrap add nothing.
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    cut(&text, MAX_ERROR_TEXT).to_owned()
}

/// Whether a call's metadata names a deadline, and which. `grpc-timeout` is a number of at most eight digits and a
/// unit.
#[must_use]
pub fn deadline_of(metadata: &MetadataMap) -> Option<Duration> {
    let text: &HeaderValue = metadata.as_ref().get("grpc-timeout")?;
    let text = text.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use vdvs_domain::access::{Denied, Fault};
    use vdvs_domain::error::{Holder, full_name};
    use vdvs_domain::{Capacity, DatastoreName, Epoch, GroupName, Timestamp, VolumeId, VolumeName};

    use super::*;

    /// One failure of every kind, with every kind covered.
    fn failures() -> Vec<Error> {
        let ds = DatastoreName::new("vsanDatastore").unwrap();
        let short = VolumeName::new("v").unwrap();
        let name = full_name(&short, &ds);
        let holder = Holder {
            vm: "swarm02".into(),
            host: "esx01".into(),
            since: Timestamp::from_millis(1),
            note: "",
        };
        let text = || "why".to_owned();
        vec![
            Error::VolumeNotFound {
                address: "v".into(),
                looked_on: "vsanDatastore".into(),
            },
            Error::AnotherVolume {
                name: name.clone(),
                meant: VolumeId::new(Uuid::from_u128(1)),
            },
            Error::AlreadyExists {
                name: name.clone(),
                differences: vec![text()],
            },
            Error::Invalid {
                what: "name",
                problem: "zu kurz: ż\n".into(),
            },
            Error::Denied(Denied::NoGroup {
                vm: "swarm01".into(),
            }),
            Error::UnknownCaller { why: text() },
            Error::NotConfigured {
                datastore: ds.clone(),
                why: text(),
            },
            Error::InUse {
                verb: "remove",
                name: name.clone(),
                holder,
            },
            Error::Superseded {
                name: name.clone(),
                given: Epoch::new(1),
                current: Epoch::new(2),
            },
            Error::RequestMismatch { request: text() },
            Error::Access(Fault::DefaultPrivilege {
                group: GroupName::default_group(),
            }),
            Error::Ambiguous {
                name: short,
                datastores: "a, b".into(),
            },
            Error::Unwritten {
                name: name.clone(),
                why: text(),
            },
            Error::Contended { name },
            Error::DeadlinePassed { doing: "testing" },
            Error::Overloaded { limit: 3 },
            Error::NoSpace {
                datastore: ds,
                asked: Capacity::DEFAULT,
            },
            Error::QuotaExceeded {
                used: 1,
                limit: 2,
                asked: 3,
            },
            Error::FormatRefused { why: "testing" },
            Error::Damaged {
                what: text(),
                why: text(),
            },
            Error::NewerFormat {
                what: text(),
                found: 2,
                known: 1,
            },
            Error::VersionMismatch {
                guest: "1".into(),
                host: "2".into(),
                upgrade: "plugin",
            },
            Error::HostFailed {
                verb: "attach",
                why: text(),
            },
            Error::Internal("x".repeat(10_000)),
        ]
    }

    #[test]
    fn every_kind_comes_back_as_it_went() {
        let failures = failures();
        let mut kinds: Vec<_> = failures.iter().map(Error::kind).collect();
        kinds.dedup();
        assert_eq!(kinds, ErrorKind::ALL, "a failure of every kind");
        for error in failures {
            let status = from_error(&error);
            assert_eq!(status.code() as u8, error.kind().row().grpc);
            // Over real headers, as a trailer carries it.
            let headers = status.into_http::<()>().into_parts().0.headers;
            let back = RemoteError::from(Status::from_header_map(&headers).unwrap());
            assert_eq!(back.kind, error.kind());
            assert!(!back.transport);
            let text = error.to_string();
            assert_eq!(back.text, cut(&text, MAX_ERROR_TEXT));
        }
    }

    #[test]
    fn a_status_without_a_reason_is_never_an_answer() {
        for code in (1..=16).map(Code::from_i32) {
            let error = RemoteError::from(Status::new(code, "x"));
            assert!(error.transport, "{code:?}");
            assert!(
                !matches!(error.kind, ErrorKind::NotFound | ErrorKind::AlreadyExists),
                "{code:?}"
            );
        }
    }

    #[test]
    fn a_reason_of_a_newer_agent_is_still_an_answer() {
        let mut status = Status::new(Code::FailedPrecondition, "frozen");
        status
            .metadata_mut()
            .insert(REASON, MetadataValue::from_static("FROZEN"));
        let error = RemoteError::from(status);
        assert_eq!(
            (error.kind, error.transport),
            (ErrorKind::Unavailable, false)
        );
        assert_eq!(error.text, "frozen");
    }

    #[test]
    fn deadlines_are_read_in_every_unit_and_nonsense_is_none() {
        let read = |text: &'static str| {
            let mut map = MetadataMap::new();
            map.insert("grpc-timeout", MetadataValue::from_static(text));
            deadline_of(&map)
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("99999999n"), Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "S", "5", "5x", "-5S", "999999999S", "+1S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(deadline_of(&MetadataMap::new()), None);
    }
}
