//! Seeing all hosts from one.
//!
//! ```text
//!   each agent ──swap, when something changed──► dockvols/.vdvs/host.<host id>.<seq> on its datastores
//!   each agent ◄──list, read what is newer────── the others' files, the newest of each host over all datastores
//! ```
//! What another host told is shown with when it told it, and is for people: nothing is decided by it. A file that is
//! damaged or of a newer program is named; a datastore that does not answer hides only what is told there alone.

mod file;
mod read;
mod seen;
mod write;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::Notify;
use tokio::time::Instant;
use vdvs_domain::{DatastoreName, HostId, VmId};

pub(crate) use file::{HostFile, ToldRow, ToldVm};
pub(crate) use read::Others;
pub(crate) use seen::age_in_words;
pub use seen::{AdminHost, KnownVm};

/// What an agent knows of the guests that are connected to it.
pub trait Guests: Send + Sync + Debug {
    /// Whether a plugin in this VM is connected, and what it called itself last.
    fn seen(&self, vm: &VmId) -> (bool, String);
}

/// What the agent says of itself.
#[derive(Debug)]
pub struct About {
    /// Its name and version.
    pub program: String,
    /// Its guests.
    pub guests: Arc<dyn Guests>,
}

/// What was last read of one host's file on one datastore.
type Read = HashMap<(DatastoreName, HostId), (u64, Arc<HostFile>)>;

/// What this agent told and was told.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    about: OnceLock<About>,
    /// Something changed that others like to see soon.
    news: Notify,
    read: Mutex<Read>,
    others: Mutex<Option<(Instant, Arc<read::Others>)>>,
    written: Mutex<HashMap<DatastoreName, write::Written>>,
}

impl Hosts {
    /// Says who the agent is; once.
    pub(crate) fn introduce(&self, about: About) {
        // A second introduction would be the same agent's.
        drop(self.about.set(about));
    }

    /// Something changed that others like to see soon.
    pub(crate) fn news(&self) {
        self.news.notify_one();
    }

    pub(crate) fn guest(&self, vm: &VmId) -> (bool, String) {
        let about = self.about.get();
        about.map_or_else(Default::default, |about| about.guests.seen(vm))
    }

    pub(crate) fn program(&self) -> String {
        let about = self.about.get();
        about.map_or_else(String::new, |about| about.program.clone())
    }
}
