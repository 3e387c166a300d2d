//! Changes of vmgroups by an administrator.
//!
//! ```text
//!   what is known of VMs, their volumes, the datastores ─► a pure change of the one configuration (domain) ─► swap
//!                                                                        └─ members that bring volumes: see `transfer`
//! ```
//! The configuration is the one this host follows; with several an administrator is told to choose. VMs are found on
//! any host; a member that no host knows any more by the name or UUID it was added with. What a VM has mounted is told
//! by the records, read now, on whatever host it runs.

use std::collections::HashMap;
use std::slice::from_ref;
use std::sync::Arc;

use uuid::Uuid;
use vdvs_domain::access::{
    AccessConfig, ChangeMembers, ChangePrivilege, Changed, CreateGroup, Fault, KnownVm, Leaving,
    Member, Surroundings, UpdateGroup,
};
use vdvs_domain::{DatastoreName, Error, GroupId, GroupName};

use crate::api::{Actor, LocalUser};
use crate::governance::{Governed, Rules};
use crate::index::Indexed;
use crate::inner::Inner;
use crate::moving_vms::{TransferAsk, is_of};
use crate::telling::Teller;

/// A change of vmgroups.
#[derive(Debug, Clone)]
pub enum GroupChange {
    /// `vmgroup create`
    Create(CreateGroup),
    /// `vmgroup update`
    Update(UpdateGroup),
    /// `vmgroup rm`
    Remove(RemoveGroup),
    /// `vmgroup vm add`
    AddMembers(ChangeMembers, Vec<String>),
    /// `vmgroup vm rm`
    RemoveMembers(ChangeMembers, Vec<String>),
    /// `vmgroup vm replace`
    ReplaceMembers(ChangeMembers, Vec<String>),
    /// `vmgroup access add`
    AddPrivilege(ChangePrivilege),
    /// `vmgroup access set`
    SetPrivilege(ChangePrivilege),
    /// `vmgroup access rm`
    RemovePrivilege(ChangePrivilege),
}

/// `vmgroup rm`
#[derive(Debug, Clone, Default)]
pub struct RemoveGroup {
    /// The vmgroup.
    pub name: String,
    /// With all its volumes.
    pub remove_volumes: bool,
    /// Also while VMs belong to it.
    pub force: bool,
}

/// What a change of vmgroups did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupChanged {
    /// What happened, line by line, where the verb does not say it all.
    pub lines: Vec<String>,
    /// What a person should know beside it.
    pub warnings: Vec<String>,
}

impl GroupChange {
    /// Whether it may take long: volumes are removed, or moved.
    #[must_use]
    pub fn may_take_long(&self) -> bool {
        match self {
            Self::Create(ask) => ask.volumes == Leaving::Move,
            Self::Remove(ask) => ask.remove_volumes,
            Self::AddMembers(ask, _)
            | Self::RemoveMembers(ask, _)
            | Self::ReplaceMembers(ask, _) => ask.volumes == Leaving::Move,
            Self::Update(_)
            | Self::AddPrivilege(_)
            | Self::SetPrivilege(_)
            | Self::RemovePrivilege(_) => false,
        }
    }

    /// The vmgroup, and which volumes come along where some were named.
    fn members(&self) -> Option<(&str, &[String])> {
        match self {
            Self::Create(ask) => Some((&ask.name, &[])),
            Self::AddMembers(ask, named)
            | Self::RemoveMembers(ask, named)
            | Self::ReplaceMembers(ask, named) => Some((&ask.group, named)),
            _ => None,
        }
    }

    fn apply(
        &self,
        config: &mut AccessConfig,
        id: GroupId,
        known: &Surroundings,
    ) -> Result<Changed, Fault> {
        match self {
            Self::Create(ask) => config.create_group(id, ask, known),
            Self::Update(ask) => config.update_group(ask, known),
            Self::Remove(ask) => config.remove_group(&ask.name, ask.force),
            Self::AddMembers(ask, _) => config.add_members(ask, known),
            Self::RemoveMembers(ask, _) => config.remove_members(ask, known),
            Self::ReplaceMembers(ask, _) => config.replace_members(ask, known),
            Self::AddPrivilege(ask) => config.add_privilege(ask, known),
            Self::SetPrivilege(ask) => config.set_privilege(ask, known),
            Self::RemovePrivilege(ask) => config.remove_privilege(ask, known),
        }
    }
}

/// The volumes under one configuration, and the datastores where there may be more.
#[derive(Debug, Default)]
pub(crate) struct Under {
    pub(crate) volumes: Vec<Indexed>,
    pub(crate) unreadable: Vec<DatastoreName>,
}

pub(crate) fn full_name_of(volume: &Indexed) -> String {
    format!("{}@{}", volume.place.name, volume.place.ds)
}

impl Inner {
    /// Changes vmgroups, members or privileges.
    ///
    /// # Errors
    /// [`Fault`]s; what `change_config` says; what stands in the way of removing or moving volumes.
    pub(crate) async fn change_groups(
        self: &Arc<Self>,
        user: &LocalUser,
        change: &GroupChange,
        tell: &Teller,
    ) -> Result<GroupChanged, Error> {
        let (home, rules) = self.one_home().await?;
        if let GroupChange::Remove(ask) = change {
            return self.remove_group(user, &home, &rules, ask, tell).await;
        }
        let (known, mut warnings) = self.surroundings(&rules, change).await?;
        let id = GroupId::new(self.ports.ids.uuid());
        let actor = Actor::Admin(user);
        let changed = self.change_config(&home, &actor, |config| {
            let done = change.apply(config, id, &known)?;
            let what = done.what.clone();
            Ok((done, what))
        });
        let changed = changed.await?;
        warnings.extend(changed.warnings);
        let lines = match changed.moving.is_empty() {
            true => Vec::new(),
            false => {
                let moving = changed.moving;
                self.bring_along(user, &home, change, moving, tell).await?
            }
        };
        Ok(GroupChanged { lines, warnings })
    }

    /// The volumes on the datastores that this configuration governs, read now.
    pub(crate) async fn volumes_under(&self, config: Uuid) -> Result<Under, Error> {
        let (volumes, unreadable) = self.all_volumes().await?;
        let mut governs: HashMap<DatastoreName, bool> = HashMap::new();
        let mut under = Under::default();
        for volume in volumes {
            let ds = &volume.place.ds;
            if !governs.contains_key(ds) {
                let governed = self.governed(ds).await?;
                let is_it = matches!(governed, Governed::By(rules) if rules.config == config);
                governs.insert(ds.clone(), is_it);
            }
            if governs.get(ds) == Some(&true) {
                under.volumes.push(volume);
            }
        }
        for ds in unreadable {
            let other = self
                .last_rules(&ds.name)
                .is_some_and(|r| r.config != config);
            if !other {
                under.unreadable.push(ds.name);
            }
        }
        Ok(under)
    }

    /// What is known beside the configuration, with what a person should know of what could not be looked at.
    async fn surroundings(
        &self,
        rules: &Rules,
        change: &GroupChange,
    ) -> Result<(Surroundings, Vec<String>), Error> {
        let mut datastores: Vec<DatastoreName> = self
            .datastores()
            .await?
            .into_iter()
            .map(|ds| ds.name)
            .collect();
        for file in &self.others().await.files {
            for ds in &file.datastores {
                if !datastores.contains(&ds.name) {
                    datastores.push(ds.name.clone());
                }
            }
        }
        let mut known = Surroundings {
            datastores,
            vms: Vec::new(),
        };
        let concerns_vms = match change {
            GroupChange::Create(ask) => !ask.vms.is_empty(),
            other => other.members().is_some(),
        };
        if !concerns_vms {
            return Ok((known, Vec::new()));
        }
        let under = self.volumes_under(rules.config).await?;
        for vm in self.vms_known().await? {
            let vm = Member {
                uuid: vm.id.instance_uuid,
                name: vm.name,
            };
            known.vms.push(known_vm(rules, &under.volumes, vm));
        }
        let warn = |ds: &DatastoreName| {
            format!("datastore {ds} cannot be read: volumes there were not looked at")
        };
        Ok((known, under.unreadable.iter().map(warn).collect()))
    }

    /// Moves VMs into the vmgroup with their volumes, or out of it into `_DEFAULT`.
    async fn bring_along(
        self: &Arc<Self>,
        user: &LocalUser,
        home: &DatastoreName,
        change: &GroupChange,
        vms: Vec<Member>,
        tell: &Teller,
    ) -> Result<Vec<String>, Error> {
        let Some((group, named)) = change.members() else {
            return Ok(Vec::new());
        };
        let to = match change {
            GroupChange::RemoveMembers(..) => GroupName::DEFAULT,
            _ => group,
        };
        let (_, rules) = self.one_home().await?;
        let Some(to) = rules.access.group(to) else {
            return Err(Fault::NoSuchGroup {
                name: to.to_owned(),
            }
            .into());
        };
        let ask = TransferAsk {
            vms,
            to: to.id,
            only: named.to_vec(),
        };
        Box::pin(self.transfer(home, &Actor::Admin(user), &ask, tell)).await
    }
}

/// What of a VM's volumes matters to its membership.
fn known_vm(rules: &Rules, volumes: &[Indexed], vm: Member) -> KnownVm {
    let group = rules.access.group_of_vm(vm.uuid).map(|g| g.id);
    let has = |v: &&Indexed| {
        let owner = v.record.ownership.owner();
        owner.is_some_and(|o| o.vm.id.instance_uuid == vm.uuid)
    };
    let its = |v: &&Indexed| {
        Some(v.record.group) == group && is_of(&v.record, from_ref(&vm)) && v.record.exists()
    };
    KnownVm {
        mounted: volumes.iter().filter(has).map(full_name_of).collect(),
        owned: volumes.iter().filter(its).map(full_name_of).collect(),
        vm,
    }
}
