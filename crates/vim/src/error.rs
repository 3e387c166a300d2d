//! How a call can fail, and what is known of its effect then.
//!
//! The three variants are the three things a caller can know. Only [`Error::Unknown`] has to be settled by looking: the
//! call may have had its effect, may have it later, or never.

use std::time::Duration;

use crate::Fault;

/// A call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The host answered with a fault, or the call's task ended with one. The call is over and did not do what it says.
    #[error("{call} was refused: {fault}")]
    Refused {
        /// Name of the call.
        call: &'static str,
        /// What it answered.
        fault: Box<Fault>,
    },
    /// The call did not reach the host: no effect, now or later.
    #[error("{call} was not sent: {why}")]
    NotSent {
        /// Name of the call.
        call: &'static str,
        /// Why not.
        why: NotSent,
    },
    /// The call went out, and what became of it is not known.
    #[error("it is not known what became of {call}: {why}")]
    Unknown {
        /// Name of the call.
        call: &'static str,
        /// What happened.
        why: Lost,
    },
}

/// Why a call did not go out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// Nobody accepts connections; hostd is not up, or not yet.
    #[error("{0} does not accept connections")]
    NotListening(String),
    /// Connecting failed.
    #[error("cannot connect to {address}: {cause}")]
    Connect {
        /// Where to.
        address: String,
        /// What happened.
        cause: String,
    },
    /// Whoever answers is not the host whose certificate is pinned, or cannot speak TLS with us.
    #[error("no trusted connection to {address}: {cause}")]
    Tls {
        /// Where to.
        address: String,
        /// What happened.
        cause: String,
    },
    /// The host answers that its service is not available (HTTP 503), and the call may not be repeated blindly.
    #[error("hostd is not available yet")]
    Unavailable,
    /// The last attempts all failed; the next one is made in `retry_in`.
    #[error("hostd did not answer lately, the next attempt is in {} ms", retry_in.as_millis())]
    Resting {
        /// Until then.
        retry_in: Duration,
    },
    /// Logging in failed.
    #[error("cannot log in as {user}: {cause}")]
    Login {
        /// Whom as.
        user: String,
        /// What happened; names lockdown mode where that is likely.
        cause: String,
    },
    /// The deadline passed before the call went out.
    #[error("its time was over")]
    Deadline,
    /// An argument has a character that XML cannot carry, or is too long.
    #[error("an argument cannot be sent: {0}")]
    Argument(String),
    /// This host does not offer the object the call belongs to.
    #[error("this host has no {0}")]
    Absent(&'static str),
}

/// What happened to a call whose effect is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The connection broke before the answer was whole.
    #[error("the connection broke: {0}")]
    Connection(String),
    /// The deadline passed.
    #[error("no answer in time")]
    Deadline,
    /// The answer is no SOAP, or beyond our limits.
    #[error("its answer makes no sense: {0}")]
    Answer(String),
    /// An HTTP status that says nothing about the call.
    #[error("the answer was HTTP status {0}")]
    Status(u16),
    /// The host does not know the call's task any more.
    #[error("its task is gone")]
    TaskGone,
}

/// What is known of a failed call's effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It had none and will have none.
    None,
    /// It may have had one, or still have it.
    Unknown,
}

impl Error {
    /// What is known of the call's effect.
    #[must_use]
    pub const fn effect(&self) -> Effect {
        match self {
            Self::Refused { .. } | Self::NotSent { .. } => Effect::None,
            Self::Unknown { .. } => Effect::Unknown,
        }
    }

    /// The fault, when there is one.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Refused { fault, .. } => Some(fault),
            Self::NotSent { .. } | Self::Unknown { .. } => None,
        }
    }

    /// The session was lost. A new one has been, or will be, opened: a caller that has looked may ask again.
    #[must_use]
    pub fn is_session_lost(&self) -> bool {
        self.fault().is_some_and(Fault::is_not_authenticated)
    }

    /// The deadline passed.
    #[must_use]
    pub const fn is_deadline(&self) -> bool {
        matches!(
            self,
            Self::NotSent {
                why: NotSent::Deadline,
                ..
            } | Self::Unknown {
                why: Lost::Deadline,
                ..
            }
        )
    }
}
