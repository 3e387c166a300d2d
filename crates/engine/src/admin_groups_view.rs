//! vmgroups as an administrator sees them: members with the hosts that run them, and usage against limits.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;
use vdvs_domain::access::{DatastoreScope, Fault, Group, Member};
use vdvs_domain::{DatastoreName, Error};

use crate::admin_groups::Under;
use crate::api::KnownVm;
use crate::governance::Rules;
use crate::inner::Inner;

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminMember {
    /// Its instance UUID.
    pub uuid: Uuid,
    /// Its name as some host knows it, else as it was when it was added.
    pub name: String,
    /// The host that runs it; none: no host that is known.
    pub host: Option<String>,
}

/// What a vmgroup's volumes take on one datastore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminUsage {
    /// The datastore.
    pub datastore: DatastoreName,
    /// How many volumes.
    pub volumes: u32,
    /// Bytes by the ledger.
    pub used_bytes: u64,
    /// The total that applies there; none: unlimited.
    pub total_bytes: Option<u64>,
    /// Why it could not be read.
    pub problem: Option<String>,
}

/// A vmgroup as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminGroup {
    /// What the configuration says.
    pub group: Group,
    /// Home of that configuration.
    pub home: DatastoreName,
    /// Its members: none of `_DEFAULT`.
    pub members: Vec<AdminMember>,
    /// What it takes.
    pub usage: Vec<AdminUsage>,
}

/// vmgroups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupListing {
    /// By name.
    pub groups: Vec<AdminGroup>,
    /// There is no configuration yet: this is what the first use of a datastore would make.
    pub not_configured: bool,
}

/// The total for a datastore without knowing which VM asks: where two rows may apply, that for all of them.
fn total_on(group: &Group, ds: &DatastoreName) -> Option<u64> {
    let row = group
        .privilege(&DatastoreScope::Named(ds.clone()))
        .or_else(|| group.privilege(&DatastoreScope::All))
        .or_else(|| group.privilege(&DatastoreScope::VmHome));
    row.and_then(|p| p.total_bytes)
}

impl Inner {
    /// The vmgroups of all configurations this host follows, or the one of that name.
    ///
    /// # Errors
    /// [`Fault::NoSuchGroup`].
    pub(crate) async fn groups(&self, name: Option<&str>) -> Result<GroupListing, Error> {
        let homes = self.homes().await?;
        let mut listing = GroupListing {
            groups: Vec::new(),
            not_configured: homes.is_empty(),
        };
        let known: HashMap<Uuid, KnownVm> = self
            .vms_known()
            .await?
            .into_iter()
            .map(|vm| (vm.id.instance_uuid, vm))
            .collect();
        let homes = match homes.is_empty() {
            true => self.what_would_be().await?,
            false => homes,
        };
        for (home, rules) in homes {
            let wanted = |g: &&Group| name.is_none_or(|n| g.name.as_str() == n);
            let groups: Vec<&Group> = rules.access.groups.iter().filter(wanted).collect();
            if groups.is_empty() {
                continue;
            }
            let under = self.volumes_under(rules.config).await?;
            for group in groups {
                listing.groups.push(AdminGroup {
                    members: members(group, &known),
                    usage: self.usage(group, &under).await,
                    group: group.clone(),
                    home: home.clone(),
                });
            }
        }
        if let Some(name) = name
            && listing.groups.is_empty()
        {
            let name = name.chars().take(100).collect();
            return Err(Fault::NoSuchGroup { name }.into());
        }
        listing
            .groups
            .sort_by(|a, b| a.group.name.cmp(&b.group.name));
        Ok(listing)
    }

    /// Where nothing is governed yet: the rules that the first use would make.
    async fn what_would_be(&self) -> Result<Vec<(DatastoreName, Arc<Rules>)>, Error> {
        for ds in self.datastores().await? {
            if let Ok(governed) = self.governed_in_time(&ds).await
                && let Some(rules) = governed.rules()
            {
                return Ok(vec![(ds.name, Arc::clone(rules))]);
            }
        }
        Ok(Vec::new())
    }

    async fn usage(&self, group: &Group, under: &Under) -> Vec<AdminUsage> {
        let mut counted: BTreeMap<DatastoreName, (u32, u64)> = BTreeMap::new();
        for privilege in &group.privileges {
            if let DatastoreScope::Named(ds) = &privilege.datastore {
                counted.entry(ds.clone()).or_default();
            }
        }
        for volume in under.volumes.iter().filter(|v| v.record.group == group.id) {
            let (volumes, bytes) = counted.entry(volume.place.ds.clone()).or_default();
            *volumes = volumes.saturating_add(1);
            *bytes = bytes.saturating_add(volume.record.capacity.bytes());
        }
        let mut usage = Vec::with_capacity(counted.len());
        for (ds, (volumes, bytes)) in counted {
            let ledger = self.answering(&ds, self.ledger(&ds, group.id)).await;
            let (used_bytes, problem) = match ledger {
                // What lies there from before the ledger is not in it yet, and counts.
                Ok(ledger) if !ledger.complete => (bytes.max(ledger.used()), None),
                Ok(ledger) => (ledger.used(), None),
                Err(why) => (bytes, Some(why.to_string())),
            };
            usage.push(AdminUsage {
                total_bytes: total_on(group, &ds),
                datastore: ds,
                volumes,
                used_bytes,
                problem,
            });
        }
        usage
    }
}

fn members(group: &Group, known: &HashMap<Uuid, KnownVm>) -> Vec<AdminMember> {
    let member = |vm: &Member| {
        let now = known.get(&vm.uuid);
        AdminMember {
            uuid: vm.uuid,
            name: now.map_or(&vm.name, |k| &k.name).clone(),
            host: now.map(|k| k.host.clone()),
        }
    };
    group.vms().iter().map(member).collect()
}
