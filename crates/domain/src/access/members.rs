//! Changes of members.
//!
//! A VM that has volumes of its old vmgroup attached keeps it, unless the volumes come along: in another vmgroup it
//! could not even name what it mounted. Volumes that it made there and does not use now are asked about, when it is
//! added to a vmgroup: it would find none under their names, and make empty ones.

use std::slice::from_ref;

use uuid::Uuid;

use super::asked::{self, Surroundings};
use super::change::Changed;
use super::fault::{Fault, MemberChange};
use super::model::{AccessConfig, Group, Member, Members};
use crate::ids::GroupId;
use crate::names::GroupName;

/// So many volumes a refusal names.
const NAMED: usize = 10;

/// What becomes of the volumes that a VM leaves behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leaving {
    /// Refuse, and say which there are.
    #[default]
    Ask,
    /// They come along.
    Move,
    /// They stay. Attached ones cannot.
    Leave,
}

/// `vmgroup vm add`, `rm`, `replace`
#[derive(Debug, Clone, Default)]
pub struct ChangeMembers {
    /// The vmgroup.
    pub group: String,
    /// Names or instance UUIDs.
    pub vms: Vec<String>,
    /// What becomes of their volumes.
    pub volumes: Leaving,
}

/// VMs that may join.
#[derive(Debug, Clone, Default)]
pub(super) struct Joining {
    pub(super) now: Vec<Member>,
    pub(super) moving: Vec<Member>,
}

impl Joining {
    /// Adds itself to what a change is said to do.
    pub(super) fn tell(&self, what: &mut String) {
        if !self.now.is_empty() {
            *what = format!("{what}, VMs {}", names(&self.now));
        }
        if !self.moving.is_empty() {
            *what = format!("{what}, to come with their volumes {}", names(&self.moving));
        }
    }
}

fn names(vms: &[Member]) -> String {
    let names: Vec<&str> = vms.iter().map(|vm| vm.name.as_str()).collect();
    names.join(", ")
}

fn first_of(volumes: &[String]) -> Vec<String> {
    let more = volumes.len().saturating_sub(NAMED);
    let mut named: Vec<String> = volumes.iter().take(NAMED).cloned().collect();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    named
}

/// The members of a vmgroup as a person may name them: as they are called now, or as they were when they were added.
fn member(group: &Group, known: &Surroundings, text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok();
    let now = |vm: &&Member| known.known(vm.uuid).is_some_and(|k| k.vm.name == text);
    let vms = group.vms();
    vms.iter()
        .find(now)
        .or_else(|| vms.iter().find(|vm| vm.name == text))
        .or_else(|| vms.iter().find(|vm| Some(vm.uuid) == uuid))
        .map(|vm| vm.uuid)
}

impl Surroundings {
    fn mounted(&self, vm: &Member, change: MemberChange) -> Result<(), Fault> {
        match self.known(vm.uuid) {
            Some(known) if !known.mounted.is_empty() => Err(Fault::VolumesMounted {
                change,
                vm: known.vm.name.clone(),
                volumes: first_of(&known.mounted),
            }),
            _ => Ok(()),
        }
    }
}

impl AccessConfig {
    /// The VMs that `texts` mean, if they may become members of `to` (none: of one that is being made).
    pub(super) fn joining(
        &self,
        to: Option<&Group>,
        texts: &[String],
        volumes: Leaving,
        change: MemberChange,
        known: &Surroundings,
    ) -> Result<Joining, Fault> {
        asked::vm_list(texts, Fault::NoVms)?;
        let vms = asked::resolve(texts, known.vms.iter().map(|k| &k.vm))?;
        let mut joining = Joining::default();
        for vm in &vms {
            if let Some(group) = self.group_naming(vm.uuid) {
                let (vm, group) = (vm.name.clone(), group.name.clone());
                return Err(match to.is_some_and(|to| to.name == group) {
                    true => Fault::AlreadyMember { vm, group },
                    false => Fault::InAnotherGroup { vm, group },
                });
            }
        }
        for vm in vms {
            let moves = self.comes_along(&vm, volumes, change, known)?;
            match moves {
                true => joining.moving.push(vm),
                false => joining.now.push(vm),
            }
        }
        Ok(joining)
    }

    /// Whether a VM that joins has volumes to bring; refused where nobody said what becomes of them.
    fn comes_along(
        &self,
        vm: &Member,
        volumes: Leaving,
        change: MemberChange,
        known: &Surroundings,
    ) -> Result<bool, Fault> {
        let owned = known.known(vm.uuid).map_or(&[][..], |k| &k.owned);
        if volumes == Leaving::Move {
            // Also with none of its own: it may use what others of these VMs bring, and must not come before that.
            return Ok(true);
        }
        known.mounted(vm, change)?;
        match self.group_of_vm(vm.uuid) {
            Some(old) if volumes == Leaving::Ask && !owned.is_empty() => {
                Err(Fault::VolumesLeftBehind {
                    change,
                    vm: vm.name.clone(),
                    group: old.name.clone(),
                    volumes: first_of(owned),
                })
            }
            _ => Ok(false),
        }
    }

    /// The vmgroup, if it has members of its own that may change now.
    fn with_members(&mut self, name: &str) -> Result<&mut Group, Fault> {
        if name == GroupName::DEFAULT {
            return Err(Fault::NotForDefault {
                name: GroupName::default_group(),
            });
        }
        self.settled(name)
    }

    /// Adds VMs to a vmgroup.
    ///
    /// # Errors
    /// [`Fault`] naming the first rule broken.
    pub fn add_members(
        &mut self,
        ask: &ChangeMembers,
        known: &Surroundings,
    ) -> Result<Changed, Fault> {
        let group = self.with_members(&ask.group)?.clone();
        let change = MemberChange::Add;
        let joining = self.joining(Some(&group), &ask.vms, ask.volumes, change, known)?;
        let mut what = format!("vmgroup vm add {}", group.name);
        joining.tell(&mut what);
        self.put_members(group.id, &joining.now);
        Ok(Changed {
            what,
            moving: joining.moving,
            ..Changed::default()
        })
    }

    /// Takes VMs out of a vmgroup: from then on they belong to `_DEFAULT`, while there is one.
    ///
    /// # Errors
    /// [`Fault`] naming the first rule broken.
    pub fn remove_members(
        &mut self,
        ask: &ChangeMembers,
        known: &Surroundings,
    ) -> Result<Changed, Fault> {
        let group = self.with_members(&ask.group)?.clone();
        asked::vm_list(&ask.vms, Fault::NoVms)?;
        let change = MemberChange::Remove;
        let mut leaving: Vec<Member> = Vec::new();
        let (mut strangers, mut missing) = (Vec::new(), Vec::new());
        for text in &ask.vms {
            let found = member(&group, known, text);
            match found.and_then(|uuid| group.vms().iter().find(|vm| vm.uuid == uuid)) {
                Some(vm) if leaving.contains(vm) => {
                    let vms = ask.vms.iter().map(|vm| asked::shown(vm)).collect();
                    return Err(Fault::DuplicateVms { vms });
                }
                Some(vm) => leaving.push(vm.clone()),
                None => match asked::resolve(from_ref(text), known.vms.iter().map(|k| &k.vm)) {
                    Ok(_) => strangers.push(asked::shown(text)),
                    Err(Fault::NoSuchVm { .. }) => missing.push(asked::shown(text)),
                    Err(fault) => return Err(fault),
                },
            }
        }
        if !missing.is_empty() {
            return Err(Fault::NoSuchVm { names: missing });
        }
        for vm in &leaving {
            if ask.volumes != Leaving::Move {
                known.mounted(vm, change)?;
            }
        }
        if let Some(vm) = strangers.into_iter().next() {
            let group = group.name;
            return Err(Fault::NotAMember { vm, group });
        }
        let (moving, now) = match ask.volumes {
            Leaving::Move => (leaving, Vec::new()),
            Leaving::Ask | Leaving::Leave => (Vec::new(), leaving),
        };
        let (gone, joining) = (now.clone(), Joining { now, moving });
        let mut what = format!("vmgroup vm rm {}", group.name);
        joining.tell(&mut what);
        let stay = |vm: &Member| {
            let known = known.known(vm.uuid)?;
            let volumes = first_of(&known.owned).join(", ");
            (!volumes.is_empty()).then(|| {
                let (vm, group) = (&known.vm.name, &group.name);
                format!("VM {vm} can no longer reach volumes it made in vmgroup {group}: {volumes}")
            })
        };
        let warnings = gone.iter().filter_map(stay).collect();
        self.drop_members(&gone);
        Ok(Changed {
            what,
            moving: joining.moving,
            warnings,
        })
    }

    /// Makes these VMs the vmgroup's members. Those that are members already stay so, whatever they have mounted.
    ///
    /// # Errors
    /// [`Fault`] naming the first rule broken.
    pub fn replace_members(
        &mut self,
        ask: &ChangeMembers,
        known: &Surroundings,
    ) -> Result<Changed, Fault> {
        let group = self.with_members(&ask.group)?.clone();
        asked::vm_list(&ask.vms, Fault::ReplaceByNone)?;
        let change = MemberChange::Replace;
        let kept: Vec<(&String, Uuid)> = ask
            .vms
            .iter()
            .filter_map(|text| Some((text, member(&group, known, text)?)))
            .collect();
        let twice = |(at, (_, uuid)): (usize, &(&String, Uuid))| {
            kept.iter().take(at).any(|(_, before)| before == uuid)
        };
        if kept.iter().enumerate().any(twice) {
            let vms = ask.vms.iter().map(|vm| asked::shown(vm)).collect();
            return Err(Fault::DuplicateVms { vms });
        }
        let is_new = |text: &&String| !kept.iter().any(|(kept, _)| kept == text);
        let new: Vec<String> = ask.vms.iter().filter(is_new).cloned().collect();
        let joining = match new.is_empty() {
            true => Joining::default(),
            false => self.joining(Some(&group), &new, ask.volumes, change, known)?,
        };
        let stays = |vm: &&Member| kept.iter().any(|(_, uuid)| *uuid == vm.uuid);
        let gone: Vec<Member> = group
            .vms()
            .iter()
            .filter(|vm| !stays(vm))
            .cloned()
            .collect();
        for vm in &gone {
            known.mounted(vm, change)?;
        }
        let mut what = format!("vmgroup vm replace {}", group.name);
        joining.tell(&mut what);
        if !gone.is_empty() {
            what = format!("{what}, without {}", names(&gone));
        }
        self.drop_members(&gone);
        self.put_members(group.id, &joining.now);
        Ok(Changed {
            what,
            moving: joining.moving,
            ..Changed::default()
        })
    }

    /// Makes VMs members of a vmgroup, and of no other. Of `_DEFAULT` they are by being in no other.
    pub fn put_members(&mut self, to: GroupId, vms: &[Member]) {
        self.drop_members(vms);
        let group = self.groups.iter_mut().find(|g| g.id == to);
        if let Some(Members::Vms(members)) = group.map(|g| &mut g.members) {
            for vm in vms {
                if !members.iter().any(|m| m.uuid == vm.uuid) {
                    members.push(vm.clone());
                }
            }
        }
    }

    fn drop_members(&mut self, gone: &[Member]) {
        for group in &mut self.groups {
            if let Members::Vms(members) = &mut group.members {
                members.retain(|vm| !gone.iter().any(|g| g.uuid == vm.uuid));
            }
        }
    }
}
