//! Which configuration governs a datastore, and making the first one.
//!
//! ```text
//!   no dockvols, or one in which nothing but an unfinished .vdvs lies ─► Fresh: the first use makes document and marker
//!   marker ─► document at its home ─► By(rules); document not readable ─► By(the copy kept here), if there is one
//!   a dockvols without marker ─► Not(why): access is closed
//!   anything else ─► an error: closed too, and a name that is nowhere else may be there (P4)
//! ```
//! The marker's content follows from the document beside it, so two agents that finish each other's marker write the
//! same bytes (docs/adr/0020). The document is made by *swap*, so only one is ever first.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use vdvs_domain::access::AccessConfig;
use vdvs_domain::{DatastoreName, Error};

use crate::inner::{Inner, locked, unavailable};
use crate::keyed::Key;
use crate::layout;
use crate::ports::{KeptConfig, StorageError};
use crate::swap::frame::{self, Kind};
use crate::swap::{Swapped, slot_of};

/// A change of the configuration is followed within this time.
const FOLLOW: Duration = Duration::from_secs(1);
/// An agent that finds a marker empty gives its maker this long before it finishes the marker itself.
const MARKER_GRACE: Duration = Duration::from_secs(2);
const MARKER_POLL: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 10;

/// The mark of a datastore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// Identity of the datastore.
    datastore: Uuid,
    /// Version of the layout.
    layout: u32,
    /// The configuration that governs the volumes here.
    config: Uuid,
    /// The datastore its document lies on.
    home: DatastoreName,
}

/// The configuration document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Document {
    id: Uuid,
    /// Identity of the datastore it was made for.
    datastore: Uuid,
    access: AccessConfig,
}

/// The rules in force on a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Identity of the datastore; nil before its first use.
    pub(crate) datastore: Uuid,
    /// The configuration.
    pub(crate) config: Uuid,
    /// Who may do what.
    pub(crate) access: AccessConfig,
    /// Its document could not be read; this is the copy kept on this host.
    pub(crate) kept: bool,
}

/// What governs a datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Governed {
    /// These rules.
    By(Arc<Rules>),
    /// Nothing yet: nobody ever used it. What would be made at the first use.
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

enum MarkerFile {
    Absent,
    Torn,
    Is(Marker),
}

/// Volumes lie there, and nobody can say whose: closed, and any name may be among them.
fn lost(ds: &DatastoreName, why: String) -> Error {
    Error::NotConfigured {
        datastore: ds.clone(),
        why,
    }
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

    /// Identity of a datastore that was used before; none of a fresh one.
    pub(crate) async fn datastore_id(&self, ds: &DatastoreName) -> Result<Option<Uuid>, Error> {
        Ok(match self.governed(ds).await? {
            Governed::By(rules) => Some(rules.datastore),
            Governed::Fresh(_) | Governed::Not(_) => None,
        })
    }

    async fn look_up_governed(&self, ds: &DatastoreName) -> Result<Governed, Error> {
        if let MarkerFile::Is(marker) = self.read_marker(ds).await? {
            return self.rules_of(ds, &marker).await;
        }
        if self.untouched(ds).await? {
            return Ok(Governed::Fresh(Arc::new(Rules {
                datastore: Uuid::nil(),
                config: Uuid::nil(),
                access: AccessConfig::open_to_all(),
                kept: false,
            })));
        }
        // Once more: another host may have made it, and a volume, between the two looks.
        match self.read_marker(ds).await? {
            MarkerFile::Is(marker) => self.rules_of(ds, &marker).await,
            MarkerFile::Absent => Ok(Governed::Not(format!(
                "it has a folder {} without a marker",
                layout::DOCKVOLS
            ))),
            MarkerFile::Torn => Err(lost(ds, format!("{} is damaged", layout::marker()))),
        }
    }

    async fn read_marker(&self, ds: &DatastoreName) -> Result<MarkerFile, Error> {
        let (path, max) = (layout::marker(), Kind::Marker.max_bytes());
        let bytes = match self.ports.datastores.read(ds, &path, max).await {
            Ok(bytes) => bytes,
            Err(StorageError::NotFound(_)) => return Ok(MarkerFile::Absent),
            Err(why) => return Err(unavailable(ds, &why)),
        };
        let marker = frame::decode(Kind::Marker, &bytes, || format!("marker [{ds}] {path}"))?;
        Ok(marker.map_or(MarkerFile::Torn, MarkerFile::Is))
    }

    /// Whether nobody ever kept a volume here: no `dockvols`, or one in which only the beginning of ours lies.
    async fn untouched(&self, ds: &DatastoreName) -> Result<bool, Error> {
        let list = async |dir| match self.ports.datastores.read_dir(ds, &dir).await {
            Ok(entries) => Ok(entries),
            Err(StorageError::NotFound(_)) => Ok(Vec::new()),
            Err(why) => Err(unavailable(ds, &why)),
        };
        let root = list(layout::root()).await?;
        if root.iter().any(|e| e.name != layout::OWN || !e.is_dir) {
            return Ok(false);
        }
        let own = list(layout::own_dir()).await?;
        let ours = |name: &str| name == layout::MARKER || slot_of(name, layout::CONFIG).is_some();
        Ok(own.iter().all(|e| ours(&e.name)))
    }

    async fn rules_of(&self, ds: &DatastoreName, marker: &Marker) -> Result<Governed, Error> {
        let why = match self.read_document(&marker.home).await {
            Ok(Some((seq, bytes, document))) if document.id == marker.config => {
                self.keep(document.id, KeptConfig { seq, bytes }).await;
                return Ok(Governed::By(Arc::new(Rules {
                    datastore: marker.datastore,
                    config: document.id,
                    access: document.access,
                    kept: false,
                })));
            }
            Ok(Some(_)) => format!(
                "{} holds another configuration than the marker names",
                marker.home
            ),
            Ok(None) => format!("{} holds no configuration document", marker.home),
            Err(why) => why.to_string(),
        };
        let kept = self.ports.store.kept_config(marker.config).await;
        let kept = kept.unwrap_or_else(|why| {
            self.said
                .once("kept configuration".to_owned(), &why.to_string());
            None
        });
        let document = kept.and_then(|k| Self::document(&marker.home, &k.bytes).ok().flatten());
        let Some(document) = document else {
            return Err(lost(ds, why));
        };
        let text = format!("{why}; the copy kept on this host is used");
        self.said.once(format!("configuration of {ds}"), &text);
        Ok(Governed::By(Arc::new(Rules {
            datastore: marker.datastore,
            config: document.id,
            access: document.access,
            kept: true,
        })))
    }

    async fn keep(&self, id: Uuid, config: KeptConfig) {
        if let Err(why) = self.ports.store.keep_config(id, config).await {
            self.said
                .once("keeping the configuration".to_owned(), &why.to_string());
        }
    }

    fn document(home: &DatastoreName, bytes: &[u8]) -> Result<Option<Document>, Error> {
        frame::decode(Kind::Config, bytes, || {
            format!("configuration document on {home}")
        })
    }

    async fn read_document(
        &self,
        home: &DatastoreName,
    ) -> Result<Option<(u64, Vec<u8>, Document)>, Error> {
        let seen = layout::config(home)
            .read(&*self.ports.datastores)
            .await
            .map_err(|why| unavailable(home, &why))?;
        let Some(bytes) = seen.bytes else {
            return Ok(None);
        };
        let document = Self::document(home, &bytes)?;
        Ok(document.map(|d| (seen.seq, bytes, d)))
    }

    /// Makes `ds` ready for volumes, if it is fresh; returns its rules.
    pub(crate) async fn establish(&self, ds: &DatastoreName) -> Result<Arc<Rules>, Error> {
        let closed = |why| Error::NotConfigured {
            datastore: ds.clone(),
            why,
        };
        match self.governed(ds).await? {
            Governed::By(rules) => return Ok(rules),
            Governed::Not(why) => return Err(closed(why)),
            Governed::Fresh(_) => {}
        }
        let _key = self
            .keys
            .hold(Key::Governance(ds.clone()), "first use")
            .await;
        for _ in 0..ATTEMPTS {
            match self.look_up_governed(ds).await? {
                Governed::By(rules) => return Ok(rules),
                Governed::Not(why) => return Err(closed(why)),
                Governed::Fresh(_) => self.make_governed(ds).await?,
            }
        }
        Err(closed("others keep changing it".to_owned()))
    }

    async fn make_governed(&self, ds: &DatastoreName) -> Result<(), Error> {
        let store = &*self.ports.datastores;
        let failed = |why: StorageError| unavailable(ds, &why);
        store
            .make_dir(ds, &layout::own_dir())
            .await
            .map_err(failed)?;
        let file = layout::config(ds);
        let document = loop {
            let seen = file.read(store).await.map_err(failed)?;
            if let Some(bytes) = &seen.bytes
                && let Some(document) = Self::document(ds, bytes)?
            {
                break document;
            }
            let document = Document {
                id: self.ports.ids.uuid(),
                datastore: self.ports.ids.uuid(),
                access: AccessConfig::open_to_all(),
            };
            let bytes = frame::encode(Kind::Config, &document)?;
            if let Swapped::Done(_) = file.swap(store, &seen, bytes).await.map_err(failed)? {
                break document;
            }
        };
        let marker = Marker {
            datastore: document.datastore,
            layout: 1,
            config: document.id,
            home: ds.clone(),
        };
        match store.create_new(ds, &layout::marker()).await {
            Ok(()) => {}
            Err(StorageError::AlreadyExists(_)) => {
                if !self.marker_abandoned(ds).await? {
                    return Ok(());
                }
            }
            Err(why) => return Err(failed(why)),
        }
        let bytes = frame::encode(Kind::Marker, &marker)?;
        store
            .write(ds, &layout::marker(), &bytes)
            .await
            .map_err(failed)?;
        tracing::info!(datastore = %ds, config = %marker.config, "datastore is ready for volumes");
        Ok(())
    }

    /// Whether a marker that is not whole stays so, on a datastore where still nothing else lies.
    async fn marker_abandoned(&self, ds: &DatastoreName) -> Result<bool, Error> {
        let begun = self.instant();
        while self.instant().saturating_duration_since(begun) < MARKER_GRACE {
            if let MarkerFile::Is(_) = self.read_marker(ds).await? {
                return Ok(false);
            }
            sleep(MARKER_POLL).await;
        }
        self.untouched(ds).await
    }
}
