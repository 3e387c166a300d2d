//! One name for one disk. hostd names a disk by the path it was attached with, by the folder's identity on vSAN
//! (`[ds] 5f2c…/…` for `[ds] dockvols/…`), or through a link of the original's; volumes know it by its plain path below
//! `dockvols`. A folder's links never change, so what was found once is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use vdvs_domain::DatastoreName;
use vdvs_engine::ports::{DatastoreKind, DiskPath, DsPath};

use super::catalog::{Catalog, Store};

/// The folder of volumes at the top of each datastore.
pub(crate) const TOP: &str = "dockvols";
/// For following links.
const LOOK: Duration = Duration::from_secs(2);
/// Folders kept. More than any host has vmgroups.
const MOST: usize = 4096;

/// Folders, and where they really lie.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<HashMap<(DatastoreName, String), String>>);

/// The datastore and path in `[datastore] path`.
pub(crate) fn split(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('[')?
        .split_once("] ")
        .map(|(ds, path)| (ds, path.trim_start_matches('/')))
}

fn halves(path: &DsPath) -> Option<(&str, &str)> {
    path.as_str().rsplit_once('/')
}

impl Names {
    fn held(&self) -> MutexGuard<'_, HashMap<(DatastoreName, String), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk behind a name of hostd's. None: it is no file on a datastore of this host.
    pub(crate) async fn disk(&self, catalog: &Catalog, file: &str) -> Option<DiskPath> {
        let stores = catalog.stores().await.ok()?;
        let (name, path) = split(file)?;
        let (store, path) = match name {
            // `[] /vmfs/volumes/<id>/folder/disk.vmdk`
            "" => by_root(&stores, path)?,
            name => (
                stores.iter().find(|s| s.name.as_str() == name)?,
                DsPath::new(path).ok()?,
            ),
        };
        let disk = DiskPath {
            datastore: store.name.clone(),
            path,
        };
        Some(self.plain_in(catalog, store, disk).await)
    }

    /// A disk by its plain path.
    pub(crate) async fn plain(&self, catalog: &Catalog, disk: &DiskPath) -> DiskPath {
        match catalog.store(&disk.datastore).await {
            Ok(store) => self.plain_in(catalog, &store, disk.clone()).await,
            Err(_) => disk.clone(),
        }
    }

    async fn plain_in(&self, catalog: &Catalog, store: &Store, disk: DiskPath) -> DiskPath {
        let Some((folder, file)) = halves(&disk.path) else {
            return disk;
        };
        let by_identity = matches!(store.kind, DatastoreKind::Vsan | DatastoreKind::Vvol);
        if !by_identity && folder != TOP && !folder.starts_with("dockvols/") {
            // A VM's own folder.
            return disk;
        }
        let key = (store.name.clone(), folder.to_owned());
        let kept = self.held().get(&key).cloned();
        let really = match kept {
            Some(really) => really,
            None => match Self::look(catalog, &disk).await {
                Some(really) => {
                    let mut all = self.held();
                    if all.len() >= MOST {
                        all.clear();
                    }
                    all.insert(key, really.clone());
                    really
                }
                None => return disk,
            },
        };
        match DsPath::new(&format!("{really}/{file}")) {
            Ok(path) => DiskPath { path, ..disk },
            Err(_) => disk,
        }
    }

    /// The folder a disk lies in, with links followed and the volumes' folder by its own name. None: it cannot be
    /// looked at now.
    async fn look(catalog: &Catalog, disk: &DiskPath) -> Option<String> {
        let path = disk.path.clone();
        let look = catalog.run(&disk.datastore, Instant::now() + LOOK, move |folder| {
            let top = DsPath::new("dockvols/-")
                .ok()
                .and_then(|p| folder.resolve(&p));
            Ok((folder.resolve(&path), top))
        });
        let (really, top) = look.await.ok()?;
        let really = really?;
        let (folder, _) = halves(&really)?;
        let top = top?;
        let (top, _) = halves(&top)?;
        Some(match folder.strip_prefix(top) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("{TOP}{rest}"),
            _ => folder.to_owned(),
        })
    }
}

fn by_root<'a>(stores: &'a [Arc<Store>], path: &str) -> Option<(&'a Arc<Store>, DsPath)> {
    let full = format!("/{path}");
    stores.iter().find_map(|s| {
        let root = s.folder.as_ref()?.root.to_str()?;
        let below = full.strip_prefix(root)?.strip_prefix('/')?;
        Some((s, DsPath::new(below).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostds_names_are_split_at_the_bracket() {
        assert_eq!(split("[a b] c/d.vmdk"), Some(("a b", "c/d.vmdk")));
        assert_eq!(
            split("[] /vmfs/volumes/4f/c"),
            Some(("", "vmfs/volumes/4f/c"))
        );
        assert_eq!(split("/vmfs/volumes/4f/c"), None);
    }
}
