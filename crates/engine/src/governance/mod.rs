//! Which configuration governs a datastore, following it, changing it, and making the first one.
//!
//! ```text
//!   no dockvols, or one in which nothing but an unfinished .vdvs lies ─► Fresh: the first use marks it
//!   marker ─► document at its home ─► By(rules); document not readable ─► By(the copy kept here), if there is one
//!                    └─ moved ─► the document at its new home
//!                    └─ removed ─► Not(why): access is closed
//!   a dockvols without marker ─► Not(why): access is closed
//!   anything else ─► an error: closed too, and a name that is nowhere else may be there (P4)
//! ```
//! One document governs many datastores; the marker on each names it and its home. A marker's first content follows
//! from the document beside it, so two agents that finish each other's marker write the same bytes (docs/adr/0020).
//! Documents and later markers change by *swap*, so only one is ever first and no acknowledged change is lost.

mod backup;
mod change;
mod document;
mod first_use;
mod follow;
mod import;
mod init;
mod marker;
mod mend;
mod moving;
mod remove;
mod state;
mod verbs;
mod words;

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::access::AccessConfig;
use vdvs_domain::{DatastoreName, Error};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use document::Document;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use marker::Marker;
pub(crate) use mend::FilesStand;

/// The rules in force on a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Identity of the datastore; nil before its first use.
    pub(crate) datastore: Uuid,
    /// The configuration; nil before the first use.
    pub(crate) config: Uuid,
    /// The datastore its document lies on.
    pub(crate) home: DatastoreName,
    /// Rises with each change of the document; 0: it is not made yet.
    pub(crate) version: u64,
    /// Who may do what.
    pub(crate) access: AccessConfig,
    /// Its document could not be read; this is the copy kept on this host.
    pub(crate) kept: bool,
    /// The marker names a home from which the document has moved on.
    pub(crate) follows_a_trace: bool,
}

impl Rules {
    /// What holds on a datastore that nobody used yet, on a host that follows no configuration.
    fn of_nobody(ds: &DatastoreName) -> Self {
        Self {
            datastore: Uuid::nil(),
            config: Uuid::nil(),
            home: ds.clone(),
            version: 0,
            access: AccessConfig::open_to_all(),
            kept: false,
            follows_a_trace: false,
        }
    }
}

/// What governs a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Governed {
    /// These rules.
    By(Arc<Rules>),
    /// Nothing yet: nobody ever used it. What would hold after the first use.
    Fresh(Arc<Rules>),
    /// Access is closed.
    Not(String),
}

impl Governed {
    /// The rules to decide by.
    pub(crate) fn rules(&self) -> Option<&Arc<Rules>> {
        match self {
            Self::By(rules) | Self::Fresh(rules) => Some(rules),
            Self::Not(_) => None,
        }
    }
}

/// What was found last, and when.
#[derive(Debug, Clone)]
pub(crate) struct Cached {
    at: Instant,
    governed: Governed,
}

/// Volumes lie there, and nobody can say whose: closed, and any name may be among them.
fn lost(ds: &DatastoreName, why: String) -> Error {
    Error::NotConfigured {
        datastore: ds.clone(),
        why,
    }
}
