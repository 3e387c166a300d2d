//! `vdvs volume set`, `protect` and `unprotect`: what of a volume an administrator may change after it was made.
//!
//! One change of the record; nothing of it touches an attachment that stands. Options count from the next attach on.

use std::collections::BTreeMap;

use vdvs_domain::Error;
use vdvs_domain::access::Fault;
use vdvs_domain::options::VolumeSettings;

use crate::api::{Actor, LocalUser, Outcome};
use crate::inner::Inner;
use crate::keyed::Key;
use crate::records::{Change, Stored};

/// What is to change.
#[derive(Debug, Clone, Default)]
pub struct AdminSet {
    /// The vmgroup the volume must be in; empty: any.
    pub group: String,
    /// Options by key, as they were written.
    pub options: BTreeMap<String, String>,
    /// Whether it is protected against removal.
    pub protect: Option<bool>,
}

impl Inner {
    /// Changes a volume's settings.
    ///
    /// # Errors
    /// What [`VolumeSettings::parse`] says; [`Fault::NoSuchGroup`]; that there is no such volume.
    pub(crate) async fn admin_set(
        &self,
        user: &LocalUser,
        address: &str,
        set: &AdminSet,
    ) -> Result<Outcome<()>, Error> {
        let settings = VolumeSettings::parse(&set.options)?;
        let stored = self.admin_find_in(address, &set.group).await?;
        let stored = self.adopt(stored).await?;
        let id = stored.record.id;
        let _key = self.keys.hold(Key::Volume(id), "set").await;
        let before = self.read_existing(&stored.place).await?;
        let changed = self
            .change(&stored.place, |record| {
                if !record.exists() {
                    let name = stored.name();
                    return Err(Error::Contended { name });
                }
                let mut next = record.clone();
                settings.apply(&mut next.options);
                next.protected = set.protect.unwrap_or(next.protected);
                Ok(match next == *record {
                    true => Change::Keep,
                    false => next.into(),
                })
            })
            .await?;
        let detail = difference(&before, &changed);
        if detail.is_empty() {
            return Ok(Outcome::Unchanged(()));
        }
        let name = stored.name().to_string();
        self.audit(Actor::Admin(user), "set", name, Some(id), detail)
            .await;
        Ok(Outcome::Changed(()))
    }

    /// The volume that `address` names; in the vmgroup `group`, unless that is empty.
    async fn admin_find_in(&self, address: &str, group: &str) -> Result<Stored, Error> {
        if group.is_empty() {
            return self.admin_find(address).await;
        }
        let homes = self.homes().await?;
        if !homes.iter().any(|(_, r)| r.access.group(group).is_some()) {
            let name = group.chars().take(100).collect();
            return Err(Fault::NoSuchGroup { name }.into());
        }
        let stored = match address.contains('/') {
            true => self.admin_find(address).await?,
            false => self.admin_find(&format!("{group}/{address}")).await?,
        };
        let (ds, id) = (&stored.place.ds, stored.record.group);
        match self.group_shown(ds, id).await == group {
            true => Ok(stored),
            false => Err(Error::VolumeNotFound {
                address: address.chars().take(300).collect(),
                looked_on: format!("vmgroup {group}"),
            }),
        }
    }
}

fn difference(before: &Stored, after: &Stored) -> String {
    let (old, new) = (&before.record, &after.record);
    let mut changes = Vec::new();
    if old.options.access != new.options.access {
        changes.push(format!("access={}", new.options.access));
    }
    if old.options.attach_as != new.options.attach_as {
        changes.push(format!("attach-as={}", new.options.attach_as));
    }
    match (old.protected, new.protected) {
        (false, true) => changes.push("protected".to_owned()),
        (true, false) => changes.push("not protected any more".to_owned()),
        _ => {}
    }
    changes.join(", ")
}
