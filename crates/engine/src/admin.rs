//! What an administrator on this host sees and does; not limited by vmgroups.

use std::collections::HashMap;
use std::sync::Arc;

use vdvs_domain::access::{AccessConfig, Members};
use vdvs_domain::record::Fingerprint;
use vdvs_domain::{Error, Ownership, VmRef, VolumeId, VolumeRecord};

use crate::api::{
    Actor, AdminDatastore, AdminInspect, AdminListing, AdminStatus, AdminVm, AdminVolume, Call,
    LocalUser, VolumeView,
};
use crate::governance::Governed;
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

    async fn admin_volume(&self, stored: &Stored) -> AdminVolume {
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
            if !orphans.contains_key(&(ds, group)) {
                orphans.insert((ds, group), self.is_orphan(ds, group).await);
            }
        }
        let shown = |v: &Indexed, view| {
            let orphan = orphans.get(&(&v.place.ds, v.record.group));
            let orphan = orphan.is_some_and(|orphan| *orphan);
            self.admin_view(&v.place, &v.record, orphan, view)
        };
        Ok(AdminListing {
            volumes: self.made_of(&volumes, true, shown).await,
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

    pub(crate) async fn admin_vms(&self) -> Result<Vec<AdminVm>, Error> {
        let vms = self
            .ports
            .host
            .vms()
            .await
            .map_err(|why| Error::HostFailed {
                verb: "list its VMs",
                why: why.to_string(),
            })?;
        let mut held = self.held_by_all().await?;
        let mut listed = Vec::with_capacity(vms.len());
        for vm in vms {
            let group = match &vm.home {
                Some(home) => self.governed(home).await.ok(),
                None => None,
            };
            let group = group.as_ref().and_then(Governed::rules).and_then(|rules| {
                let groups = &rules.access.groups;
                let named = groups.iter().find(|g| g.members.names(vm.id.instance_uuid));
                let others = || groups.iter().find(|g| g.members == Members::Others);
                named.or_else(others).map(|g| g.name.clone())
            });
            listed.push(AdminVm {
                volumes: held.remove(&vm.id).unwrap_or_default(),
                group,
                power: vm.power,
                host: self.ports.host.identity().name,
                told_at: None,
                vm: VmRef {
                    id: vm.id,
                    name: vm.name,
                },
            });
        }
        listed.sort_by(|a, b| a.vm.name.cmp(&b.vm.name));
        Ok(listed)
    }

    pub(crate) async fn admin_datastores(&self) -> Result<Vec<AdminDatastore>, Error> {
        let mut listed = Vec::new();
        for info in self.datastores().await? {
            listed.push(self.admin_datastore(info).await);
        }
        Ok(listed)
    }

    async fn admin_datastore(&self, info: DatastoreInfo) -> AdminDatastore {
        let mut entry = AdminDatastore {
            provisioned_bytes: 0,
            used_bytes: 0,
            volumes: 0,
            problem: None,
            info,
        };
        if !entry.info.accessible {
            entry.problem = Some("not accessible".to_owned());
            return entry;
        }
        let ds = entry.info.name.clone();
        match self.answering(&ds, self.governed(&ds)).await {
            Ok(Governed::Not(why)) => entry.problem = Some(format!("access is closed: {why}")),
            Ok(Governed::By(rules)) if rules.kept => {
                entry.problem =
                    Some("its configuration cannot be read; a kept copy is used".to_owned());
            }
            Ok(_) => {}
            Err(why) => {
                entry.problem = Some(why.to_string());
                return entry;
            }
        }
        match self.answering(&ds, self.indexed_on(&ds)).await {
            Ok(mut volumes) => {
                volumes.retain(|v| v.record.exists());
                let sizes = |_: &Indexed, view: VolumeView| (view.capacity, view.allocated_bytes);
                for (capacity, allocated) in self.made_of(&volumes, true, sizes).await {
                    entry.volumes += 1;
                    entry.provisioned_bytes += capacity.bytes();
                    entry.used_bytes += allocated;
                }
            }
            Err(why) => entry.problem = Some(why.to_string()),
        }
        entry
    }

    pub(crate) async fn admin_status(&self) -> Result<AdminStatus, Error> {
        let (volumes, _) = self.all_volumes().await?;
        let datastores = self.admin_datastores().await?;
        let mut open_to_all = false;
        for ds in datastores.iter().filter(|d| d.info.accessible) {
            if let Ok(Governed::By(rules) | Governed::Fresh(rules)) =
                self.governed(&ds.info.name).await
            {
                open_to_all |= rules.access == AccessConfig::open_to_all();
            }
        }
        let vms = self.ports.host.vms().await;
        let mut warnings = self.said.standing();
        if let Err(why) = &vms {
            warnings.push(format!("list of VMs: {why}"));
        }
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let held = |v: &&Indexed| !matches!(v.record.ownership, Ownership::Free);
        Ok(AdminStatus {
            host: self.ports.host.identity(),
            vms: count(vms.map_or(0, |v| v.len())),
            volumes: count(volumes.iter().filter(|v| v.record.exists()).count()),
            attached: count(volumes.iter().filter(held).count()),
            unresolved_operations: count(
                volumes
                    .iter()
                    .filter(|v| v.record.operation.is_some())
                    .count(),
            ),
            open_to_all,
            warnings,
            datastores,
        })
    }
}
