//! The mark of a datastore: which configuration governs the volumes on it, and where that lies.
//!
//! The first one is a file made by exclusive create. Later ones are slots beside it, changed by *swap*: the newest
//! whole slot counts, and the file only while there is none.

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error};

use crate::inner::{Inner, unavailable};
use crate::layout;
use crate::ports::StorageError;
use crate::swap::frame::{self, Kind};
use crate::swap::{Swapped, slot_of};

const ATTEMPTS: usize = 20;
/// The layout this program knows.
const LAYOUT: u32 = 1;

/// The mark of a datastore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// Identity of the datastore.
    pub(crate) datastore: Uuid,
    /// Version of the layout.
    pub(crate) layout: u32,
    /// The configuration that governs the volumes here.
    pub(crate) config: Uuid,
    /// The datastore its document lies on.
    pub(crate) home: DatastoreName,
}

/// What stands where the marker belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MarkerFile {
    Absent,
    Torn,
    Is(Marker),
}

impl Inner {
    pub(super) async fn read_marker(&self, ds: &DatastoreName) -> Result<MarkerFile, Error> {
        let store = &*self.ports.datastores;
        let seen = layout::markers(ds).read(store).await;
        let seen = seen.map_err(|why| unavailable(ds, &why))?;
        let bytes = match seen.bytes {
            Some(bytes) => bytes,
            None => match store
                .read(ds, &layout::marker(), Kind::Marker.max_bytes())
                .await
            {
                Ok(bytes) => bytes,
                Err(StorageError::NotFound(_)) => return Ok(MarkerFile::Absent),
                Err(why) => return Err(unavailable(ds, &why)),
            },
        };
        let what = || format!("marker [{ds}] {}", layout::marker());
        let marker: Option<Marker> = frame::decode(Kind::Marker, &bytes, what)?;
        if let Some(found) = marker.as_ref().map(|m| m.layout).filter(|l| *l > LAYOUT) {
            return Err(Error::NewerFormat {
                what: format!("the layout of {ds}"),
                found,
                known: LAYOUT,
            });
        }
        Ok(marker.map_or(MarkerFile::Torn, MarkerFile::Is))
    }

    /// Makes the marker of `ds` name this configuration and home. `false`: it does already, or there is none.
    pub(super) async fn point_marker(
        &self,
        ds: &DatastoreName,
        config: Uuid,
        home: &DatastoreName,
    ) -> Result<bool, Error> {
        let (file, store) = (layout::markers(ds), &*self.ports.datastores);
        for _ in 0..ATTEMPTS {
            let seen = file
                .read(store)
                .await
                .map_err(|why| unavailable(ds, &why))?;
            let MarkerFile::Is(mut marker) = self.read_marker(ds).await? else {
                return Ok(false);
            };
            if marker.config == config && marker.home == *home {
                return Ok(false);
            }
            (marker.config, marker.home) = (config, home.clone());
            let bytes = frame::encode(Kind::Marker, &marker)?;
            let swapped = file.swap(store, &seen, bytes).await;
            if let Swapped::Done(_) = swapped.map_err(|why| unavailable(ds, &why))? {
                tracing::info!(datastore = %ds, %config, %home, "the marker names another home");
                self.forget_governed();
                return Ok(true);
            }
        }
        Err(ConfigFault::HomeUnavailable {
            home: ds.clone(),
            why: "other hosts kept changing its marker first".to_owned(),
        }
        .into())
    }

    /// A marker in place of one that is damaged or names what is gone.
    pub(super) async fn write_marker_anew(
        &self,
        ds: &DatastoreName,
        config: Uuid,
        home: &DatastoreName,
    ) -> Result<(), Error> {
        let (file, store) = (layout::markers(ds), &*self.ports.datastores);
        for _ in 0..ATTEMPTS {
            let seen = file
                .read(store)
                .await
                .map_err(|why| unavailable(ds, &why))?;
            let datastore = match self.read_marker(ds).await? {
                MarkerFile::Is(marker) => marker.datastore,
                MarkerFile::Torn | MarkerFile::Absent => self.ports.ids.uuid(),
            };
            let marker = Marker {
                datastore,
                layout: 1,
                config,
                home: home.clone(),
            };
            let bytes = frame::encode(Kind::Marker, &marker)?;
            let swapped = file.swap(store, &seen, bytes).await;
            if let Swapped::Done(_) = swapped.map_err(|why| unavailable(ds, &why))? {
                self.forget_governed();
                return Ok(());
            }
        }
        Err(ConfigFault::HomeUnavailable {
            home: ds.clone(),
            why: "other hosts kept changing its marker first".to_owned(),
        }
        .into())
    }

    /// Whether nobody ever kept a volume here: no `dockvols`, or one in which only the beginning of ours lies.
    pub(super) async fn untouched(&self, ds: &DatastoreName) -> Result<bool, Error> {
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
        let slot = |name: &str, stem: &str| slot_of(name, stem).is_some();
        let ours = |name: &str| {
            name == layout::MARKER || slot(name, layout::CONFIG) || slot(name, layout::MARKER)
        };
        Ok(own.iter().all(|e| ours(&e.name)))
    }
}
