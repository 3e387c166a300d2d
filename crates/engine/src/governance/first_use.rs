//! The first use of a datastore: its document and its marker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use vdvs_domain::{DatastoreName, Error};

use super::document::Document;
use super::marker::{Marker, MarkerFile};
use super::{Governed, Rules};
use crate::inner::{Inner, unavailable};
use crate::keyed::Key;
use crate::layout;
use crate::ports::StorageError;
use crate::swap::Swapped;
use crate::swap::frame::{self, Kind};

/// An agent that finds a marker empty gives its maker this long before it finishes the marker itself.
const MARKER_GRACE: Duration = Duration::from_secs(2);
const MARKER_POLL: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 10;

impl Inner {
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
            let (seen, found) = self.read_document(ds).await?;
            if let Some(document) = found {
                break document;
            }
            let mut document = Document::open_to_all(self.ports.ids.uuid(), self.ports.ids.uuid());
            document.version = 1;
            let bytes = document.encode()?;
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
