//! Changes of vmgroups: each a function from one configuration to the next, or a [`Fault`] and nothing changed.
//!
//! The checks come in the original's order, with its texts. What they keep, whatever is asked for in whatever order:
//! a VM is named by at most one vmgroup; names and ids of vmgroups are unique; a vmgroup has a privilege on its default
//! datastore, and at most one per datastore or placeholder; a volume's limit is at most the total.

use super::asked::{self, Surroundings};
use super::fault::{Fault, MemberChange};
use super::members::{self, Leaving};
use super::model::{AccessConfig, DatastoreScope, Group, Member, Members, Privilege};
use crate::capacity::Capacity;
use crate::ids::GroupId;
use crate::names::GroupName;

/// What a change did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// In words, for the history and the audit.
    pub what: String,
    /// VMs that become members when their volumes have come along.
    pub moving: Vec<Member>,
    /// What a person should know beside it.
    pub warnings: Vec<String>,
}

impl Changed {
    pub(super) fn so(what: String) -> Self {
        Self {
            what,
            ..Self::default()
        }
    }
}

/// `vmgroup create`
#[derive(Debug, Clone, Default)]
pub struct CreateGroup {
    /// Its name; `_DEFAULT` makes that one again.
    pub name: String,
    /// For people.
    pub description: String,
    /// A datastore, or `_VM_DS`.
    pub default_datastore: String,
    /// Size of volumes that are asked for without one; empty: the product's.
    pub default_size: String,
    /// Names or instance UUIDs.
    pub vms: Vec<String>,
    /// What becomes of their volumes.
    pub volumes: Leaving,
}

/// `vmgroup update`: what is absent stays.
#[derive(Debug, Clone, Default)]
pub struct UpdateGroup {
    /// The vmgroup.
    pub name: String,
    /// Another name.
    pub new_name: Option<String>,
    /// Another description; empty: none.
    pub description: Option<String>,
    /// Another place for new volumes.
    pub default_datastore: Option<String>,
    /// Another default size; empty: the product's.
    pub default_size: Option<String>,
}

fn default_size(text: &str) -> Result<Option<Capacity>, Fault> {
    match text {
        "" => Ok(None),
        text => asked::disk_limit("the default size", text),
    }
}

/// The vmgroup's privilege on its default datastore, made where it is missing.
fn keep_default_privilege(group: &mut Group) {
    if group.privilege(&group.default_datastore).is_none() {
        let full = Privilege::full(group.default_datastore.clone());
        group.privileges.push(full);
    }
}

impl AccessConfig {
    pub(super) fn existing(&mut self, name: &str) -> Result<&mut Group, Fault> {
        let found = self.groups.iter_mut().find(|g| g.name.as_str() == name);
        found.ok_or_else(|| Fault::NoSuchGroup {
            name: asked::shown(name),
        })
    }

    /// The same where its members, or itself, are to change: not while some of them are on their way.
    pub(super) fn settled(&mut self, name: &str) -> Result<&mut Group, Fault> {
        let group = self.existing(name)?;
        let (id, name) = (group.id, group.name.clone());
        match self.transfers.iter().any(|t| t.from == id || t.to == id) {
            true => Err(Fault::UnderTransfer { name }),
            false => self.existing(name.as_str()),
        }
    }

    fn is_taken(&self, name: &GroupName) -> Result<(), Fault> {
        match self.group(name.as_str()) {
            Some(_) => Err(Fault::GroupExists { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// The same, by who wants these VMs in it: a create that was cut short made the vmgroup, and they are outside.
    fn is_taken_without(
        &self,
        name: &GroupName,
        joining: &members::Joining,
        volumes: Leaving,
    ) -> Result<(), Fault> {
        let outside: Vec<&str> = joining
            .moving
            .iter()
            .chain(&joining.now)
            .map(|vm| vm.name.as_str())
            .collect();
        match self.is_taken(name) {
            Err(Fault::GroupExists { name }) if !outside.is_empty() => {
                Err(Fault::GroupExistsWithout {
                    name,
                    vms: outside.join(","),
                    volumes: match volumes {
                        Leaving::Ask => "",
                        Leaving::Move => " --move-volumes",
                        Leaving::Leave => " --leave-volumes",
                    },
                })
            }
            other => other,
        }
    }

    /// Makes a vmgroup with a full privilege on its default datastore. `id` is what it gets, unless it is `_DEFAULT`.
    ///
    /// # Errors
    /// [`Fault`] naming the first rule broken.
    pub fn create_group(
        &mut self,
        id: GroupId,
        ask: &CreateGroup,
        known: &Surroundings,
    ) -> Result<Changed, Fault> {
        let is_default = ask.name == GroupName::DEFAULT;
        let name = match is_default {
            true => GroupName::default_group(),
            false => asked::new_group_name(&ask.name)?,
        };
        let joining = match ask.vms.is_empty() {
            true => members::Joining::default(),
            false if is_default => {
                return Err(Fault::InvalidArgument {
                    what: "vmgroup _DEFAULT has no VMs of its own".to_owned(),
                    advice: "leave --vm-list out: every VM that no other vmgroup names belongs to it",
                });
            }
            false => self.joining(None, &ask.vms, ask.volumes, MemberChange::Add, known)?,
        };
        let default_datastore = known.default_datastore(&ask.default_datastore)?;
        self.is_taken_without(&name, &joining, ask.volumes)?;
        let mut group = Group {
            id: if is_default { GroupId::DEFAULT } else { id },
            description: asked::description(&ask.description)?,
            default_datastore,
            default_size: default_size(&ask.default_size)?,
            members: match is_default {
                true => Members::Others,
                false => Members::Vms(joining.now.clone()),
            },
            privileges: Vec::new(),
            removing: false,
            name,
        };
        keep_default_privilege(&mut group);
        let mut what = format!(
            "vmgroup create {}, default datastore {}",
            group.name, group.default_datastore
        );
        joining.tell(&mut what);
        self.groups.push(group);
        Ok(Changed {
            what,
            moving: joining.moving,
            ..Changed::default()
        })
    }

    /// Changes a vmgroup's name, description and defaults. One that was being removed is open again.
    ///
    /// # Errors
    /// [`Fault`] naming the first rule broken.
    pub fn update_group(
        &mut self,
        ask: &UpdateGroup,
        known: &Surroundings,
    ) -> Result<Changed, Fault> {
        let group = self.existing(&ask.name)?;
        let (old, is_default) = (group.name.clone(), group.is_default());
        let mut what = format!("vmgroup update {old}");
        let datastore = ask.default_datastore.as_deref();
        let datastore = datastore.map(|text| known.default_datastore(text));
        let datastore = datastore.transpose()?;
        let name = match ask.new_name.as_deref() {
            None => None,
            Some(_) if is_default => {
                return Err(Fault::NameInvalid {
                    name: old.to_string(),
                    allowed: "rename of vmgroups other than _DEFAULT",
                    why: "",
                });
            }
            Some(same) if same == old.as_str() => None,
            Some(new) => {
                let new = asked::new_group_name(new)?;
                self.is_taken(&new)?;
                Some(new)
            }
        };
        let description = ask.description.as_deref().map(asked::description);
        let description = description.transpose()?;
        let size = ask.default_size.as_deref().map(default_size).transpose()?;
        let group = self.existing(&ask.name)?;
        if group.removing {
            group.removing = false;
            what.push_str(", kept");
        }
        if let Some(datastore) = datastore {
            what = format!("{what}, default datastore {datastore}");
            group.default_datastore = datastore;
            keep_default_privilege(group);
        }
        if let Some(name) = name {
            what = format!("{what}, new name {name}");
            group.name = name;
        }
        if let Some(description) = description {
            what.push_str(", description");
            group.description = description;
        }
        if let Some(size) = size {
            let said = size.map_or_else(|| "none".to_owned(), |s| s.to_string());
            what = format!("{what}, default size {said}");
            group.default_size = size;
        }
        Ok(Changed::so(what))
    }

    /// Closes a vmgroup that is to be removed with its volumes: from now on its VMs can do nothing with them but let
    /// them go. Its members stay, so that they do not come to `_DEFAULT` meanwhile.
    ///
    /// # Errors
    /// As [`AccessConfig::remove_group`].
    pub fn close_group(&mut self, name: &str, force: bool) -> Result<Changed, Fault> {
        let group = self.removable(name, force)?;
        group.removing = true;
        Ok(Changed::so(format!("vmgroup rm {name}, begun")))
    }

    /// Removes a vmgroup. That it has no volumes is for the caller to know.
    ///
    /// # Errors
    /// [`Fault::NoSuchGroup`]; [`Fault::NotEmpty`] while VMs belong to it and `force` is not given.
    pub fn remove_group(&mut self, name: &str, force: bool) -> Result<Changed, Fault> {
        let id = self.removable(name, force)?.id;
        self.groups.retain(|g| g.id != id);
        Ok(Changed::so(format!("vmgroup rm {name}")))
    }

    fn removable(&mut self, name: &str, force: bool) -> Result<&mut Group, Fault> {
        let group = self.existing(name)?;
        if !force && !group.vms().is_empty() {
            return Err(Fault::NotEmpty {
                name: group.name.clone(),
            });
        }
        self.settled(name)
    }
}

/// `vmgroup access add`, `set`, `rm`: sizes are texts, `0`, `unlimited` and `Unset` lift a limit.
#[derive(Debug, Clone, Default)]
pub struct ChangePrivilege {
    /// The vmgroup.
    pub group: String,
    /// A datastore, `_VM_DS` or `_ALL_DS`.
    pub datastore: String,
    /// `True` or `False`; absent: no, or as it is.
    pub allow_create: Option<String>,
    /// Of one volume; absent: none, or as it is.
    pub max_size: Option<String>,
    /// Of all volumes; absent: none, or as it is.
    pub total_size: Option<String>,
}

impl ChangePrivilege {
    /// The privilege with what was asked for.
    fn applied_to(&self, mut privilege: Privilege) -> Result<Privilege, Fault> {
        if let Some(text) = &self.allow_create {
            privilege.allow_create = asked::allow_create(text)?;
        }
        if let Some(text) = &self.max_size {
            privilege.max_volume = asked::disk_limit("--volume-maxsize", text)?;
        }
        if let Some(text) = &self.total_size {
            privilege.total_bytes = asked::limit("--volume-totalsize", text)?;
        }
        match (
            privilege.max_volume.map(Capacity::bytes),
            privilege.total_bytes,
        ) {
            (Some(max_bytes), Some(total_bytes)) if max_bytes > total_bytes => {
                Err(Fault::MaxAboveTotal {
                    max_bytes,
                    total_bytes,
                })
            }
            _ => Ok(privilege),
        }
    }

    fn what(&self, verb: &str, scope: &DatastoreScope) -> String {
        let mut what = format!("vmgroup access {verb} {} on {scope}", self.group);
        for (name, value) in [
            ("allow-create", &self.allow_create),
            ("volume-maxsize", &self.max_size),
            ("volume-totalsize", &self.total_size),
        ] {
            if let Some(value) = value {
                what = format!("{what}, {name} {}", asked::shown(value));
            }
        }
        what
    }

    /// A row may speak of a datastore that is not there now.
    fn scope(&self, group: &Group, known: &Surroundings) -> Result<DatastoreScope, Fault> {
        let kept = |p: &&Privilege| p.datastore.to_string() == self.datastore;
        match group.privileges.iter().find(kept) {
            Some(privilege) => Ok(privilege.datastore.clone()),
            None => known.scope(&self.datastore),
        }
    }
}

impl AccessConfig {
    /// Gives a vmgroup a privilege.
    ///
    /// # Errors
    /// [`Fault`] naming the first rule broken.
    pub fn add_privilege(
        &mut self,
        ask: &ChangePrivilege,
        known: &Surroundings,
    ) -> Result<Changed, Fault> {
        let group = self.existing(&ask.group)?;
        let scope = ask.scope(group, known)?;
        if group.privilege(&scope).is_some() {
            return Err(Fault::PrivilegeExists {
                group: group.name.clone(),
                datastore: scope.to_string(),
            });
        }
        let fresh = Privilege {
            allow_create: false,
            ..Privilege::full(scope)
        };
        let privilege = ask.applied_to(fresh)?;
        let what = ask.what("add", &privilege.datastore);
        group.privileges.push(privilege);
        Ok(Changed::so(what))
    }

    /// Changes a vmgroup's privilege.
    ///
    /// # Errors
    /// [`Fault`] naming the first rule broken.
    pub fn set_privilege(
        &mut self,
        ask: &ChangePrivilege,
        known: &Surroundings,
    ) -> Result<Changed, Fault> {
        let group = self.existing(&ask.group)?;
        let scope = ask.scope(group, known)?;
        let name = group.name.clone();
        let mut rows = group.privileges.iter_mut();
        let Some(row) = rows.find(|p| p.datastore == scope) else {
            return Err(Fault::NoSuchPrivilege {
                group: name,
                datastore: scope.to_string(),
            });
        };
        *row = ask.applied_to(row.clone())?;
        Ok(Changed::so(ask.what("set", &scope)))
    }

    /// Takes a privilege from a vmgroup.
    ///
    /// # Errors
    /// [`Fault`] naming the first rule broken.
    pub fn remove_privilege(
        &mut self,
        ask: &ChangePrivilege,
        known: &Surroundings,
    ) -> Result<Changed, Fault> {
        let group = self.existing(&ask.group)?;
        let scope = ask.scope(group, known)?;
        if group.privilege(&scope).is_none() {
            return Err(Fault::NoSuchPrivilege {
                group: group.name.clone(),
                datastore: scope.to_string(),
            });
        }
        if group.default_datastore == scope {
            return Err(Fault::DefaultPrivilege {
                group: group.name.clone(),
            });
        }
        group.privileges.retain(|p| p.datastore != scope);
        Ok(Changed::so(format!(
            "vmgroup access rm {} on {scope}",
            ask.group
        )))
    }
}
