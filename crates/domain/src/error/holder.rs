//! Who holds a volume, as messages say it.

use std::fmt;

use crate::ids::Timestamp;

/// Who holds a volume, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// VM.
    pub vm: Box<str>,
    /// Host it runs on, as far as known.
    pub host: Box<str>,
    /// Since when; the default where nobody knows.
    pub since: Timestamp,
    /// What else matters about it, as a subordinate clause without its comma; mostly empty.
    pub note: &'static str,
}

impl Holder {
    /// A holder that only the hypervisor knows of.
    #[must_use]
    pub fn seen_by_the_lock(who: &str) -> Self {
        Self {
            vm: who.into(),
            host: Box::default(),
            since: Timestamp::default(),
            note: "",
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VM {}", self.vm)?;
        if !self.host.is_empty() {
            write!(f, " on host {}", self.host)?;
        }
        if self.since != Timestamp::default() {
            write!(f, " since {}", self.since)?;
        }
        if !self.note.is_empty() {
            write!(f, ", {}", self.note)?;
        }
        Ok(())
    }
}
