//! Following the configuration that governs a datastore: read at most a second ago, or the copy kept here.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::{DatastoreName, Error, Timestamp};

use super::document::{Document, Standing};
use super::marker::{Marker, MarkerFile};
use super::{Cached, Governed, Rules, lost};
use crate::inner::{Inner, locked};
use crate::layout;
use crate::ports::KeptConfig;

/// A change of the configuration is followed within this time.
const FOLLOW: Duration = Duration::from_secs(1);
/// A copy that its home did not confirm for so long is not used any more: what happened since may have locked what it
/// leaves open. Long enough for a datastore to be repaired over night.
const MAX_UNCONFIRMED: Duration = Duration::from_secs(24 * 3600);
/// Clocks of one host jump by less than this.
const CLOCK_JUMP: Duration = Duration::from_secs(600);
/// How often it is written down that a copy is still the newest.
const CONFIRM: Duration = Duration::from_secs(600);
/// Homes a document may have moved through while some marker still names the first: more is a circle.
const MAX_HOPS: usize = 8;

/// What a marker led to.
pub(super) enum Led {
    /// The document in force, and its home.
    To(DatastoreName, Box<Document>),
    /// One that was removed.
    Removed(DatastoreName, Box<Document>),
    /// To nothing that can be read, and why.
    Nowhere(String),
}

impl Inner {
    /// What governs `ds`, at most [`FOLLOW`] old. An error means that what lies there is unknown.
    pub(crate) async fn governed(&self, ds: &DatastoreName) -> Result<Governed, Error> {
        match self.governed_by_itself(ds).await? {
            Governed::Fresh(_) => Ok(self.governed_if_used(ds).await),
            other => Ok(other),
        }
    }

    /// The same without a look at the other datastores, which say what a fresh one comes to follow.
    pub(super) async fn governed_by_itself(&self, ds: &DatastoreName) -> Result<Governed, Error> {
        let now = self.instant();
        if let Some(cached) = locked(&self.governed).get(ds)
            && now.saturating_duration_since(cached.at) < FOLLOW
        {
            return Ok(cached.governed.clone());
        }
        let governed = self.look_up_governed(ds).await?;
        // A fresh datastore stops being fresh by anybody's first use.
        if !matches!(governed, Governed::Fresh(_)) {
            let governed = governed.clone();
            locked(&self.governed).insert(ds.clone(), Cached { at: now, governed });
        }
        Ok(governed)
    }

    /// The rules that were found last, however long ago: what is known of a datastore that cannot be read.
    pub(crate) fn last_rules(&self, ds: &DatastoreName) -> Option<Arc<Rules>> {
        let governed = locked(&self.governed);
        governed.get(ds)?.governed.rules().cloned()
    }

    /// What was found is looked up anew at the next question.
    pub(crate) fn forget_governed(&self) {
        locked(&self.governed).clear();
    }

    /// Identity of a datastore that was used before; none of a fresh one.
    pub(crate) async fn datastore_id(&self, ds: &DatastoreName) -> Result<Option<Uuid>, Error> {
        Ok(match self.governed(ds).await? {
            Governed::By(rules) => Some(rules.datastore),
            Governed::Fresh(_) | Governed::Not(_) => None,
        })
    }

    pub(crate) async fn look_up_governed(&self, ds: &DatastoreName) -> Result<Governed, Error> {
        if let MarkerFile::Is(marker) = self.read_marker(ds).await? {
            return self.rules_of(ds, &marker).await;
        }
        if self.untouched(ds).await? {
            return Ok(Governed::Fresh(Arc::new(Rules::of_nobody(ds))));
        }
        // Once more: another host may have made it, and a volume, between the two looks.
        match self.read_marker(ds).await? {
            MarkerFile::Is(marker) => self.rules_of(ds, &marker).await,
            MarkerFile::Absent => Ok(Governed::Not(format!(
                "it has a folder {} without a marker; open it with: vdvs config init --datastore {ds}",
                layout::DOCKVOLS
            ))),
            MarkerFile::Torn => Err(lost(ds, format!("{} is damaged", layout::marker()))),
        }
    }

    async fn rules_of(&self, ds: &DatastoreName, marker: &Marker) -> Result<Governed, Error> {
        let why = match self.led_by(marker).await? {
            Led::To(home, document) => {
                self.said.well(&format!("configuration of {ds}"));
                let rules = rules(marker, home, *document, false);
                return Ok(Governed::By(Arc::new(rules)));
            }
            Led::Removed(home, document) => {
                return Ok(Governed::Not(document.removed_text(&home)));
            }
            Led::Nowhere(why) => why,
        };
        let (home, document) = match self.kept_copy(marker).await {
            Led::To(home, document) => (home, document),
            Led::Removed(home, document) => {
                return Ok(Governed::Not(document.removed_text(&home)));
            }
            Led::Nowhere(no_copy) => return Err(lost(ds, format!("{why}; {no_copy}"))),
        };
        let text = format!("{why}; the copy kept on this host is used");
        self.said.once(format!("configuration of {ds}"), &text);
        let rules = rules(marker, home, *document, true);
        Ok(Governed::By(Arc::new(rules)))
    }

    /// The document a marker means, also where it moved.
    pub(super) async fn led_by(&self, marker: &Marker) -> Result<Led, Error> {
        let (mut home, mut config) = (marker.home.clone(), marker.config);
        for _ in 0..MAX_HOPS {
            let document = match self.read_document(&home).await {
                Ok((seen, Some(document))) => (document, seen.bytes.unwrap_or_default()),
                Ok((_, None)) => {
                    return Ok(Led::Nowhere(format!(
                        "{home} holds no configuration document"
                    )));
                }
                // Newer than this program: what it says is not known, and an older copy is not what holds.
                Err(newer @ Error::NewerFormat { .. }) => return Err(newer),
                Err(why) => return Ok(Led::Nowhere(why.to_string())),
            };
            let (document, bytes) = document;
            self.keep(&document, bytes).await;
            if !document.answers_for(config) {
                return Ok(Led::Nowhere(format!(
                    "{home} holds another configuration than the marker names"
                )));
            }
            match &document.standing {
                Standing::InForce | Standing::Moving { .. } => {
                    return Ok(Led::To(home, Box::new(document)));
                }
                Standing::Removed => return Ok(Led::Removed(home, Box::new(document))),
                Standing::Moved {
                    config: next,
                    home: to,
                } => (home, config) = (to.clone(), *next),
            }
        }
        Ok(Led::Nowhere(format!(
            "the configuration moved from datastore to datastore in a circle, at last to {home}"
        )))
    }

    /// The copy kept on this host of what a marker means, or why there is none to use.
    async fn kept_copy(&self, marker: &Marker) -> Led {
        let (mut home, mut config) = (marker.home.clone(), marker.config);
        for _ in 0..MAX_HOPS {
            let kept = self.ports.store.kept_config(config).await;
            let kept = kept.unwrap_or_else(|why| {
                self.said
                    .once("kept configuration".to_owned(), &why.to_string());
                None
            });
            let Some(kept) = kept else { break };
            if self.is_too_old(kept.confirmed) {
                return Led::Nowhere(format!(
                    "the copy kept on this host was the newest at {}, too long ago to go by",
                    kept.confirmed
                ));
            }
            let Some(document) = Document::decode(&home, &kept.bytes).ok().flatten() else {
                break;
            };
            match &document.standing {
                Standing::InForce | Standing::Moving { .. } => {
                    return Led::To(home, Box::new(document));
                }
                Standing::Removed => return Led::Removed(home, Box::new(document)),
                Standing::Moved {
                    config: next,
                    home: to,
                } => (home, config) = (to.clone(), *next),
            }
        }
        Led::Nowhere("no copy of it is kept on this host".to_owned())
    }

    /// Whether a copy that was confirmed then says too little about now. A clock that jumped says nothing.
    fn is_too_old(&self, confirmed: Timestamp) -> bool {
        let (now, then) = (self.now().millis(), confirmed.millis());
        Duration::from_millis(now.saturating_sub(then)) > MAX_UNCONFIRMED
            || Duration::from_millis(then.saturating_sub(now)) > CLOCK_JUMP
    }

    /// Keeps a copy of the newest document, and notes now and then that it still is.
    async fn keep(&self, document: &Document, bytes: Vec<u8>) {
        let (id, seq, confirmed) = (document.id, document.version, self.now());
        let due = |(kept, at): &(u64, Timestamp)| {
            *kept != seq
                || Duration::from_millis(confirmed.millis().abs_diff(at.millis())) >= CONFIRM
        };
        if !locked(&self.kept).get(&id).is_none_or(due) {
            return;
        }
        let config = KeptConfig {
            seq,
            bytes,
            confirmed,
        };
        match self.ports.store.keep_config(id, config).await {
            Ok(()) => {
                self.said.well("keeping the configuration");
                locked(&self.kept).insert(id, (seq, confirmed));
            }
            Err(why) => self
                .said
                .once("keeping the configuration".to_owned(), &why.to_string()),
        }
    }
}

fn rules(marker: &Marker, home: DatastoreName, document: Document, kept: bool) -> Rules {
    Rules {
        follows_a_trace: !kept && (marker.home != home || marker.config != document.id),
        datastore: marker.datastore,
        config: document.id,
        home,
        version: document.version,
        access: document.access,
        kept,
    }
}
