//! What an administrator on this host sees and does; not limited by vmgroups.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use vdvs_domain::record::Fingerprint;
use vdvs_domain::{Error, VolumeId, VolumeRecord};

use crate::api::{Actor, AdminInspect, AdminListing, AdminVolume, Call, LocalUser, VolumeView};
use crate::index::Indexed;
use crate::inner::Inner;
use crate::layout::Place;
use crate::ports::DatastoreInfo;
use crate::records::Stored;

impl Inner {
    fn admin_view(
        &self,
        place: &Place,
        record: &VolumeRecord,
        orphan: bool,
        view: VolumeView,
    ) -> AdminVolume {
        let operation = record.operation.as_ref().map(|o| (o.kind, o.started));
        // What is under way for less than a host call may take needs nobody's attention.
        let usual = self.settings.host_call.as_secs();
        let attention = operation.and_then(|(kind, since)| {
            let age = self.now().millis().saturating_sub(since.millis()) / 1000;
            let text = || {
                format!(
                    "{} unfinished since {age} s; see the agent's log",
                    kind.name()
                )
            };
            (age > usual).then(text)
        });
        // What is being made says how far it is.
        let far = match record.exists() {
            true => None,
            false => self.making_in_words(record),
        };
        AdminVolume {
            view,
            operation,
            attention: far.or(attention),
            disk_path: place.disk().path.to_string(),
            policy: record
                .options
                .policy
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            protected: record.protected,
            orphan,
            told: None,
        }
    }

    pub(crate) async fn admin_volume(&self, stored: &Stored) -> AdminVolume {
        let (view, record) = (self.view(stored).await, &stored.record);
        let orphan = self.is_orphan(&stored.place.ds, record.group).await;
        self.admin_view(&stored.place, record, orphan, view)
    }

    pub(crate) async fn all_volumes(&self) -> Result<(Vec<Indexed>, Vec<DatastoreInfo>), Error> {
        let (mut volumes, mut unreadable) = (Vec::new(), Vec::new());
        for ds in self.datastores().await? {
            if !ds.accessible {
                unreadable.push(ds);
                continue;
            }
            match self.answering(&ds.name, self.indexed_on(&ds.name)).await {
                Ok(found) => volumes.extend(found),
                Err(why) => {
                    self.said
                        .once(format!("datastore {}", ds.name), &why.to_string());
                    unreadable.push(ds);
                }
            }
        }
        volumes.sort_by(|a, b| (&a.place.name, &a.place.ds).cmp(&(&b.place.name, &b.place.ds)));
        Ok((volumes, unreadable))
    }

    pub(crate) async fn admin_volumes(&self) -> Result<AdminListing, Error> {
        let (volumes, unreadable) = self.all_volumes().await?;
        let mut orphans = HashMap::new();
        for volume in &volumes {
            let (ds, group) = (&volume.place.ds, volume.record.group);
            if let Entry::Vacant(unknown) = orphans.entry((ds, group)) {
                unknown.insert(self.is_orphan(ds, group).await);
            }
        }
        let shown = |v: &Indexed, view| {
            let orphan = orphans.get(&(&v.place.ds, v.record.group));
            let orphan = orphan.is_some_and(|orphan| *orphan);
            self.admin_view(&v.place, &v.record, orphan, view)
        };
        let mut listed = self.made_of(&volumes, true, shown).await;
        listed.extend(self.volumes_told().await);
        Ok(AdminListing {
            volumes: listed,
            unreadable: unreadable.into_iter().map(|d| d.name).collect(),
        })
    }

    pub(crate) async fn admin_inspect(&self, address: &str) -> Result<AdminInspect, Error> {
        let stored = self.admin_find(address).await?;
        let record_json = serde_json::to_string_pretty(&stored.record)
            .map_err(|why| Error::Internal(format!("a record cannot be printed: {why}")))?;
        Ok(AdminInspect {
            volume: self.admin_volume(&stored).await,
            record_json,
        })
    }

    pub(crate) async fn admin_remove(
        self: &Arc<Self>,
        user: &LocalUser,
        call: &Call,
        address: &str,
    ) -> Result<(VolumeId, String), Error> {
        let stored = self.admin_find(address).await?;
        let name = stored.name().to_string();
        let fingerprint = Fingerprint(format!("administrator delete {}", stored.record.id));
        let id = self.delete_volume(call, &stored, fingerprint).await?;
        self.audit(
            Actor::Admin(user),
            "delete",
            name.clone(),
            Some(id),
            String::new(),
        )
        .await;
        Ok((id, name))
    }
}
