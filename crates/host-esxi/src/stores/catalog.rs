//! Which datastores this host has, and whether they can be read.
//!
//! hostd says which there are; that is asked again when it is older than [`LATELY`], and at once when a name is not
//! known. While hostd does not answer, what it said last counts: files are read without it. Whether a datastore can be
//! read is looked at in its own folder, by its own threads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use vdvs_domain::DatastoreName;
use vdvs_engine::ports::{DatastoreInfo, DatastoreKind, StorageError};
use vdvs_vim::{Datastore, MoRef};

use super::folder::{Folder, root_of};
use super::pool::Pool;
use crate::esx::Esx;

/// How long the list counts. Datastores come and go by an administrator's hand.
const LATELY: Duration = Duration::from_secs(5);
/// For asking hostd the first time.
const ASK: Duration = Duration::from_secs(10);
/// For asking hostd while what it said last is there to go on with. If it does not answer, files need not wait for it,
/// and it is asked again after [`LATELY`].
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// A look at a datastore's folder takes microseconds. Every request looks at all of them, so one that hangs may not
/// take the time of requests for the others.
const LOOK: Duration = Duration::from_secs(1);
/// A datastore that was read well is looked at again after this time.
const WELL: Duration = Duration::from_secs(1);

/// A datastore as it is used.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) name: DatastoreName,
    pub(crate) object: MoRef,
    pub(crate) kind: DatastoreKind,
    pub(crate) folder: Option<Folder>,
    /// Plain folders at its top can be made.
    pub(crate) plain_top: bool,
    accessible: bool,
    capacity_bytes: u64,
    free_bytes: u64,
}

#[derive(Debug)]
struct Listed {
    at: Instant,
    /// The session it was read in: references mean nothing in another.
    generation: u64,
    stores: Vec<Arc<Store>>,
}

/// Which datastores this host has.
#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) esx: Arc<Esx>,
    listed: Mutex<Option<Arc<Listed>>>,
    /// When hostd did not answer last, and has not since.
    away: Mutex<Option<Instant>>,
    /// Held while somebody asks hostd.
    asking: AsyncMutex<()>,
    pools: Mutex<HashMap<DatastoreName, Arc<Pool>>>,
    well: Mutex<HashMap<DatastoreName, Instant>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Catalog {
    pub(crate) fn new(esx: Arc<Esx>) -> Self {
        Self {
            esx,
            listed: Mutex::default(),
            away: Mutex::default(),
            asking: AsyncMutex::default(),
            pools: Mutex::default(),
            well: Mutex::default(),
        }
    }

    /// The datastores, as hostd says them now or said them lately.
    pub(crate) async fn stores(&self) -> Result<Vec<Arc<Store>>, StorageError> {
        let current = |l: &Arc<Listed>| {
            l.at.elapsed() < LATELY && l.generation == self.esx.client.generation()
        };
        if let Some(listed) = held(&self.listed).clone().filter(current) {
            return Ok(listed.stores.clone());
        }
        self.ask(current).await
    }

    /// Asks hostd, unless somebody else did so meanwhile.
    async fn ask(
        &self,
        enough: impl Fn(&Arc<Listed>) -> bool,
    ) -> Result<Vec<Arc<Store>>, StorageError> {
        let _turn = self.asking.lock().await;
        if let Some(listed) = held(&self.listed).clone().filter(|l| enough(l)) {
            return Ok(listed.stores.clone());
        }
        let last = held(&self.listed).clone();
        let away = held(&self.away).is_some_and(|at| at.elapsed() < LATELY);
        let wait = match &last {
            Some(last) if away => return Ok(last.stores.clone()),
            Some(_) => ASK_AGAIN,
            None => ASK,
        };
        match self.esx.datastores(Instant::now() + wait).await {
            Ok((generation, found)) => {
                let stores = read_all(found);
                *held(&self.away) = None;
                *held(&self.listed) = Some(Arc::new(Listed {
                    at: Instant::now(),
                    generation,
                    stores: stores.clone(),
                }));
                Ok(stores)
            }
            Err(why) => {
                *held(&self.away) = Some(Instant::now());
                match last {
                    Some(last) => {
                        tracing::debug!(%why, "the datastores are those hostd named last");
                        Ok(last.stores.clone())
                    }
                    None => Err(StorageError::Io(format!(
                        "cannot list the datastores: {why}"
                    ))),
                }
            }
        }
    }

    /// The datastore of this name. One that is not known is asked for once more.
    pub(crate) async fn store(&self, name: &DatastoreName) -> Result<Arc<Store>, StorageError> {
        let find = |stores: Vec<Arc<Store>>| stores.into_iter().find(|s| s.name == *name);
        if let Some(store) = find(self.stores().await?) {
            return Ok(store);
        }
        let begun = Instant::now();
        find(self.ask(|l| l.at >= begun).await?)
            .ok_or_else(|| StorageError::Io(format!("this host has no datastore '{name}'")))
    }

    /// The threads of a datastore.
    pub(crate) fn pool(&self, name: &DatastoreName) -> Arc<Pool> {
        let mut pools = held(&self.pools);
        let new = || Arc::new(Pool::new(name.as_str()));
        Arc::clone(pools.entry(name.clone()).or_insert_with(new))
    }

    /// Runs `act` with a datastore's folder on the datastore's own threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        name: &DatastoreName,
        deadline: Instant,
        act: impl FnOnce(&Folder) -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let store = self.store(name).await?;
        let folder = store.folder.clone().ok_or_else(|| {
            StorageError::Io(format!("datastore '{name}' has no folder on this host"))
        })?;
        self.pool(name).run(deadline, move || act(&folder)).await
    }

    /// All datastores, with a look at each.
    pub(crate) async fn describe(&self) -> Result<Vec<DatastoreInfo>, StorageError> {
        let stores = self.stores().await?;
        Ok(join_all(stores.iter().map(|s| self.look(s))).await)
    }

    async fn look(&self, store: &Arc<Store>) -> DatastoreInfo {
        DatastoreInfo {
            name: store.name.clone(),
            kind: store.kind,
            accessible: self.can_be_read(store).await,
            capacity_bytes: store.capacity_bytes,
            free_bytes: store.free_bytes,
        }
    }

    async fn can_be_read(&self, store: &Arc<Store>) -> bool {
        let Some(folder) = store.folder.clone().filter(|_| store.accessible) else {
            return false;
        };
        if held(&self.well)
            .get(&store.name)
            .is_some_and(|at| at.elapsed() < WELL)
        {
            return true;
        }
        let look = move || Ok(folder.root.is_dir());
        let look = self
            .pool(&store.name)
            .run(Instant::now() + LOOK, look)
            .await;
        let well = matches!(look, Ok(true));
        let mut known = held(&self.well);
        match well {
            true => drop(known.insert(store.name.clone(), Instant::now())),
            false => drop(known.remove(&store.name)),
        }
        well
    }
}

/// What hostd lists, apart from what has no name of ours and from second names of the same datastore.
fn read_all(found: Vec<Datastore>) -> Vec<Arc<Store>> {
    let mut stores: Vec<Arc<Store>> = Vec::new();
    for one in found {
        let Ok(name) = DatastoreName::new(&one.name) else {
            tracing::debug!(
                name = one.name,
                "a datastore has a name that volumes cannot name"
            );
            continue;
        };
        if one.alias_of.as_ref().is_some_and(|of| *of != one.url)
            || stores.iter().any(|s| s.name == name)
        {
            continue;
        }
        let kind = kind(&one);
        let plain = !matches!(kind, DatastoreKind::Vsan | DatastoreKind::Vvol);
        stores.push(Arc::new(Store {
            folder: root_of(&one.url).map(|root| Folder {
                name: name.clone(),
                root,
            }),
            name,
            kind,
            plain_top: one.capability.top_level_directories.unwrap_or(plain),
            object: one.object,
            accessible: one.accessible,
            capacity_bytes: one.capacity_bytes,
            free_bytes: one.free_bytes,
        }));
    }
    stores
}

/// The kind, by the summary's type. What nobody knows is taken for VMFS, the strictest of the plain ones.
fn kind(one: &Datastore) -> DatastoreKind {
    let text = one.kind.to_ascii_lowercase();
    if text.starts_with("nfs") || one.info_kind == "NasDatastoreInfo" {
        DatastoreKind::Nfs
    } else if text.starts_with("vsan") {
        DatastoreKind::Vsan
    } else if text.starts_with("vvol") {
        DatastoreKind::Vvol
    } else {
        DatastoreKind::Vmfs
    }
}

#[cfg(test)]
mod tests {
    use vdvs_vim::Capability;

    use super::*;

    fn datastore(name: &str, kind: &str, alias_of: Option<&str>) -> Datastore {
        Datastore {
            object: MoRef::new("Datastore", name),
            name: name.to_owned(),
            url: format!("/vmfs/volumes/{name}"),
            kind: kind.to_owned(),
            info_kind: String::new(),
            accessible: true,
            capacity_bytes: 1,
            free_bytes: 1,
            multiple_hosts: None,
            maintenance: None,
            alias_of: alias_of.map(str::to_owned),
            max_disk_bytes: None,
            browser: None,
            capability: Capability {
                top_level_directories: None,
                directories: None,
                thin: None,
                expand: None,
            },
        }
    }

    #[test]
    fn each_kind_is_told_and_says_whether_it_takes_plain_folders_at_its_top() {
        for (word, kind, plain) in [
            ("VMFS", DatastoreKind::Vmfs, true),
            ("NFS41", DatastoreKind::Nfs, true),
            ("vsan", DatastoreKind::Vsan, false),
            ("VVOL", DatastoreKind::Vvol, false),
            ("PMEM", DatastoreKind::Vmfs, true),
        ] {
            let read = read_all(vec![datastore("ds", word, None)]);
            let got: Vec<_> = read.iter().map(|s| (s.kind, s.plain_top)).collect();
            assert_eq!(got, [(kind, plain)], "{word}");
        }
    }

    #[test]
    fn a_second_name_of_a_datastore_is_none() {
        let read = read_all(vec![
            datastore("one", "VMFS", Some("/vmfs/volumes/one")),
            datastore("two", "VMFS", Some("/vmfs/volumes/one")),
        ]);
        let names: Vec<_> = read.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["one"]);
    }
}
