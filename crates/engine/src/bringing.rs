//! What VMs bring when they change their vmgroup, and whether it may come.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::access::{AccessConfig, Fault, Group, Member, TransferredVolume};
use vdvs_domain::address::AdminAddress;
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeRecord};

use crate::governance::Governed;
use crate::index::Indexed;
use crate::inner::Inner;
use crate::moving_admin::may_come;
use crate::records::Stored;

/// Whether a volume is one that these VMs made or have. Of its makers the original knew only the names.
pub(crate) fn is_of(record: &VolumeRecord, vms: &[Member]) -> bool {
    let owner = record.ownership.owner().map(|o| o.vm.id.instance_uuid);
    let maker = record.created.by.as_ref();
    vms.iter().any(|vm| {
        let made = maker.is_some_and(|by| match by.id.instance_uuid {
            unknown if unknown.is_nil() => by.name == vm.name,
            uuid => uuid == vm.uuid,
        });
        made || owner == Some(vm.uuid)
    })
}

/// The same, as a transfer names them.
pub(crate) fn listed(volumes: &[Indexed]) -> Vec<TransferredVolume> {
    let one = |v: &Indexed| TransferredVolume {
        id: v.record.id,
        name: v.record.name.clone(),
        datastore: v.place.ds.clone(),
    };
    volumes.iter().map(one).collect()
}

/// The vmgroup that VMs and volumes come to.
pub(crate) fn target(config: &AccessConfig, to: GroupId) -> Result<Group, Error> {
    let group = config.groups.iter().find(|g| g.id == to);
    let gone = || Fault::NoSuchGroup {
        name: to.to_string(),
    };
    Ok(group.ok_or_else(gone)?.clone())
}

/// Of these volumes those that an administrator named.
pub(crate) fn exactly(there: &[Indexed], only: &[String]) -> Result<Vec<Indexed>, Error> {
    let mut found: Vec<Indexed> = Vec::new();
    for text in only {
        let asked = AdminAddress::parse(text)?;
        let fits = |v: &&Indexed| {
            let name = asked.name.as_ref().is_some_and(|n| n.name == v.record.name);
            let there = asked.datastore().is_none_or(|ds| v.place.ds.matches(ds));
            (name && there) || asked.id() == Some(v.record.id)
        };
        let mut named = there.iter().filter(fits).peekable();
        if named.peek().is_none() {
            return Err(Error::VolumeNotFound {
                address: text.chars().take(300).collect(),
                looked_on: "the vmgroup that the VMs leave".to_owned(),
            });
        }
        found.extend(named.cloned());
    }
    found.sort_by_key(|v| v.record.id);
    found.dedup_by_key(|v| v.record.id);
    Ok(found)
}

impl Inner {
    /// The volumes of a vmgroup under one configuration, read now.
    ///
    /// # Errors
    /// When a datastore cannot be read: there may be more.
    pub(crate) async fn volumes_in_group(
        &self,
        config: Uuid,
        group: GroupId,
    ) -> Result<Vec<Indexed>, Error> {
        let mut found = Vec::new();
        for ds in self.datastores().await? {
            let governed = match self.governed_in_time(&ds).await {
                Ok(governed) => governed,
                Err(why) => match self.last_rules(&ds.name) {
                    Some(last) if last.config != config => continue,
                    _ => return Err(why),
                },
            };
            if matches!(&governed, Governed::By(rules) if rules.config == config) {
                let there = self.indexed(&ds.name, group, Duration::ZERO);
                found.extend(self.answering(&ds.name, there).await?);
            }
        }
        found.retain(|v| v.record.exists());
        Ok(found)
    }

    /// What would refuse a volume later is found before anything is changed.
    pub(crate) async fn check_they_may_come(
        &self,
        access: &AccessConfig,
        to: GroupId,
        volumes: &[Indexed],
    ) -> Result<(), Error> {
        let group = target(access, to)?;
        let mut more: BTreeMap<&DatastoreName, (u64, Option<u64>)> = BTreeMap::new();
        for volume in volumes {
            let (ds, record) = (&volume.place.ds, &volume.record);
            let limit = may_come(&group, ds, record.capacity)?;
            let (sum, _) = more.entry(ds).or_insert((0, limit));
            *sum = sum.saturating_add(record.capacity.bytes());
            let stored = Stored {
                place: (*volume.place).clone(),
                record: (**record).clone(),
                seq: 0,
            };
            self.check_short_name(&stored, &group).await?;
            match self.named(ds, to, &record.name).await {
                // Its own name, from when it was there; or another's, which is soon free.
                Ok(None) | Err(Error::OnTheMove { .. }) => {}
                Ok(Some(_)) => {
                    return Err(Fault::NameTaken {
                        group: group.name,
                        name: record.name.to_string(),
                        datastore: ds.clone(),
                    }
                    .into());
                }
                Err(why) => return Err(why),
            }
        }
        for (ds, (asked, limit)) in more {
            let Some(limit) = limit else { continue };
            let used = self.ledger(ds, to).await?.used();
            if used.saturating_add(asked) > limit {
                return Err(Error::QuotaExceeded { used, limit, asked });
            }
        }
        Ok(())
    }
}
