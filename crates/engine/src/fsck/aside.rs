//! Damaged bytes are kept before anything takes their place: `dockvols/.vdvs/damaged/<folder>/<file>.<crc>`.
//!
//! The name follows from the bytes, so that a second run, another host, or a run after a crash keeps the same bytes in
//! the same place. Nothing reads these files; an administrator removes them.

use vdvs_domain::{DatastoreName, Error};

use crate::inner::{Inner, unavailable};
use crate::layout;
use crate::ports::{DsPath, DsPathError, StorageError};

/// Folder of damaged files, below that of what is about the datastore.
pub(super) const DAMAGED: &str = "damaged";
/// Larger files than any of ours are kept whole up to this size; what is larger is left where it is.
pub(super) const MAX_ASIDE: usize = 32 * 1024 * 1024;

/// Where these bytes of a file are kept.
pub(super) fn path_of(file: &DsPath, bytes: &[u8]) -> Result<DsPath, Error> {
    let bad = |why: DsPathError| Error::Internal(why.to_string());
    let mut parts = file.as_str().rsplit('/');
    let (name, folder) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let crc = crc32fast::hash(bytes);
    let dir = layout::own_dir().join(DAMAGED).map_err(bad)?;
    let dir = dir.join(folder).map_err(bad)?;
    dir.join(&format!("{name}.{crc:08x}")).map_err(bad)
}

impl Inner {
    /// Keeps a file's bytes. Returns where; `None`: there is nothing in it to keep.
    pub(super) async fn put_aside(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<DsPath>, Error> {
        let store = &*self.ports.datastores;
        let failed = |why: StorageError| unavailable(ds, &why);
        let bytes = match store.read(ds, file, MAX_ASIDE).await {
            Ok(bytes) if bytes.is_empty() => return Ok(None),
            Ok(bytes) => bytes,
            Err(StorageError::NotFound(_)) => return Ok(None),
            Err(why) => return Err(failed(why)),
        };
        let to = path_of(file, &bytes)?;
        let dir = to.as_str().rsplit_once('/').map_or("", |(dir, _)| dir);
        let dir = DsPath::new(dir).map_err(|why| Error::Internal(why.to_string()))?;
        store.make_dir(ds, &dir).await.map_err(failed)?;
        match store.create_new(ds, &to).await {
            Ok(()) => {}
            Err(StorageError::AlreadyExists(_)) => {
                let kept = store.read(ds, &to, MAX_ASIDE).await.map_err(failed)?;
                if kept == bytes {
                    return Ok(Some(to));
                }
                // Cut off by a crash: its name says which bytes belong there.
            }
            Err(why) => return Err(failed(why)),
        }
        store.write(ds, &to, &bytes).await.map_err(failed)?;
        tracing::info!(datastore = %ds, %file, kept = %to, "damaged bytes are kept");
        Ok(Some(to))
    }
}
