//! VMs, datastores and the agent's state, for an administrator.

use std::collections::HashSet;

use vdvs_domain::access::{Group, Members};
use vdvs_domain::{Error, GroupName, Ownership, VmRef};

use crate::api::{AdminDatastore, AdminStatus, AdminVm, KnownVm, VolumeView};
use crate::governance::Governed;
use crate::index::Indexed;
use crate::inner::Inner;
use crate::ports::DatastoreInfo;

/// A datastore with less free than this part of it is low on space,
const LOW_PART: u64 = 10;
/// unless it has so much, which takes a while to fill however large the datastore is.
const PLENTY: u64 = 100 * 1024 * 1024 * 1024;

/// The group that lets every VM create and delete somewhere, if one does.
fn open_group(groups: &[Group]) -> Option<&Group> {
    let open = |g: &&Group| {
        !g.removing && g.members == Members::Others && g.privileges.iter().any(|p| p.allow_create)
    };
    groups.iter().find(open)
}

/// What closes a configuration that a group leaves open.
fn lock_hint(open: &GroupName, groups: &[Group]) -> String {
    let remove = format!("vdvs vmgroup rm --name={open}");
    match groups.len() {
        0 | 1 => format!(
            "vdvs vmgroup create --name=GROUP --default-datastore=DATASTORE --vm-list=VM,... for the VMs that shall go \
             on, then {remove}"
        ),
        _ => remove,
    }
}

pub(crate) fn is_low(info: &DatastoreInfo) -> bool {
    info.capacity_bytes > 0
        && info.free_bytes < PLENTY
        && info.free_bytes < info.capacity_bytes / LOW_PART
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Inner {
    /// The VMs of all hosts with what they hold.
    pub(crate) async fn admin_vms(&self) -> Result<Vec<AdminVm>, Error> {
        let known = self.vms_known().await?;
        let mut held = self.held_by_all().await?;
        let mut listed = Vec::with_capacity(known.len());
        for vm in known {
            listed.push(AdminVm {
                volumes: held.remove(&vm.id).unwrap_or_default(),
                group: self.group_of_vm(&vm).await,
                power: vm.power,
                host: vm.host,
                told_at: vm.told_at,
                guest: vm.guest,
                vm: VmRef {
                    id: vm.id,
                    name: vm.name,
                },
            });
        }
        listed.sort_by(|a, b| (&a.vm.name, &a.host).cmp(&(&b.vm.name, &b.host)));
        Ok(listed)
    }

    /// The vmgroup of a VM, by the rules of the datastore it lies on; else by those of any, for its datastore may not be
    /// governed or not be seen here.
    async fn group_of_vm(&self, vm: &KnownVm) -> Option<GroupName> {
        let governed = match &vm.home {
            Some(home) => self.answering(home, self.governed(home)).await.ok(),
            None => None,
        };
        let rules = match governed.as_ref().and_then(Governed::rules) {
            Some(rules) => rules.clone(),
            None => self.homes().await.ok()?.into_iter().next()?.1,
        };
        let group = rules.access.group_of_vm(vm.id.instance_uuid);
        group.map(|g| g.name.clone())
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

    /// In the original's words, how this host is configured.
    pub(crate) async fn config_mode(&self) -> String {
        let mode = match self.homes().await {
            Err(_) => "BrokenLink",
            Ok(homes) if homes.is_empty() => "NotConfigured",
            Ok(homes) if homes.iter().any(|(_, rules)| rules.kept) => "BrokenLink",
            Ok(homes) => {
                let others = self.others().await;
                let theirs = others.files.iter().flat_map(|f| &f.configs);
                let theirs: HashSet<_> = theirs.map(|c| c.id).collect();
                match homes
                    .iter()
                    .any(|(_, rules)| theirs.contains(&rules.config))
                {
                    true => "MultiNode",
                    false => "SingleNode",
                }
            }
        };
        mode.to_owned()
    }

    /// Datastores that are nearly full.
    fn low_on_space(datastores: &[AdminDatastore]) -> Vec<String> {
        let low = datastores
            .iter()
            .filter(|d| d.info.accessible && is_low(&d.info));
        let text = |d: &AdminDatastore| {
            format!(
                "datastore {}: only {} MiB of {} MiB are free: remove or move volumes, or enlarge it",
                d.info.name,
                d.info.free_bytes >> 20,
                d.info.capacity_bytes >> 20
            )
        };
        low.map(text).collect()
    }

    pub(crate) async fn admin_status(&self) -> Result<AdminStatus, Error> {
        let (volumes, _) = self.all_volumes().await?;
        let datastores = self.admin_datastores().await?;
        let (mut open_to_all, mut lock) = (false, String::new());
        for ds in datastores.iter().filter(|d| d.info.accessible) {
            if let Ok(Governed::By(rules) | Governed::Fresh(rules)) =
                self.governed(&ds.info.name).await
                && let Some(open) = open_group(&rules.access.groups)
            {
                open_to_all = true;
                lock = lock_hint(&open.name, &rules.access.groups);
            }
        }
        let vms = self.ports.host.vms().await;
        let mut warnings = self.said.standing();
        if let Err(why) = &vms {
            warnings.push(format!("list of VMs: {why}"));
        }
        warnings.extend(Self::low_on_space(&datastores));
        warnings.extend(self.warnings_of_hosts().await);
        let held = |v: &&Indexed| !matches!(v.record.ownership, Ownership::Free);
        let unresolved = |v: &&Indexed| v.record.operation.is_some();
        Ok(AdminStatus {
            host: self.ports.host.identity(),
            vms: count(vms.map_or(0, |v| v.len())),
            volumes: count(volumes.iter().filter(|v| v.record.exists()).count()),
            attached: count(volumes.iter().filter(held).count()),
            unresolved_operations: count(volumes.iter().filter(unresolved).count()),
            open_to_all,
            lock_hint: lock,
            config_mode: self.config_mode().await,
            hosts: count(self.others().await.files.len().saturating_add(1)),
            warnings,
            datastores,
        })
    }
}

#[cfg(test)]
mod tests {
    use vdvs_domain::DatastoreName;
    use vdvs_domain::access::AccessConfig;

    use super::*;
    use crate::ports::DatastoreKind;

    #[test]
    fn a_datastore_is_low_on_space_by_part_and_by_amount() {
        const GIB: u64 = 1 << 30;
        let low = |capacity: u64, free: u64| {
            is_low(&DatastoreInfo {
                name: DatastoreName::new("ds").unwrap(),
                kind: DatastoreKind::Vmfs,
                accessible: true,
                capacity_bytes: capacity,
                free_bytes: free,
            })
        };
        assert!(low(10 * GIB, GIB - 1) && !low(10 * GIB, GIB));
        assert!(low(20_000 * GIB, 100 * GIB - 1));
        assert!(
            !low(20_000 * GIB, 100 * GIB),
            "a twentieth of a percent, and plenty"
        );
        assert!(low(GIB, 0) && !low(0, 0), "a size of 0 is no answer");
    }

    #[test]
    fn what_is_open_to_all_is_closed_by_removing_that_group_once_another_exists() {
        let mut groups = AccessConfig::open_to_all().groups;
        let open = open_group(&groups).unwrap().name.clone();
        assert!(lock_hint(&open, &groups).starts_with("vdvs vmgroup create --name=GROUP"));
        groups.push(Group {
            members: Members::Vms(Vec::new()),
            ..groups[0].clone()
        });
        assert_eq!(lock_hint(&open, &groups), "vdvs vmgroup rm --name=_DEFAULT");
        groups[0]
            .privileges
            .iter_mut()
            .for_each(|p| p.allow_create = false);
        assert_eq!(open_group(&groups), None);
    }
}
