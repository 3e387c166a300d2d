//! Why a change of vmgroups, members and privileges is refused: the original's codes and texts.
//!
//! Scripts match these texts, so the original's words stand first, to the byte; what to do next follows behind them.
//! Codes never travel to a guest; a program decides on the [`ErrorKind`], a script of the original on the text.

use uuid::Uuid;

use crate::error::ErrorKind;
use crate::names::{DatastoreName, GroupName};
use crate::options::listed;

/// The names a vmgroup may have, as the original printed them.
pub const NAME_PATTERN: &str = "[a-zA-Z0-9_][a-zA-Z0-9_.-]*";

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No such vmgroup.
    #[error("Vmgroup {name} does not exist; vdvs vmgroup ls shows those there are")]
    NoSuchGroup {
        /// As asked.
        name: String,
    },
    /// The name is taken.
    #[error(
        "Vmgroup {name} already exists; choose another name, or change it with: vdvs vmgroup update --name={name}"
    )]
    GroupExists {
        /// The name.
        name: GroupName,
    },
    /// The name is taken by a vmgroup that these VMs are not in: as after a create that was cut short.
    #[error(
        "Vmgroup {name} already exists, and does not have VM {vms}; if it is the one you mean, go on with: vdvs vmgroup vm add --name={name} --vm-list={vms}{volumes}"
    )]
    GroupExistsWithout {
        /// The name.
        name: GroupName,
        /// The VMs, as in a list.
        vms: String,
        /// What was to become of their volumes, as an option.
        volumes: &'static str,
    },
    /// The name breaks a rule.
    #[error("Vmgroup name {name} is invalid, only {allowed} is allowed{why}")]
    NameInvalid {
        /// As asked, cut to a printable length.
        name: String,
        /// What is.
        allowed: &'static str,
        /// More on it, with its punctuation; mostly empty.
        why: &'static str,
    },
    /// VMs belong to the vmgroup.
    #[error(
        "Cannot delete non-empty vmgroup {name}. Remove VMs from the vmgroup before deleting it. Do that with: vdvs vmgroup vm rm --name={name}; or give --force"
    )]
    NotEmpty {
        /// The vmgroup.
        name: GroupName,
    },
    /// No host knows these VMs.
    #[error(
        "Cannot find vm {}; vdvs vm ls shows the VMs that are known", .names.join(",")
    )]
    NoSuchVm {
        /// As asked.
        names: Vec<String>,
    },
    /// Several VMs bear the name.
    #[error("Cannot find vm {name}; several VMs have that name, give the instance UUID of one: {}", listed_uuids(.found))]
    VmsAlike {
        /// As asked.
        name: String,
        /// Who bears it.
        found: Vec<Uuid>,
    },
    /// A vmgroup's members were to be replaced by none.
    #[error(
        "Replace VM cannot be empty; name at least one, or remove them with: vdvs vmgroup vm rm"
    )]
    ReplaceByNone,
    /// It is a member already.
    #[error(
        "VM '{vm}' has already been associated with tenant '{group}', cannot add it again; nothing is to be done"
    )]
    AlreadyMember {
        /// The VM.
        vm: String,
        /// The vmgroup.
        group: GroupName,
    },
    /// It is no member.
    #[error(
        "VM '{vm}' has not been associated with tenant '{group}', cannot remove it; vdvs vmgroup vm ls --name={group} shows its VMs"
    )]
    NotAMember {
        /// The VM.
        vm: String,
        /// The vmgroup.
        group: GroupName,
    },
    /// It is a member elsewhere.
    #[error(
        "VM '{vm}' has already been associated with tenant '{group}', can't add it; remove it there first with: vdvs vmgroup vm rm --name={group}"
    )]
    InAnotherGroup {
        /// The VM.
        vm: String,
        /// The vmgroup it is in.
        group: GroupName,
    },
    /// No VM was named.
    #[error("VM list cannot be empty; name VMs with --vm-list")]
    NoVms,
    /// A VM was named twice.
    #[error("VMs {} contain duplicates, they should be unique; name each VM once", listed(.vms))]
    DuplicateVms {
        /// As asked.
        vms: Vec<String>,
    },
    /// The VM has volumes attached.
    #[error(
        "{}VM '{vm}' has volumes mounted. Stop the containers that use {}, or take the volumes along with --move-volumes", .change.prefix(), .volumes.join(", ")
    )]
    VolumesMounted {
        /// What was tried.
        change: MemberChange,
        /// The VM.
        vm: String,
        /// Full names.
        volumes: Vec<String>,
    },
    /// The VM leaves volumes behind in its old vmgroup, and nobody said what becomes of them.
    #[error(
        "{}VM '{vm}' leaves volumes in vmgroup {group}: {}. Take them along with --move-volumes, or leave them there, out of its reach, with --leave-volumes", .change.prefix(), .volumes.join(", ")
    )]
    VolumesLeftBehind {
        /// What was tried.
        change: MemberChange,
        /// The VM.
        vm: String,
        /// The vmgroup it leaves.
        group: GroupName,
        /// Full names, of many only the first ones.
        volumes: Vec<String>,
    },
    /// No such privilege.
    #[error(
        "No access privilege exists for ({group}, {datastore}); vdvs vmgroup access ls --name={group} shows those there are, and access add adds one"
    )]
    NoSuchPrivilege {
        /// The vmgroup.
        group: GroupName,
        /// The datastore, or a placeholder.
        datastore: String,
    },
    /// There is one already.
    #[error(
        "Access privilege for ({group}, {datastore}) already exists; change it with: vdvs vmgroup access set --name={group}"
    )]
    PrivilegeExists {
        /// The vmgroup.
        group: GroupName,
        /// The datastore, or a placeholder.
        datastore: String,
    },
    /// A single volume may be larger than all together.
    #[error("Volume max size {}MB exceeds the total size {}MB; give sizes that fit together", .max_bytes >> 20, .total_bytes >> 20)]
    MaxAboveTotal {
        /// Of a volume.
        max_bytes: u64,
        /// Of all.
        total_bytes: u64,
    },
    /// Neither true nor false.
    #[error("Invalid value {value} for allow-create option; expected True or False")]
    AllowCreateInvalid {
        /// As asked.
        value: String,
    },
    /// New volumes go there by default.
    #[error(
        "Removing of access privilege to 'default_datastore' is not supported; choose another default first with: vdvs vmgroup update --name={group} --default-datastore"
    )]
    DefaultPrivilege {
        /// The vmgroup.
        group: GroupName,
    },
    /// No such datastore.
    #[error("Datastore {name} does not exist; vdvs datastore ls shows those there are")]
    NoSuchDatastore {
        /// As asked.
        name: String,
    },
    /// Not a name at all.
    #[error("Default datastore name {name} is invalid; name a datastore, or _VM_DS")]
    DefaultDatastoreInvalid {
        /// As asked, cut to a printable length.
        name: String,
    },
    /// Everywhere is no place for a new volume.
    #[error(
        "Cannot use _ALL_DS as default datastore. Please use specific datastore name or _VM_DS special datastore"
    )]
    AllAsDefault,
    /// The empty name.
    #[error("Vmgroup name is empty; give it one with --name")]
    NameEmpty,
    /// Too long.
    #[error("Vmgroup name exceeds 64 characters: {name}; choose a shorter one")]
    NameTooLong {
        /// As asked, cut to a printable length.
        name: String,
    },
    /// Too long.
    #[error("Vmgroup description exceeds 256 characters: {description}; choose a shorter one")]
    DescriptionTooLong {
        /// As asked, cut to a printable length.
        description: String,
    },
    /// Volumes belong to the vmgroup.
    #[error(
        "Internal Error(The vmgroup has volumes in it, these must be removed/migrated before deleting the vmgroup.) Vmgroup {name} has {count}: {}. Move them with: vdvs volume move; or remove them with --remove-volumes", .volumes.join(", ")
    )]
    HasVolumes {
        /// The vmgroup.
        name: GroupName,
        /// How many.
        count: usize,
        /// Full names, of many only the first ones.
        volumes: Vec<String>,
    },
    /// Arguments that do not go together.
    #[error("Invalid Argument({what}); {advice}")]
    InvalidArgument {
        /// Which, and why.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// `_DEFAULT` has no members of its own.
    #[error(
        "This feature is not supported for vmgroup {name}. Every VM that no other vmgroup names belongs to it; add VMs to other vmgroups, or remove them there"
    )]
    NotForDefault {
        /// The vmgroup.
        name: GroupName,
    },
    /// The same, to who wants to see its members.
    #[error("{name} tenant contains all VMs which were not added to other tenants")]
    EverybodyElse {
        /// The vmgroup.
        name: GroupName,
    },
    /// There is no configuration to change.
    #[error(
        "Configuration not found. Please init configuration with 'esxcli storage guestvol config init'. That is: vdvs config init"
    )]
    NotConfigured,
    /// Not a size, or none that a limit can be.
    #[error(
        "Invalid volume size specified. {what} is '{given}'; expected a number with MB, GB or TB such as 500MB, or 'unlimited'"
    )]
    SizeInvalid {
        /// Which.
        what: &'static str,
        /// As asked, cut to a printable length.
        given: String,
    },
    /// Members are on their way between vmgroups.
    #[error(
        "Vmgroup {name} has volumes on their way to or from another vmgroup; wait until vdvs config status shows no transfer, then try again"
    )]
    UnderTransfer {
        /// The vmgroup.
        name: GroupName,
    },
    /// The datastore of a volume is not one where the change is allowed.
    #[error("{what}; {advice}")]
    Refused {
        /// What stands in the way.
        what: String,
        /// What to do.
        advice: String,
    },
    /// A volume of that name is in the other vmgroup.
    #[error(
        "Vmgroup {group} has a volume {name} on {datastore} already; remove or move one of them first"
    )]
    NameTaken {
        /// The vmgroup it was to come to.
        group: GroupName,
        /// The volume.
        name: String,
        /// Where.
        datastore: DatastoreName,
    },
}

/// Which change of members was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberChange {
    /// `vm add`, and `create` with VMs.
    Add,
    /// `vm rm`
    Remove,
    /// `vm replace`
    Replace,
}

impl MemberChange {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Add => "Cannot add VM to vmgroup ",
            Self::Remove => "Cannot complete vmgroup vm rm. ",
            Self::Replace => "Cannot complete vmgroup vm replace. ",
        }
    }
}

fn listed_uuids(uuids: &[Uuid]) -> String {
    let texts: Vec<String> = uuids.iter().map(Uuid::to_string).collect();
    texts.join(", ")
}

impl Fault {
    /// The original's number, for who knows it by that. What the original did not have is 501, its *anything else*.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::NoSuchGroup { .. } => 2,
            Self::GroupExists { .. } | Self::GroupExistsWithout { .. } => 3,
            Self::NameInvalid { .. } => 8,
            Self::NotEmpty { .. } => 9,
            Self::NoSuchVm { .. } | Self::VmsAlike { .. } => 101,
            Self::ReplaceByNone => 102,
            Self::AlreadyMember { .. } => 103,
            Self::NotAMember { .. } => 104,
            Self::InAnotherGroup { .. } => 105,
            Self::NoVms => 106,
            Self::DuplicateVms { .. } => 107,
            Self::VolumesMounted { .. } | Self::VolumesLeftBehind { .. } => 108,
            Self::NoSuchPrivilege { .. } => 201,
            Self::PrivilegeExists { .. } => 202,
            Self::MaxAboveTotal { .. } => 203,
            Self::AllowCreateInvalid { .. } => 204,
            Self::DefaultPrivilege { .. } => 205,
            Self::NoSuchDatastore { .. } => 302,
            Self::DefaultDatastoreInvalid { .. } => 303,
            Self::AllAsDefault => 305,
            Self::NameEmpty => 401,
            Self::NameTooLong { .. } => 402,
            Self::DescriptionTooLong { .. } => 403,
            Self::InvalidArgument { .. } => 502,
            Self::NotForDefault { .. } | Self::EverybodyElse { .. } => 504,
            Self::NotConfigured => 505,
            Self::SizeInvalid { .. } => 507,
            Self::HasVolumes { .. }
            | Self::UnderTransfer { .. }
            | Self::Refused { .. }
            | Self::NameTaken { .. } => 501,
        }
    }

    /// What programs decide on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchGroup { .. } | Self::NoSuchVm { .. } | Self::NoSuchPrivilege { .. } => {
                ErrorKind::NotFound
            }
            Self::GroupExists { .. }
            | Self::GroupExistsWithout { .. }
            | Self::AlreadyMember { .. }
            | Self::PrivilegeExists { .. }
            | Self::NameTaken { .. } => ErrorKind::AlreadyExists,
            Self::VmsAlike { .. } => ErrorKind::Ambiguous,
            Self::VolumesMounted { .. } => ErrorKind::InUse,
            Self::NotEmpty { .. }
            | Self::NotAMember { .. }
            | Self::InAnotherGroup { .. }
            | Self::VolumesLeftBehind { .. }
            | Self::DefaultPrivilege { .. }
            | Self::HasVolumes { .. }
            | Self::NotForDefault { .. }
            | Self::EverybodyElse { .. }
            | Self::Refused { .. } => ErrorKind::Conflict,
            Self::UnderTransfer { .. } => ErrorKind::Unavailable,
            Self::NotConfigured => ErrorKind::NotConfigured,
            Self::NameInvalid { .. }
            | Self::ReplaceByNone
            | Self::NoVms
            | Self::DuplicateVms { .. }
            | Self::MaxAboveTotal { .. }
            | Self::AllowCreateInvalid { .. }
            | Self::NoSuchDatastore { .. }
            | Self::DefaultDatastoreInvalid { .. }
            | Self::AllAsDefault
            | Self::NameEmpty
            | Self::NameTooLong { .. }
            | Self::DescriptionTooLong { .. }
            | Self::InvalidArgument { .. }
            | Self::SizeInvalid { .. } => ErrorKind::InvalidArgument,
        }
    }
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;
