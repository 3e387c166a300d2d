//! Following the configuration that governs a datastore: read at most a second ago, or the copy kept here.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::access::AccessConfig;
use vdvs_domain::{DatastoreName, Error};

use super::document::{Document, Standing};
use super::marker::{Marker, MarkerFile};
use super::{Cached, Governed, Rules, lost};
use crate::inner::{Inner, locked};
use crate::layout;
use crate::ports::KeptConfig;

/// A change of the configuration is followed within this time.
const FOLLOW: Duration = Duration::from_secs(1);
/// Homes a document may have moved through while some marker still names the first: more is a circle.
const MAX_HOPS: usize = 8;

/// What a marker led to.
enum Led {
    /// The document in force, and its home.
    To(DatastoreName, Box<Document>, Vec<u8>),
    /// One that was removed.
    Removed(String),
    /// To nothing that can be read, and why.
    Nowhere(String),
}

impl Inner {
    /// What governs `ds`, at most [`FOLLOW`] old. An error means that what lies there is unknown.
    pub(crate) async fn governed(&self, ds: &DatastoreName) -> Result<Governed, Error> {
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

    pub(super) async fn look_up_governed(&self, ds: &DatastoreName) -> Result<Governed, Error> {
        if let MarkerFile::Is(marker) = self.read_marker(ds).await? {
            return self.rules_of(ds, &marker).await;
        }
        if self.untouched(ds).await? {
            return Ok(Governed::Fresh(Arc::new(Rules {
                datastore: Uuid::nil(),
                config: Uuid::nil(),
                home: ds.clone(),
                version: 0,
                access: AccessConfig::open_to_all(),
                kept: false,
            })));
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
            Led::To(home, document, bytes) => {
                let seq = document.version;
                self.keep(document.id, KeptConfig { seq, bytes }).await;
                self.said.well(&format!("configuration of {ds}"));
                let rules = rules(marker, home, *document, false);
                return Ok(Governed::By(Arc::new(rules)));
            }
            Led::Removed(why) => return Ok(Governed::Not(why)),
            Led::Nowhere(why) => why,
        };
        let kept = self.ports.store.kept_config(marker.config).await;
        let kept = kept.unwrap_or_else(|why| {
            self.said
                .once("kept configuration".to_owned(), &why.to_string());
            None
        });
        let document = kept.and_then(|k| Document::decode(&marker.home, &k.bytes).ok().flatten());
        let Some(document) = document else {
            return Err(lost(ds, why));
        };
        let text = format!("{why}; the copy kept on this host is used");
        self.said.once(format!("configuration of {ds}"), &text);
        let rules = rules(marker, marker.home.clone(), document, true);
        Ok(Governed::By(Arc::new(rules)))
    }

    /// The document a marker means, also where it moved.
    async fn led_by(&self, marker: &Marker) -> Result<Led, Error> {
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
            if !document.answers_for(config) {
                return Ok(Led::Nowhere(format!(
                    "{home} holds another configuration than the marker names"
                )));
            }
            match &document.standing {
                Standing::InForce | Standing::Moving { .. } => {
                    return Ok(Led::To(home, Box::new(document), bytes));
                }
                Standing::Removed => return Ok(Led::Removed(document.removed_text(&home))),
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

    async fn keep(&self, id: Uuid, config: KeptConfig) {
        if let Err(why) = self.ports.store.keep_config(id, config).await {
            self.said
                .once("keeping the configuration".to_owned(), &why.to_string());
        }
    }
}

fn rules(marker: &Marker, home: DatastoreName, document: Document, kept: bool) -> Rules {
    Rules {
        datastore: marker.datastore,
        config: document.id,
        home,
        version: document.version,
        access: document.access,
        kept,
    }
}
