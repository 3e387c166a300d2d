//! What can be wrong with bytes that should be a package, and with input that should become one.

/// Bytes that are no package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Larger than anything that is read.
    #[error("{what} has {bytes} bytes or more; at most {most} are read")]
    TooLarge {
        /// What.
        what: &'static str,
        /// How many there are, as far as they were counted.
        bytes: u64,
        /// How many there may be.
        most: u64,
    },
    /// More parts than anything that is read.
    #[error("{what} has more than {most} parts")]
    TooMany {
        /// What.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// Cut off.
    #[error("{what} ends early")]
    Truncated {
        /// What.
        what: &'static str,
    },
    /// Not of the form.
    #[error("{what}: {why}")]
    Malformed {
        /// What.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A part that must be there is not.
    #[error("{what} has no {part}")]
    Missing {
        /// What.
        what: &'static str,
        /// The part.
        part: String,
    },
    /// Damaged, or not what the descriptor means.
    #[error("{what}: {kind} is {found}, and said to be {said}")]
    Differs {
        /// Whose.
        what: String,
        /// Which checksum or size.
        kind: String,
        /// What was computed.
        found: String,
        /// What is written.
        said: String,
    },
}

impl ReadError {
    pub(crate) fn malformed(what: &'static str, why: impl Into<String>) -> Self {
        Self::Malformed {
            what,
            why: why.into(),
        }
    }
}

/// Input that can be no package.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A name that does not fit its field, or means something else there.
    #[error("'{name}' cannot be the name of {what}: {why}")]
    Name {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A value that is none.
    #[error("'{value}' is no {what}: {why}")]
    Value {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
        /// What it would have to be like.
        why: &'static str,
    },
    /// Two entries of one name.
    #[error("'{0}' is there twice")]
    Twice(String),
    /// Too large for its container.
    #[error("{what} is too large")]
    TooLarge {
        /// What.
        what: String,
    },
    /// Only vendors sign, and only a signature makes more of a package than community.
    #[error(
        "acceptance level {0} needs a signature; without one a host refuses the package. Build with level community, or \
         have the descriptor signed"
    )]
    Unsigned(&'static str),
    /// The container refused it.
    #[error("the archive cannot be written: {0}")]
    Container(String),
}
