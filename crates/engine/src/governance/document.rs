//! The configuration document: who may do what, since when, and by whom it was changed.
//!
//! It lies on one datastore, its home, and changes by *swap*. Its version rises with each change, also when it moves to
//! another home, so a kept copy is compared by it. A document of a newer format is refused untouched.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vdvs_domain::access::AccessConfig;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error, Timestamp};

use crate::inner::{Inner, unavailable};
use crate::layout;
use crate::swap::Seen;
use crate::swap::frame::{self, Kind};

/// Changes that are remembered: enough for a person who looks for what happened last month, and a few kilobytes.
const MAX_HISTORY: usize = 100;
/// Longest text of one change in characters.
const MAX_WHAT: usize = 400;

/// The configuration document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    /// Identity of the configuration, wherever it lies.
    pub(crate) id: Uuid,
    /// Identity of the datastore it lies on.
    pub(crate) datastore: Uuid,
    /// Who may do what.
    pub(crate) access: AccessConfig,
    /// Rises with each change.
    #[serde(default)]
    pub(crate) version: u64,
    /// The last changes, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) history: Vec<Change>,
    /// Whether it is in force here.
    #[serde(default, skip_serializing_if = "Standing::is_in_force")]
    pub(crate) standing: Standing,
    /// Configurations that lay here before and follow this one since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) absorbed: Vec<Uuid>,
}

/// Whether a document is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Standing {
    /// It governs.
    #[default]
    InForce,
    /// It governs, and is on its way: nobody changes it, anybody may finish the move.
    Moving {
        /// Its home to be.
        to: DatastoreName,
    },
    /// What governs instead lies elsewhere.
    Moved {
        /// The configuration.
        config: Uuid,
        /// Its home.
        home: DatastoreName,
    },
    /// It was removed: access is closed.
    Removed,
}

impl Standing {
    const fn is_in_force(&self) -> bool {
        matches!(self, Self::InForce)
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Change {
    /// Identity of the change, by which its writer finds it again.
    pub(crate) id: Uuid,
    /// The document's version since.
    pub(crate) version: u64,
    /// When, by the writer's clock.
    pub(crate) at: Timestamp,
    /// Who.
    pub(crate) who: String,
    /// Name of the host it was made on.
    pub(crate) host: String,
    /// What was changed, in words.
    pub(crate) what: String,
}

/// A document as it was read, with what a change of it is based on.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) seen: Seen,
    pub(crate) document: Document,
}

impl Document {
    /// A new configuration in which everybody may do everything.
    pub(crate) fn open_to_all(id: Uuid, datastore: Uuid) -> Self {
        Self {
            id,
            datastore,
            access: AccessConfig::open_to_all(),
            version: 0,
            history: Vec::new(),
            standing: Standing::InForce,
            absorbed: Vec::new(),
        }
    }

    /// Whether nobody ever changed it: it is as a first use makes it.
    pub(crate) fn is_pristine(&self) -> bool {
        self.standing == Standing::InForce
            && self.history.len() <= 1
            && self.absorbed.is_empty()
            && self.access == AccessConfig::open_to_all()
    }

    /// Whether the marker that names `config` means this document.
    pub(crate) fn answers_for(&self, config: Uuid) -> bool {
        self.id == config || self.absorbed.contains(&config)
    }

    /// Whether it governs, also while it moves.
    pub(crate) const fn is_in_force(&self) -> bool {
        matches!(self.standing, Standing::InForce | Standing::Moving { .. })
    }

    /// Takes the place of another one: markers that name that one mean this one since.
    pub(crate) fn absorb(&mut self, other: &Self) {
        for id in [other.id].iter().chain(&other.absorbed) {
            if *id != self.id && !self.absorbed.contains(id) {
                self.absorbed.push(*id);
            }
        }
    }

    /// Writes a change down.
    pub(crate) fn remember(&mut self, change: Change) {
        self.version = change.version;
        self.history.push(change);
        let excess = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..excess);
    }

    /// Who changed it last, and when.
    pub(crate) fn last_change(&self) -> String {
        self.history.last().map_or_else(String::new, |last| {
            format!("{}, by {} on host {}", last.at, last.who, last.host)
        })
    }

    /// What a removed one says to whoever follows it.
    pub(crate) fn removed_text(&self, home: &DatastoreName) -> String {
        let by = self.last_change();
        let home = home.clone();
        ConfigFault::Removed { home, by }.to_string()
    }

    /// Takes a document out of a slot. `None`: the slot is torn.
    pub(crate) fn decode(home: &DatastoreName, bytes: &[u8]) -> Result<Option<Self>, Error> {
        frame::decode(Kind::Config, bytes, || {
            format!("configuration document on {home}")
        })
    }

    /// The document as a slot's bytes.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        frame::encode(Kind::Config, self)
    }
}

/// A text of a bounded length.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(MAX_WHAT).collect()
}

impl Inner {
    /// The document that lies on `home`, whether or not it is in force; `None`: none lies there.
    pub(crate) async fn read_document(
        &self,
        home: &DatastoreName,
    ) -> Result<(Seen, Option<Document>), Error> {
        let read = async {
            let file = layout::config(home);
            let seen = file.read(&*self.ports.datastores).await;
            seen.map_err(|why| unavailable(home, &why))
        };
        let seen = self.answering(home, read).await?;
        let Some(bytes) = &seen.bytes else {
            return Ok((seen, None));
        };
        let mut document = Document::decode(home, bytes)?;
        if let Some(document) = &mut document {
            // Written before versions were kept: slots rise as well.
            document.version = match document.version {
                0 => seen.seq,
                version => version,
            };
        }
        Ok((seen, document))
    }
}
