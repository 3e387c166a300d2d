//! What the configuration says of access: vmgroups, their members and privileges, and what is on its way between them.

use std::fmt;

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
    /// It is being removed with its volumes: closed to its VMs. Whoever finds it so may finish that.
    #[serde(default, skip_serializing_if = "is_false")]
    pub removing: bool,
}

const fn is_false(flag: &bool) -> bool {
    !*flag
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
    /// Exactly these; otherwise also what the VMs make or attach until they are told to wait.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exact: bool,
    /// It could not be ended, and is being taken back. That is never turned round again.
    #[serde(default, skip_serializing_if = "is_false")]
    pub back: bool,
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

impl DatastoreScope {
    /// The caller's home datastore, whichever that is.
    pub const VM_HOME: &'static str = "_VM_DS";
    /// Every datastore without a privilege of its own.
    pub const ALL: &'static str = "_ALL_DS";
}

impl fmt::Display for DatastoreScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str(Self::ALL),
            Self::VmHome => f.write_str(Self::VM_HOME),
            Self::Named(name) => f.write_str(name.as_str()),
        }
    }
}

impl Privilege {
    /// Everything, without limits: what a vmgroup gets on its default datastore.
    #[must_use]
    pub const fn full(datastore: DatastoreScope) -> Self {
        Self {
            datastore,
            allow_create: true,
            max_volume: None,
            total_bytes: None,
        }
    }
}

impl Group {
    /// The privilege that stands for exactly this scope.
    #[must_use]
    pub fn privilege(&self, scope: &DatastoreScope) -> Option<&Privilege> {
        self.privileges.iter().find(|p| p.datastore == *scope)
    }

    /// The VMs that belong to it by name: none for `_DEFAULT`.
    #[must_use]
    pub fn vms(&self) -> &[Member] {
        match &self.members {
            Members::Others => &[],
            Members::Vms(vms) => vms,
        }
    }

    /// Whether it is the vmgroup of every VM that no other one names.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.id == GroupId::DEFAULT
    }
}

impl Members {
    /// Whether the VM with this instance UUID is named here.
    #[must_use]
    pub fn names(&self, uuid: Uuid) -> bool {
        matches!(self, Self::Vms(vms) if vms.iter().any(|m| m.uuid == uuid))
    }
}

impl AccessConfig {
    /// The vmgroup of that name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|g| g.name.as_str() == name)
    }

    /// The vmgroup that names this VM.
    #[must_use]
    pub fn group_naming(&self, vm: Uuid) -> Option<&Group> {
        self.groups.iter().find(|g| g.members.names(vm))
    }

    /// The vmgroup of this VM: the one that names it, else `_DEFAULT`, while there is one.
    #[must_use]
    pub fn group_of_vm(&self, vm: Uuid) -> Option<&Group> {
        let others = |g: &&Group| matches!(g.members, Members::Others);
        self.group_naming(vm)
            .or_else(|| self.groups.iter().find(others))
    }

    /// The transfer that this name, in this vmgroup, is part of: at either end.
    #[must_use]
    pub fn transfer_of(&self, group: GroupId, name: &VolumeName) -> Option<&Transfer> {
        self.transfers.iter().find(|t| {
            (t.from == group || t.to == group) && t.volumes.iter().any(|v| v.name == *name)
        })
    }

    /// The transfer that brings this VM to another vmgroup. While it stands the VM makes no volume: it would stay behind.
    #[must_use]
    pub fn transfer_of_vm(&self, vm: Uuid) -> Option<&Transfer> {
        let brings = |t: &&Transfer| t.vms.iter().any(|m| m.uuid == vm);
        self.transfers.iter().find(brings)
    }

    /// Whether VMs that nobody named may create and delete somewhere.
    #[must_use]
    pub fn is_open_to_all(&self) -> bool {
        self.groups.iter().any(|g| {
            matches!(g.members, Members::Others)
                && !g.removing
                && g.privileges.iter().any(|p| p.allow_create)
        })
    }

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
                privileges: vec![
                    Privilege::full(DatastoreScope::All),
                    Privilege::full(DatastoreScope::VmHome),
                ],
                removing: false,
            }],
            policies: Vec::new(),
            transfers: Vec::new(),
        }
    }
}
