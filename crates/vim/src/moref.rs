//! References to managed objects.

use std::fmt;

/// A reference to an object that the host manages: its type and the host's name for it.
///
/// It means something only within the session (and the run of hostd) it was learnt in: after
/// [`crate::Client::generation`] changed, look objects up again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MoRef {
    kind: String,
    value: String,
}

impl MoRef {
    /// A reference to the object that the host calls `value`, of type `kind` (`VirtualMachine`, `Datastore`).
    #[must_use]
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            value: value.into(),
        }
    }

    /// The object's type.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The host's name for the object.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl fmt::Display for MoRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}
