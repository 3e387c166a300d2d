//! For fsck: how marker and document of a datastore stand as files, and a marker made anew from the document beside it.
//!
//! The document is never made anew here: what it said about who may do what is lost with it, unless a copy is kept, and
//! putting that in force is an administrator's decision (`vdvs config init --force`).

use vdvs_domain::{DatastoreName, Error};

use super::document::{Document, Standing};
use super::marker::{Marker, MarkerFile};
use crate::inner::{Inner, unavailable};
use crate::layout;
use crate::ports::StorageError;
use crate::swap::Swapped;
use crate::swap::frame::{self, Kind};

/// How the files stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FilesStand {
    /// Nothing of ours, or only the beginning of it.
    Nothing,
    /// A newer program's; nothing may be touched.
    Newer(String),
    /// The marker cannot be understood, or is gone; with it what it would say, if the document tells.
    NoMarker(String, Option<Box<Marker>>),
    /// The marker is whole, the document beside it is not.
    NoDocument(String),
    /// Both are whole, or there is no document here.
    Whole,
}

impl Inner {
    /// How marker and document stand, looked up now.
    pub(crate) async fn files_stand(&self, ds: &DatastoreName) -> Result<FilesStand, Error> {
        let marker = match self.read_marker(ds).await {
            Ok(marker) => Ok(marker),
            Err(Error::Damaged { why, .. }) => Err(why),
            Err(newer @ Error::NewerFormat { .. }) => {
                return Ok(FilesStand::Newer(newer.to_string()));
            }
            Err(why) => return Err(why),
        };
        let document = match self.document_here(ds).await {
            Ok(document) => Ok(document),
            Err(Error::Damaged { why, .. }) => Err(why),
            Err(newer @ Error::NewerFormat { .. }) => {
                return Ok(FilesStand::Newer(newer.to_string()));
            }
            Err(why) => return Err(why),
        };
        let why = match (marker, document) {
            (Ok(MarkerFile::Is(_)), Ok(_)) => return Ok(FilesStand::Whole),
            (Ok(MarkerFile::Is(_)), Err(why)) => return Ok(FilesStand::NoDocument(why)),
            (Ok(MarkerFile::Absent | MarkerFile::Torn), _) if self.untouched(ds).await? => {
                return Ok(FilesStand::Nothing);
            }
            (Ok(MarkerFile::Absent), _) if !self.was_ours(ds).await? => {
                return Ok(FilesStand::Nothing);
            }
            (Ok(MarkerFile::Absent), document) => ("the marker is gone".to_owned(), document),
            (Ok(MarkerFile::Torn), document) => ("no version of it is whole".to_owned(), document),
            (Err(why), document) => (why, document),
        };
        let (why, document) = why;
        let from = document.ok().flatten().map(|d| Box::new(marker_of(ds, &d)));
        Ok(FilesStand::NoMarker(why, from))
    }

    /// Whether anything but an empty folder of ours lies there: a datastore of the original has none.
    async fn was_ours(&self, ds: &DatastoreName) -> Result<bool, Error> {
        match self.ports.datastores.read_dir(ds, &layout::own_dir()).await {
            Ok(entries) => Ok(!entries.is_empty()),
            Err(StorageError::NotFound(_)) => Ok(false),
            Err(why) => Err(unavailable(ds, &why)),
        }
    }

    async fn document_here(&self, ds: &DatastoreName) -> Result<Option<Document>, Error> {
        let damaged = |why: String| Error::Damaged {
            what: format!("configuration document on {ds}"),
            why,
        };
        let seen = match layout::config(ds).read(&*self.ports.datastores).await {
            Ok(seen) => seen,
            Err(StorageError::TooLarge(what)) => {
                return Err(damaged(format!("{what} is too large")));
            }
            Err(why) => return Err(unavailable(ds, &why)),
        };
        match &seen.bytes {
            Some(bytes) => Document::decode(ds, bytes),
            None if seen.is_settled() => Ok(None),
            None => Err(damaged("no version of it is whole".to_owned())),
        }
    }

    /// Writes a marker in place of one that is damaged or gone. `false`: another host was first. Two hosts that do it
    /// at once write the same, since it follows from the document.
    pub(crate) async fn mend_marker(
        &self,
        ds: &DatastoreName,
        marker: &Marker,
    ) -> Result<bool, Error> {
        let (file, store) = (layout::markers(ds), &*self.ports.datastores);
        let failed = |why: StorageError| unavailable(ds, &why);
        let bytes = frame::encode(Kind::Marker, marker)?;
        let seen = file.read(store).await.map_err(failed)?;
        let done = if seen.bytes.is_none() && seen.is_settled() {
            match store.create_new(ds, &layout::marker()).await {
                Ok(()) | Err(StorageError::AlreadyExists(_)) => {}
                Err(why) => return Err(failed(why)),
            }
            let written = store.write(ds, &layout::marker(), &bytes).await;
            written.map_err(failed)?;
            true
        } else {
            matches!(
                file.swap(store, &seen, bytes).await.map_err(failed)?,
                Swapped::Done(_)
            )
        };
        self.forget_governed();
        Ok(done)
    }
}

/// The marker that belongs beside a document (docs/adr/0020).
fn marker_of(ds: &DatastoreName, document: &Document) -> Marker {
    let (config, home) = match &document.standing {
        Standing::Moved { config, home } => (*config, home.clone()),
        _ => (document.id, ds.clone()),
    };
    Marker {
        datastore: document.datastore,
        layout: 1,
        config,
        home,
    }
}
