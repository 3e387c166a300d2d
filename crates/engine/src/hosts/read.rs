//! Reading what the other hosts tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use vdvs_domain::{DatastoreName, Error, HostId};

use super::file::{self, HostFile, slot_of_host};
use crate::inner::{Inner, locked, unavailable};
use crate::layout;
use crate::ports::StorageError;

/// What was read is good for so long: a person's command asks several questions at once.
const GOOD_FOR: Duration = Duration::from_secs(1);
/// A datastore that takes longer hides what is told there alone.
const ANSWER: Duration = Duration::from_secs(3);

/// What the other hosts tell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Others {
    /// The newest file of each, by name.
    pub(crate) files: Vec<Arc<HostFile>>,
    /// Hosts whose file cannot be understood, and why.
    pub(crate) strange: Vec<(HostId, String)>,
    /// Datastores that could not be looked at.
    pub(crate) unread: Vec<DatastoreName>,
}

/// One host's file as one datastore has it.
type Look = (HostId, Result<Arc<HostFile>, String>);

impl Others {
    fn of(looks: Vec<Look>) -> Self {
        let mut newest: BTreeMap<HostId, Arc<HostFile>> = BTreeMap::new();
        let mut strange: BTreeMap<HostId, String> = BTreeMap::new();
        for (host, look) in looks {
            match look {
                Ok(file) => match newest.get(&host) {
                    Some(known) if known.at >= file.at => {}
                    _ => drop(newest.insert(host, file)),
                },
                Err(why) => drop(strange.insert(host, why)),
            }
        }
        // What one datastore has damaged another may have whole.
        strange.retain(|host, _| !newest.contains_key(host));
        let mut files: Vec<_> = newest.into_values().collect();
        files.sort_by(|a, b| (&a.name, a.host).cmp(&(&b.name, b.host)));
        Self {
            files,
            strange: strange.into_iter().collect(),
            unread: Vec::new(),
        }
    }
}

impl Inner {
    /// What the other hosts tell, a moment ago. Datastores are looked at side by side, none for long.
    pub(crate) async fn others(&self) -> Arc<Others> {
        let now = self.instant();
        if let Some((at, others)) = &*locked(&self.hosts.others)
            && now.saturating_duration_since(*at) < GOOD_FOR
        {
            return Arc::clone(others);
        }
        let others = Arc::new(self.look_at_others().await);
        *locked(&self.hosts.others) = Some((now, Arc::clone(&others)));
        others
    }

    async fn look_at_others(&self) -> Others {
        let Ok(datastores) = self.datastores().await else {
            return Others::default();
        };
        let names = datastores.into_iter().filter(|d| d.accessible);
        let names: Vec<_> = names.map(|d| d.name).collect();
        let looks = names.iter().map(|ds| timeout(ANSWER, self.told_on(ds)));
        let (mut all, mut unread) = (Vec::new(), Vec::new());
        for (ds, look) in names.iter().zip(join_all(looks).await) {
            match look {
                Ok(Ok(looks)) => all.extend(looks),
                Ok(Err(_)) | Err(_) => unread.push(ds.clone()),
            }
        }
        Others {
            unread,
            ..Others::of(all)
        }
    }

    async fn told_on(&self, ds: &DatastoreName) -> Result<Vec<Look>, Error> {
        let store = &*self.ports.datastores;
        let dir = layout::own_dir();
        let entries = match store.read_dir_starting(ds, &dir, file::START).await {
            Ok(entries) => entries,
            Err(StorageError::NotFound(_)) => return Ok(Vec::new()),
            Err(why) => return Err(unavailable(ds, &why)),
        };
        let mut slots: BTreeMap<HostId, Vec<u64>> = BTreeMap::new();
        for entry in entries.iter().filter(|e| !e.is_dir) {
            if let Some((host, seq)) = slot_of_host(&entry.name).filter(|(h, _)| *h != self.host) {
                slots.entry(host).or_default().push(seq);
            }
        }
        let mut looks = Vec::with_capacity(slots.len());
        for (host, mut slots) in slots {
            slots.sort_unstable();
            let look = self.told_by(ds, host, &slots).await?;
            looks.extend(look.map(|look| (host, look)));
        }
        Ok(looks)
    }

    /// `None`: nothing whole is there.
    async fn told_by(
        &self,
        ds: &DatastoreName,
        host: HostId,
        slots: &[u64],
    ) -> Result<Option<Result<Arc<HostFile>, String>>, Error> {
        let key = (ds.clone(), host);
        let highest = slots.last().copied().unwrap_or(0);
        if let Some((seq, file)) = locked(&self.hosts.read).get(&key)
            && *seq == highest
        {
            return Ok(Some(Ok(Arc::clone(file))));
        }
        let place = file::place(ds, host);
        let seen = match place.read_listed(&*self.ports.datastores, slots).await {
            Ok(seen) => seen,
            Err(StorageError::TooLarge(_)) => {
                return Ok(Some(Err("its status file is too large".to_owned())));
            }
            Err(why) => return Err(unavailable(ds, &why)),
        };
        let Some(bytes) = seen.bytes else {
            return Ok(None);
        };
        let what = || format!("status file [{ds}] {}/{}", place.dir, place.stem);
        Ok(match HostFile::read(&bytes, what) {
            Ok(Some(file)) if file.host == host => {
                let file = Arc::new(file);
                locked(&self.hosts.read).insert(key, (seen.seq, Arc::clone(&file)));
                Some(Ok(file))
            }
            Ok(Some(file)) => Some(Err(format!("{} speaks of host {}", what(), file.host))),
            Ok(None) => None,
            Err(why) => Some(Err(why.to_string())),
        })
    }
}
