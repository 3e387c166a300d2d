//! A record as people see it.

use std::collections::HashMap;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use vdvs_domain::{DatastoreName, Error, GroupId, GroupName};

use crate::api::{Caller, Listing, VolumeView};
use crate::inner::Inner;
use crate::records::Stored;

/// Disks looked at together.
const STATS: usize = 16;

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

    fn waiting(&self, stored: &Stored) -> Option<String> {
        let record = &stored.record;
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
        let disk = place.disk();
        let stat = self.ports.datastores.stat_disk(&disk.datastore, &disk.path);
        let allocated_bytes = match stat.await {
            Ok(Some(stat)) => stat.allocated_bytes,
            Ok(None) | Err(_) => 0,
        };
        let owner = record.ownership.owner();
        VolumeView {
            id: record.id,
            name: record.name.clone(),
            datastore: place.ds.clone(),
            group: self.group_name(&place.ds, record.group).await,
            capacity: record.capacity,
            allocated_bytes,
            options: record.options.clone(),
            filesystem: record.filesystem.clone(),
            layout: record.layout,
            created: record.created.clone(),
            ownership: record.ownership.clone(),
            host_name: owner.map_or_else(String::new, |o| self.holder(o).host.into()),
            epoch: record.epoch,
            waiting: self.waiting(stored),
        }
    }

    /// Views of many volumes, in the given order.
    ///
    /// Boxed with its lifetime named: callers on other threads could not be shown that the stream inside is `Send`.
    pub(crate) fn views<'a>(&'a self, stored: &'a [Stored]) -> BoxFuture<'a, Vec<VolumeView>> {
        stream::iter(stored)
            .map(move |s| self.view(s))
            .buffered(STATS)
            .collect()
            .boxed()
    }

    /// The volumes of the caller's vmgroup.
    pub(crate) async fn list(&self, caller: &Caller) -> Result<Listing, Error> {
        let survey = self.survey(caller).await?;
        if survey.open.is_empty()
            && survey.unreadable.is_empty()
            && let Some((_, why)) = survey.closed.into_iter().next()
        {
            return Err(why);
        }
        let mut unreadable: Vec<_> = survey.unreadable.into_iter().map(|(ds, _)| ds).collect();
        let mut volumes: HashMap<_, Stored> = HashMap::new();
        for open in survey.open {
            let records = self.records_in(&open.ds, open.group);
            match self.answering(&open.ds, records).await {
                Ok(records) => {
                    let existing = records.into_iter().filter(|s| s.record.exists());
                    volumes.extend(existing.map(|s| (s.record.id, s)));
                }
                Err(why) => {
                    self.said
                        .once(format!("listing {}", open.ds), &why.to_string());
                    unreadable.push(open.ds);
                }
            }
        }
        let mut volumes: Vec<_> = volumes.into_values().collect();
        volumes.sort_by(|a, b| (&a.place.name, &a.place.ds).cmp(&(&b.place.name, &b.place.ds)));
        Ok(Listing {
            volumes: self.views(&volumes).await,
            unreadable,
        })
    }
}
