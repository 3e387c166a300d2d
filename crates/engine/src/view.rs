//! A record as people see it.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::task::yield_now;
use vdvs_domain::{DatastoreName, Error, GroupId, GroupName, VolumeRecord};

use crate::api::{Caller, VolumeView};
use crate::index::{Indexed, LISTED};
use crate::inner::Inner;
use crate::kept::Kept;
use crate::layout::Place;
use crate::records::Stored;

/// Disks looked at together, and volumes shown between two turns of the runtime.
const STATS: usize = 256;
/// What a disk occupies is shown to people, and changes with every block a guest writes.
const OCCUPIED: Duration = Duration::from_secs(1);
/// Views made at once.
const VIEWS: usize = 16;

impl Inner {
    /// A vmgroup's name by the rules of the datastore; its id where they do not know it.
    pub(crate) async fn group_name(&self, ds: &DatastoreName, id: GroupId) -> GroupName {
        let governed = self.governed(ds).await.ok();
        let rules = governed.as_ref().and_then(|g| g.rules());
        rules
            .and_then(|r| r.access.groups.iter().find(|g| g.id == id))
            .map(|g| g.name.clone())
            .or_else(|| GroupName::new(&id.to_string()).ok())
            .unwrap_or_else(GroupName::default_group)
    }

    fn waiting(&self, record: &VolumeRecord) -> Option<String> {
        if !record.exists()
            && let Some(far) = self.making_in_words(record)
        {
            return Some(far);
        }
        if let Some(reader) = self.reader_in_words(&record.ownership) {
            return Some(reader);
        }
        match &record.operation {
            Some(operation) => Some(format!(
                "{} is under way since {} ms",
                operation.kind.name(),
                self.now()
                    .millis()
                    .saturating_sub(operation.started.millis())
            )),
            None => self.waiting_in_words(record),
        }
    }

    /// The view of a volume; looks at the disk for its allocation.
    pub(crate) async fn view(&self, stored: &Stored) -> VolumeView {
        let (record, place) = (&stored.record, &stored.place);
        let now = self.instant();
        let allocated_bytes = match self.index.allocated(place, now.checked_sub(OCCUPIED)) {
            Some(bytes) => bytes,
            None => {
                let disk = place.disk();
                let stat = self.ports.datastores.stat_disk(&disk.datastore, &disk.path);
                let bytes = stat.await.ok().flatten().map_or(0, |s| s.allocated_bytes);
                self.index.occupies(place, now, bytes);
                bytes
            }
        };
        let group = self.group_name(&place.ds, record.group).await;
        let waiting = self.waiting_now(stored).await;
        VolumeView {
            waiting,
            ..self.view_of(record, place, group, allocated_bytes)
        }
    }

    /// The view of a record.
    pub(crate) fn view_of(
        &self,
        record: &VolumeRecord,
        place: &Place,
        group: GroupName,
        allocated_bytes: u64,
    ) -> VolumeView {
        let owner = record.ownership.owner();
        VolumeView {
            id: record.id,
            name: record.name.clone(),
            datastore: place.ds.clone(),
            group,
            capacity: record.capacity,
            allocated_bytes,
            options: record.options.clone(),
            filesystem: record.filesystem.clone(),
            layout: record.layout,
            created: record.created.clone(),
            ownership: record.ownership.clone(),
            host_name: owner.map_or_else(String::new, |o| self.holder(o).host.into()),
            epoch: record.epoch,
            waiting: self.waiting(record),
        }
    }

    /// What `make` makes of volumes of the index, in their order. `stat`: with what their disks occupy.
    pub(crate) async fn made_of<T>(
        &self,
        volumes: &[Indexed],
        stat: bool,
        make: impl Fn(&Indexed, VolumeView) -> T,
    ) -> Vec<T> {
        self.made_from(volumes, stat, |volume, group, allocated| {
            let (record, place) = (&volume.record, &volume.place);
            make(
                volume,
                self.view_of(record, place, group.clone(), allocated),
            )
        })
        .await
    }

    /// The same from a volume, its vmgroup's name and what its disk occupies.
    async fn made_from<T>(
        &self,
        volumes: &[Indexed],
        stat: bool,
        make: impl Fn(&Indexed, &GroupName, u64) -> T,
    ) -> Vec<T> {
        let mut made = Vec::with_capacity(volumes.len());
        let mut group: Option<(&DatastoreName, GroupId, GroupName)> = None;
        for some in volumes.chunks(STATS) {
            let allocated = match stat {
                true => self.allocated(some).await,
                false => {
                    // The runtime has one thread, and others want it too.
                    yield_now().await;
                    Vec::new()
                }
            };
            for (at, volume) in some.iter().enumerate() {
                let (place, record) = (&volume.place, &volume.record);
                let known = |(ds, id, _): &&(&DatastoreName, GroupId, GroupName)| {
                    **ds == place.ds && *id == record.group
                };
                let (.., name) = match group.take().filter(|g| known(&g)) {
                    Some(group) => group,
                    None => {
                        let name = self.group_name(&place.ds, record.group).await;
                        (&place.ds, record.group, name)
                    }
                };
                let allocated = allocated.get(at).copied().unwrap_or(0);
                made.push(make(volume, &name, allocated));
                group = Some((&place.ds, record.group, name));
            }
        }
        made
    }

    /// What disks occupy; 0 where that cannot be said.
    async fn allocated(&self, volumes: &[Indexed]) -> Vec<u64> {
        let mut allocated = Vec::with_capacity(volumes.len());
        for run in volumes.chunk_by(|a, b| a.place.ds == b.place.ds) {
            let files: Vec<_> = run.iter().map(|v| v.place.disk().path).collect();
            let Some(first) = run.first() else { continue };
            let store = &self.ports.datastores;
            match store.allocated_each(&first.place.ds, &files).await {
                Ok(bytes) => allocated.extend(bytes),
                Err(_) => allocated.extend(files.iter().map(|_| 0)),
            }
        }
        allocated
    }

    /// Views of many volumes, in the given order.
    ///
    /// Boxed with its lifetime named: callers on other threads could not be shown that the stream inside is `Send`.
    pub(crate) fn views<'a>(&'a self, stored: &'a [Stored]) -> BoxFuture<'a, Vec<VolumeView>> {
        stream::iter(stored)
            .map(move |s| self.view(s))
            .buffered(VIEWS)
            .collect()
            .boxed()
    }

    /// The volumes of the caller's vmgroup, from the index, and the datastores that could not be read. What their disks
    /// occupy is not looked up.
    pub(crate) async fn list<T: Clone>(
        &self,
        caller: &Caller,
        kept: &Kept<T>,
        make: impl Fn(VolumeView) -> T,
    ) -> Result<(Vec<T>, Vec<DatastoreName>), Error> {
        let survey = self.survey(caller).await?;
        // Who may use nothing sees nothing, as in the original; that access is closed for want of a configuration is no
        // answer.
        let no_answer = |(_, why): &(DatastoreName, Error)| !matches!(why, Error::Denied(_));
        if survey.open.is_empty()
            && survey.unreadable.is_empty()
            && let Some((_, why)) = survey.closed.into_iter().find(no_answer)
        {
            return Err(why);
        }
        let mut unreadable: Vec<_> = survey.unreadable.into_iter().map(|(ds, _)| ds).collect();
        let mut volumes = Vec::new();
        for open in survey.open {
            let indexed = self.indexed(&open.ds, open.group, LISTED);
            match self.answering(&open.ds, indexed).await {
                Ok(indexed) => volumes.extend(indexed),
                Err(why) => {
                    self.said
                        .once(format!("listing {}", open.ds), &why.to_string());
                    unreadable.push(open.ds);
                }
            }
        }
        volumes.retain(|v| v.record.exists());
        in_order(&mut volumes);
        let made = self.made_from(&volumes, false, |volume, group, _| {
            let (record, place) = (&volume.record, &volume.place);
            let made = || make(self.view_of(record, place, group.clone(), 0));
            // Of these there is more to say than the record says, and it changes by itself.
            match self.waiting(record).is_some() {
                true => made(),
                false => kept.or_make(record, group, made),
            }
        });
        let made = made.await;
        Ok((made, unreadable))
    }
}

/// By name, each volume once: a datastore may be known under two names.
pub(crate) fn in_order(volumes: &mut Vec<Indexed>) {
    volumes.sort_by(|a, b| (&a.place.name, &a.place.ds).cmp(&(&b.place.name, &b.place.ds)));
    let mut seen = HashSet::with_capacity(volumes.len());
    volumes.retain(|v| seen.insert(v.record.id));
}
