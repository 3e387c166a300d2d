//! `vdvs volume move`: one volume, to the vmgroup an administrator names. Orphans too: that is how they are adopted.

use std::sync::Arc;

use vdvs_domain::access::{Denied, Fault, Group, Privilege, Spot};
use vdvs_domain::{Capacity, DatastoreName, Error};

use crate::api::{Actor, Call, LocalUser, Outcome};
use crate::governance::{Governed, Rules};
use crate::inner::Inner;
use crate::moving::MoveTo;
use crate::records::Stored;

/// What a vmgroup may have on a datastore, whichever of its VMs asks. `_VM_DS` counts last: it speaks of some of them.
fn privilege_there<'a>(group: &'a Group, ds: &DatastoreName) -> Option<&'a Privilege> {
    use vdvs_domain::access::DatastoreScope::{All, Named, VmHome};
    let named = Named(ds.clone());
    [&named, &All, &VmHome]
        .into_iter()
        .find_map(|scope| group.privilege(scope))
}

/// The total of a vmgroup on a datastore, if a volume of this size may be there at all.
pub(crate) fn may_come(
    group: &Group,
    ds: &DatastoreName,
    capacity: Capacity,
) -> Result<Option<u64>, Denied> {
    let name = || group.name.clone();
    if group.removing {
        return Err(Denied::BeingRemoved { group: name() });
    }
    let there = || Spot::Named(ds.clone());
    let Some(privilege) = privilege_there(group, ds) else {
        return Err(Denied::NoPrivilege {
            group: name(),
            datastore: there(),
        });
    };
    match privilege.max_volume.filter(|limit| capacity > *limit) {
        Some(limit) => Err(Denied::TooLarge {
            group: name(),
            datastore: there(),
            asked: capacity,
            limit,
        }),
        None => Ok(privilege.total_bytes),
    }
}

impl Inner {
    /// The rules of a datastore that is governed.
    pub(crate) async fn rules_there(&self, ds: &DatastoreName) -> Result<Arc<Rules>, Error> {
        match self.governed(ds).await? {
            Governed::By(rules) | Governed::Fresh(rules) => Ok(rules),
            Governed::Not(why) => Err(Error::NotConfigured {
                datastore: ds.clone(),
                why,
            }),
        }
    }

    /// No other volume is known by this short name in a vmgroup, on whichever datastore.
    pub(crate) async fn check_short_name(
        &self,
        stored: &Stored,
        group: &Group,
    ) -> Result<(), Error> {
        if !stored.record.short_name {
            return Ok(());
        }
        let name = &stored.record.name;
        for ds in self.datastores().await? {
            if ds.name == stored.place.ds {
                continue;
            }
            if !ds.accessible {
                return Err(Error::DatastoreUnavailable {
                    datastore: ds.name,
                    why: "it is not accessible, and a volume of that name may be on it".to_owned(),
                });
            }
            let there = self.answering(&ds.name, self.named(&ds.name, group.id, name));
            if there.await?.is_some_and(|s| s.record.short_name) {
                return Err(Fault::NameTaken {
                    group: group.name.clone(),
                    name: name.to_string(),
                    datastore: ds.name,
                }
                .into());
            }
        }
        Ok(())
    }

    /// Moves a volume to the vmgroup `to`; with `force` also beyond what that may have. Says which volume it was.
    pub(crate) async fn admin_move(
        self: &Arc<Self>,
        user: &LocalUser,
        call: &Call,
        address: &str,
        to: &str,
        force: bool,
    ) -> Result<Outcome<String>, Error> {
        let stored = self.admin_find(address).await?;
        let (ds, name) = (stored.place.ds.clone(), stored.name().to_string());
        let rules = self.rules_there(&ds).await?;
        let Some(group) = rules.access.group(to) else {
            let name = to.chars().take(100).collect();
            return Err(Fault::NoSuchGroup { name }.into());
        };
        let from = stored.record.group;
        let asked = &stored.record.name;
        let stands = [from, group.id].map(|g| rules.access.transfer_of(g, asked).is_some());
        if stands.contains(&true) {
            return Err(Error::OnTheMove { name });
        }
        if !stored.record.exists() {
            let operation = stored.record.operation.as_ref();
            return Err(Error::Unresolved {
                name: stored.name(),
                operation: operation.map_or("create", |o| o.kind.name()),
                why: "it is being made or removed".to_owned(),
            });
        }
        let limit = match force {
            true => None,
            false => {
                self.check_short_name(&stored, group).await?;
                may_come(group, &ds, stored.record.capacity)?
            }
        };
        let old = self.group_shown(&ds, from).await;
        let to = MoveTo {
            group: group.id,
            name: group.name.clone(),
            limit,
            keep_name: false,
        };
        let moved = self.move_volume(call, stored, &to).await?;
        let is_change = moved.is_change();
        let stored = moved.into_inner();
        if !is_change {
            return Ok(Outcome::Unchanged(name));
        }
        let detail = format!("from vmgroup {old} to vmgroup {}", to.name);
        let id = Some(stored.record.id);
        self.audit(Actor::Admin(user), "move", name.clone(), id, detail)
            .await;
        Ok(Outcome::Changed(name))
    }
}
