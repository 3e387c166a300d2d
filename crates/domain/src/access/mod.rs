//! May this VM do this, on this datastore? One pure function, one gate in front of every verb.
//!
//! The model is the original's, because administrators know it: a VM belongs to one vmgroup (every VM nobody named
//! belongs to `_DEFAULT`, while that group exists); a group has privileges per datastore, with `_VM_DS` (the VM's home
//! datastore) and `_ALL_DS` (every datastore without a privilege of its own) as placeholders. No group, no privilege,
//! no answer: denied, and the denial names the rule.

mod fault;

pub use fault::{Fault, MemberChange, NAME_PATTERN};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::capacity::Capacity;
use crate::ids::{GroupId, HostId, Timestamp, VolumeId};
use crate::names::{DatastoreName, GroupName, PolicyName, VolumeName};

/// Which datastores a privilege speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatastoreScope {
    /// `_ALL_DS`
    All,
    /// `_VM_DS`
    VmHome,
    /// One datastore.
    Named(DatastoreName),
}

/// What a group may do on some datastores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privilege {
    /// Where.
    pub datastore: DatastoreScope,
    /// Create and delete volumes, not only use them.
    pub allow_create: bool,
    /// Largest single volume; none: unlimited.
    pub max_volume: Option<Capacity>,
    /// Sum of all volumes in bytes; none: unlimited.
    pub total_bytes: Option<u64>,
}

/// A VM that belongs to a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its instance UUID: what counts.
    pub uuid: Uuid,
    /// Its name when it was added, for people, and for the time when no host knows it.
    pub name: String,
}

/// Which VMs belong to a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Members {
    /// Every VM that no other group names: `_DEFAULT`.
    Others,
    /// These.
    Vms(Vec<Member>),
}

/// A vmgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Identity; also the name of the group's folder.
    pub id: GroupId,
    /// Name.
    pub name: GroupName,
    /// For people.
    pub description: String,
    /// Where new volumes go when the request names no datastore.
    pub default_datastore: DatastoreScope,
    /// Size of new volumes when the request names none; none: the product's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_size: Option<Capacity>,
    /// Who belongs to it.
    pub members: Members,
    /// What it may do.
    pub privileges: Vec<Privilege>,
}

/// The part of the configuration that decides about access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessConfig {
    /// The vmgroups.
    pub groups: Vec<Group>,
    /// The vSAN policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<StoragePolicy>,
    /// VMs and volumes on their way from one group to another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<Transfer>,
}

/// A vSAN policy, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoragePolicy {
    /// Its name.
    pub name: PolicyName,
    /// The expression, as it was checked and written again.
    pub content: String,
    /// Rises with each update, so that a volume which has an older content is known.
    pub version: u32,
}

/// VMs and volumes on their way from one group to another. While it stands, requests for these names in either group
/// are answered *try again*, never *not found*: nobody makes an empty twin meanwhile. Any agent may finish it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// Identity.
    pub id: Uuid,
    /// Members to be, with the group they leave.
    pub vms: Vec<Member>,
    /// The group the volumes leave.
    pub from: GroupId,
    /// The group they come to.
    pub to: GroupId,
    /// The volumes.
    pub volumes: Vec<TransferredVolume>,
    /// The host that began.
    pub host: HostId,
    /// When, by its clock.
    pub began: Timestamp,
}

/// A volume of a [`Transfer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferredVolume {
    /// The volume.
    pub id: VolumeId,
    /// Its name.
    pub name: VolumeName,
    /// Where it lies.
    pub datastore: DatastoreName,
}

impl Members {
    /// Whether the VM with this instance UUID is named here.
    #[must_use]
    pub fn names(&self, uuid: Uuid) -> bool {
        matches!(self, Self::Vms(vms) if vms.iter().any(|m| m.uuid == uuid))
    }
}

impl AccessConfig {
    /// The configuration of a fresh datastore: one group `_DEFAULT` in which everybody may do everything. Made only
    /// together with a new marker.
    #[must_use]
    pub fn open_to_all() -> Self {
        Self {
            groups: vec![Group {
                id: GroupId::DEFAULT,
                name: GroupName::default_group(),
                description: "This is a default vmgroup".to_owned(),
                default_datastore: DatastoreScope::VmHome,
                default_size: None,
                members: Members::Others,
                privileges: vec![Privilege {
                    datastore: DatastoreScope::All,
                    allow_create: true,
                    max_volume: None,
                    total_bytes: None,
                }],
            }],
            policies: Vec::new(),
            transfers: Vec::new(),
        }
    }
}

/// The VM that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Its instance UUID, as the transport told it.
    pub instance_uuid: Uuid,
    /// Its name, for messages.
    pub name: &'a str,
    /// The datastore its configuration file lies on.
    pub home: Option<&'a DatastoreName>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Make a volume of this size.
    Create(Capacity),
    /// Remove a volume.
    Delete,
    /// See, attach, format, detach a volume.
    Use,
}

/// Why a request is denied. The texts are the original's, with the advice behind them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The VM is in no group and there is no `_DEFAULT`.
    #[error(
        "VM {vm} does not belong to any vmgroup; an administrator adds it with: vdvs vmgroup vm add"
    )]
    NoGroup {
        /// The VM's name.
        vm: String,
    },
    /// The group has no privilege on the datastore.
    #[error(
        "No access privilege exists for vmgroup {group} on datastore {datastore}; an administrator grants it with: vdvs vmgroup access add"
    )]
    NoPrivilege {
        /// The group.
        group: GroupName,
        /// The datastore.
        datastore: DatastoreName,
    },
    /// The privilege does not allow create.
    #[error(
        "No create privilege for vmgroup {group} on datastore {datastore}; an administrator grants it with: vdvs vmgroup access set --allow-create=True"
    )]
    NoCreate {
        /// The group.
        group: GroupName,
        /// The datastore.
        datastore: DatastoreName,
    },
    /// The privilege does not allow delete.
    #[error(
        "No delete privilege for vmgroup {group} on datastore {datastore}; an administrator grants it with: vdvs vmgroup access set --allow-create=True"
    )]
    NoDelete {
        /// The group.
        group: GroupName,
        /// The datastore.
        datastore: DatastoreName,
    },
    /// The volume is larger than the group may make.
    #[error(
        "Volume size exceeds the max volume size limit: asked {asked}, vmgroup {group} may make volumes of at most {limit} on {datastore}"
    )]
    TooLarge {
        /// The group.
        group: GroupName,
        /// The datastore.
        datastore: DatastoreName,
        /// Asked.
        asked: Capacity,
        /// Allowed.
        limit: Capacity,
    },
    /// The group's default datastore means the VM's home, which is not known.
    #[error(
        "Default datastore is not set for vmgroup {group}: the home datastore of VM {vm} is not known; name a datastore, as in volume@datastore"
    )]
    NoDefaultDatastore {
        /// The group.
        group: GroupName,
        /// The VM.
        vm: String,
    },
}

/// The group `caller` belongs to.
///
/// # Errors
/// [`Denied::NoGroup`].
pub fn group_of<'a>(config: &'a AccessConfig, caller: &Caller<'_>) -> Result<&'a Group, Denied> {
    let named = |g: &&Group| g.members.names(caller.instance_uuid);
    let others = |g: &&Group| matches!(g.members, Members::Others);
    config
        .groups
        .iter()
        .find(named)
        .or_else(|| config.groups.iter().find(others))
        .ok_or_else(|| Denied::NoGroup {
            vm: caller.name.to_owned(),
        })
}

/// Where a new volume of this caller goes when it names no datastore.
///
/// # Errors
/// [`Denied::NoDefaultDatastore`].
pub fn default_datastore(group: &Group, caller: &Caller<'_>) -> Result<DatastoreName, Denied> {
    match (&group.default_datastore, caller.home) {
        (DatastoreScope::Named(name), _) => Ok(name.clone()),
        (_, Some(home)) => Ok(home.clone()),
        (_, None) => Err(Denied::NoDefaultDatastore {
            group: group.name.clone(),
            vm: caller.name.to_owned(),
        }),
    }
}

/// The privilege that speaks of `datastore`: one that names it, else `_VM_DS` on the caller's home, else `_ALL_DS`.
#[must_use]
pub fn privilege_on<'a>(
    group: &'a Group,
    caller: &Caller<'_>,
    datastore: &DatastoreName,
) -> Option<&'a Privilege> {
    let find = |wanted: fn(&DatastoreScope, &DatastoreName) -> bool| {
        group
            .privileges
            .iter()
            .find(|p| wanted(&p.datastore, datastore))
    };
    find(|scope, ds| matches!(scope, DatastoreScope::Named(name) if name == ds))
        .or_else(|| {
            (caller.home == Some(datastore))
                .then(|| find(|scope, _| *scope == DatastoreScope::VmHome))
                .flatten()
        })
        .or_else(|| find(|scope, _| *scope == DatastoreScope::All))
}

/// The decision. Quota over all volumes is not decided here: it needs the ledger.
///
/// # Errors
/// [`Denied`] naming the rule.
pub fn decide<'a>(
    config: &'a AccessConfig,
    caller: &Caller<'_>,
    verb: Verb,
    datastore: &DatastoreName,
) -> Result<(&'a Group, &'a Privilege), Denied> {
    let group = group_of(config, caller)?;
    let at = || (group.name.clone(), datastore.clone());
    let Some(privilege) = privilege_on(group, caller, datastore) else {
        let (group, datastore) = at();
        return Err(Denied::NoPrivilege { group, datastore });
    };
    match verb {
        Verb::Use => {}
        Verb::Delete if !privilege.allow_create => {
            let (group, datastore) = at();
            return Err(Denied::NoDelete { group, datastore });
        }
        Verb::Create(_) if !privilege.allow_create => {
            let (group, datastore) = at();
            return Err(Denied::NoCreate { group, datastore });
        }
        Verb::Create(asked) => {
            if let Some(limit) = privilege.max_volume.filter(|limit| asked > *limit) {
                let (group, datastore) = at();
                return Err(Denied::TooLarge {
                    group,
                    datastore,
                    asked,
                    limit,
                });
            }
        }
        Verb::Delete => {}
    }
    Ok((group, privilege))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ds(name: &str) -> DatastoreName {
        DatastoreName::new(name).unwrap()
    }

    fn caller(home: &DatastoreName) -> Caller<'_> {
        Caller {
            instance_uuid: Uuid::from_u128(1),
            name: "vm1",
            home: Some(home),
        }
    }

    fn group(privileges: Vec<Privilege>) -> AccessConfig {
        let mut config = AccessConfig::open_to_all();
        config.groups[0].privileges = privileges;
        config
    }

    fn privilege(datastore: DatastoreScope, allow_create: bool) -> Privilege {
        Privilege {
            datastore,
            allow_create,
            max_volume: None,
            total_bytes: None,
        }
    }

    #[test]
    fn a_fresh_datastore_lets_everybody_do_everything() {
        let (config, home) = (AccessConfig::open_to_all(), ds("home"));
        for verb in [Verb::Create(Capacity::DEFAULT), Verb::Delete, Verb::Use] {
            assert!(decide(&config, &caller(&home), verb, &ds("any")).is_ok());
        }
        let group = group_of(&config, &caller(&home)).unwrap();
        assert_eq!(default_datastore(group, &caller(&home)).unwrap(), home);
    }

    #[test]
    fn removing_the_default_group_locks_down() {
        let home = ds("home");
        let err = group_of(
            &AccessConfig {
                groups: vec![],
                ..AccessConfig::open_to_all()
            },
            &caller(&home),
        )
        .unwrap_err();
        assert!(
            err.to_string()
                .starts_with("VM vm1 does not belong to any vmgroup")
        );
    }

    #[test]
    fn a_privilege_that_names_the_datastore_wins_over_the_placeholders() {
        let home = ds("home");
        let config = group(vec![
            privilege(DatastoreScope::All, true),
            privilege(DatastoreScope::VmHome, true),
            privilege(DatastoreScope::Named(home.clone()), false),
        ]);
        let create = Verb::Create(Capacity::DEFAULT);
        let err = decide(&config, &caller(&home), create, &home).unwrap_err();
        assert!(err.to_string().starts_with("No create privilege"));
        assert!(decide(&config, &caller(&home), create, &ds("other")).is_ok());
        let err = decide(&config, &caller(&home), Verb::Delete, &home).unwrap_err();
        assert!(err.to_string().starts_with("No delete privilege"));
        assert!(decide(&config, &caller(&home), Verb::Use, &home).is_ok());
    }

    #[test]
    fn vm_home_speaks_only_of_the_callers_home() {
        let home = ds("home");
        let config = group(vec![privilege(DatastoreScope::VmHome, true)]);
        assert!(decide(&config, &caller(&home), Verb::Use, &home).is_ok());
        let err = decide(&config, &caller(&home), Verb::Use, &ds("other")).unwrap_err();
        assert!(err.to_string().starts_with("No access privilege exists"));
    }

    #[test]
    fn the_largest_volume_is_exact_at_the_boundary() {
        let home = ds("home");
        let mut limited = privilege(DatastoreScope::All, true);
        limited.max_volume = Some(Capacity::parse("10mb").unwrap());
        let config = group(vec![limited]);
        let ask = |size: &str| {
            decide(
                &config,
                &caller(&home),
                Verb::Create(Capacity::parse(size).unwrap()),
                &home,
            )
            .map(|_| ())
        };
        assert!(ask("10mb").is_ok());
        assert!(
            ask("11mb")
                .unwrap_err()
                .to_string()
                .starts_with("Volume size exceeds the max")
        );
    }
}
