//! `vdvs vmgroup`

use clap::{Args, Subcommand};
use vdvs_api::v1;
use vdvs_api::v1::change_members;
use vdvs_api::v1::change_privilege;
use vdvs_domain::ErrorKind;

use super::listing::Listing;
use super::words::{fill, list, required};
use crate::failure::Failure;

/// What to do with vmgroups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Make a vmgroup; its VMs may create volumes on its default datastore
    Create {
        /// Its name
        #[command(flatten)]
        group: GroupName,
        /// Where its volumes go that name no datastore; _VM_DS: to the datastore the VM lies on
        #[arg(long, value_name = "DATASTORE", required = true)]
        default_datastore: String,
        /// Text for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        /// Size of its volumes that name no size, for example 10GB
        #[arg(long, value_name = "SIZE", default_value = "")]
        default_size: String,
        /// Its VMs: names or instance UUIDs
        #[arg(long, value_name = "VM,..")]
        vm_list: Vec<String>,
        /// What becomes of their volumes
        #[command(flatten)]
        volumes: VolumesOfMembers,
    },
    /// Change a vmgroup; a text that is given and empty is cleared
    Update {
        /// Which
        #[command(flatten)]
        group: GroupName,
        /// Its new name
        #[arg(long, value_name = "NAME")]
        new_name: Option<String>,
        /// Text for people; '' clears it
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Where its volumes go that name no datastore
        #[arg(long, value_name = "DATASTORE")]
        default_datastore: Option<String>,
        /// Size of its volumes that name no size; '' is the product's 1GB
        #[arg(long, value_name = "SIZE")]
        default_size: Option<String>,
    },
    /// Remove a vmgroup
    Rm {
        /// Which
        #[command(flatten)]
        group: GroupName,
        /// Remove its volumes and their data too
        #[arg(long)]
        remove_volumes: bool,
        /// Also while VMs belong to it
        #[arg(long)]
        force: bool,
    },
    /// List the vmgroups
    Ls(Listing),
    /// Show a vmgroup: its members, what it may do, and how much of that it uses
    Show(GroupName),
    /// The VMs of a vmgroup
    #[command(subcommand)]
    Vm(MemberCommand),
    /// What a vmgroup may do on which datastore
    #[command(subcommand)]
    Access(AccessCommand),
}

/// A vmgroup.
#[derive(Debug, Args)]
pub struct GroupName {
    /// The vmgroup
    #[arg(value_name = "VMGROUP", required_unless_present = "name")]
    pub word: Option<String>,
    /// The same, with a flag
    #[arg(long, value_name = "VMGROUP")]
    pub name: Option<String>,
}

impl GroupName {
    /// Its name.
    ///
    /// # Errors
    /// [`Failure`]: it is named twice.
    pub fn get(&self) -> Result<String, Failure> {
        let [name] = fill([self.name.clone()], self.word.clone())?;
        required(name, "VMGROUP")
    }
}

/// What becomes of the volumes that a VM leaves behind when its vmgroup changes.
#[derive(Debug, Args)]
pub struct VolumesOfMembers {
    /// The volumes of these VMs come along, also while they are attached; with names: exactly these volumes
    #[arg(
        long,
        value_name = "VOLUME,..",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        conflicts_with = "leave_volumes"
    )]
    pub move_volumes: Option<String>,
    /// The volumes of these VMs stay where they are, out of the VMs' reach
    #[arg(long)]
    pub leave_volumes: bool,
}

impl VolumesOfMembers {
    /// What becomes of them.
    #[must_use]
    pub const fn choice(&self) -> v1::Volumes {
        match (&self.move_volumes, self.leave_volumes) {
            (Some(_), _) => v1::Volumes::Move,
            (None, true) => v1::Volumes::Leave,
            (None, false) => v1::Volumes::Unspecified,
        }
    }

    /// Those that are named.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        list(self.move_volumes.as_slice())
    }
}

/// What to do with members.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Add VMs
    Add(Members),
    /// Remove VMs
    Rm(Members),
    /// Let these VMs, and no others, be the members
    Replace(Members),
    /// List the VMs
    Ls(GroupName),
}

/// A vmgroup and VMs.
#[derive(Debug, Args)]
pub struct Members {
    /// The vmgroup
    #[command(flatten)]
    pub group: GroupName,
    /// Names or instance UUIDs
    #[arg(value_name = "VM")]
    pub words: Vec<String>,
    /// The same, with a flag
    #[arg(long, value_name = "VM,..")]
    pub vm_list: Vec<String>,
    /// What becomes of their volumes
    #[command(flatten)]
    pub volumes: VolumesOfMembers,
}

impl Members {
    /// The agent's message.
    ///
    /// # Errors
    /// [`Failure`]: the vmgroup is missing.
    pub fn message(&self, how: change_members::How) -> Result<v1::ChangeMembers, Failure> {
        let mut words = self.group.word.iter().chain(&self.words).cloned();
        let group = match &self.group.name {
            Some(name) => Some(name.clone()),
            None => words.next(),
        };
        // A name that holds a comma can be given as a word only.
        let vms = words.chain(list(&self.vm_list));
        Ok(v1::ChangeMembers {
            how: how.into(),
            group: required(group, "VMGROUP")?,
            vms: vms.collect(),
            volumes: self.volumes.choice().into(),
            volume_names: self.volumes.names(),
        })
    }
}

/// What to do with privileges.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Let a vmgroup use a datastore
    Add(Limits),
    /// Change what a vmgroup may do on a datastore; what is not said stays
    Set(Limits),
    /// Let a vmgroup use a datastore no more
    Rm(Place),
    /// List what a vmgroup may do
    Ls(GroupName),
}

/// A vmgroup and a datastore.
#[derive(Debug, Args)]
pub struct Place {
    /// The vmgroup
    #[command(flatten)]
    pub group: GroupName,
    /// The datastore; _VM_DS: the one the VM lies on; _ALL_DS: all
    #[arg(value_name = "DATASTORE")]
    pub datastore_word: Option<String>,
    /// The same, with a flag
    #[arg(long, value_name = "DATASTORE")]
    pub datastore: Option<String>,
}

/// A vmgroup, a datastore, and what is allowed there.
#[derive(Debug, Args)]
pub struct Limits {
    /// Where
    #[command(flatten)]
    pub place: Place,
    /// Let its VMs create and delete volumes there, or not
    #[arg(
        long,
        value_name = "True|False",
        num_args = 0..=1,
        default_missing_value = "True"
    )]
    pub allow_create: Option<String>,
    /// Largest size of one volume, for example 500MB; 'unlimited' lifts the limit
    #[arg(long, value_name = "SIZE")]
    pub volume_maxsize: Option<String>,
    /// Size of all volumes together, for example 10GB; 'unlimited' lifts the limit
    #[arg(long, value_name = "SIZE")]
    pub volume_totalsize: Option<String>,
}

impl Place {
    /// The agent's message, without limits.
    ///
    /// # Errors
    /// [`Failure`]: something is missing, or there is a word too many.
    pub fn message(&self, how: change_privilege::How) -> Result<v1::ChangePrivilege, Failure> {
        let flags = [self.group.name.clone(), self.datastore.clone()];
        let words = self.group.word.iter().chain(&self.datastore_word).cloned();
        let [group, datastore] = fill(flags, words)?;
        Ok(v1::ChangePrivilege {
            how: how.into(),
            group: required(group, "VMGROUP")?,
            datastore: required(datastore, "DATASTORE")?,
            ..v1::ChangePrivilege::default()
        })
    }
}

impl Limits {
    /// The agent's message.
    ///
    /// # Errors
    /// As [`Place::message`].
    pub fn message(&self, how: change_privilege::How) -> Result<v1::ChangePrivilege, Failure> {
        Ok(v1::ChangePrivilege {
            allow_create: self.allow_create.clone(),
            max_size: self.volume_maxsize.clone(),
            total_size: self.volume_totalsize.clone(),
            ..self.place.message(how)?
        })
    }
}

impl GroupCommand {
    /// The agent's message for a creation.
    ///
    /// # Errors
    /// [`Failure`]: the name is missing.
    pub fn creation(&self) -> Result<v1::CreateGroup, Failure> {
        let Self::Create {
            group,
            default_datastore,
            description,
            default_size,
            vm_list,
            volumes,
        } = self
        else {
            return Ok(v1::CreateGroup::default());
        };
        let vms = list(vm_list);
        if vms.is_empty() && !vm_list.is_empty() {
            let text = "VM list cannot be empty; leave --vm-list out to make a vmgroup without VMs";
            return Err(Failure::new(ErrorKind::InvalidArgument, text));
        }
        Ok(v1::CreateGroup {
            name: group.get()?,
            description: description.clone(),
            default_datastore: default_datastore.clone(),
            default_size: default_size.clone(),
            vms,
            volumes: volumes.choice().into(),
        })
    }

    /// The agent's message for a modification.
    ///
    /// # Errors
    /// [`Failure`]: the name is missing.
    pub fn modification(&self) -> Result<v1::UpdateGroup, Failure> {
        let Self::Update {
            group,
            new_name,
            description,
            default_datastore,
            default_size,
        } = self
        else {
            return Ok(v1::UpdateGroup::default());
        };
        Ok(v1::UpdateGroup {
            name: group.get()?,
            new_name: new_name.clone(),
            description: description.clone(),
            default_datastore: default_datastore.clone(),
            default_size: default_size.clone(),
        })
    }
}
