//! Backups of the configuration as JSON, and bringing one back.

use std::collections::HashSet;
use std::mem;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vdvs_domain::access::{AccessConfig, Members};
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error, GroupId, Timestamp};

use super::document::Document;
use super::init::refused;
use super::words::differences;
use crate::api::Actor;
use crate::config::ConfigDone;
use crate::inner::Inner;

/// What a backup says it is.
const WHAT: &str = "vdvs configuration";
/// Newest format this program writes and reads.
const FORMAT: u32 = 1;

/// A backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Backup {
    /// [`WHAT`].
    what: String,
    format: u32,
    config: Uuid,
    home: DatastoreName,
    version: u64,
    saved: Timestamp,
    access: AccessConfig,
}

impl Backup {
    pub(super) fn of(document: &Document, home: &DatastoreName, now: Timestamp) -> Self {
        let mut access = document.access.clone();
        // What is on its way is no part of what was configured.
        access.transfers.clear();
        Self {
            what: WHAT.to_owned(),
            format: FORMAT,
            config: document.id,
            home: home.clone(),
            version: document.version,
            saved: now,
            access,
        }
    }

    pub(super) fn to_json(&self) -> Result<String, Error> {
        serde_json::to_string_pretty(self)
            .map_err(|why| Error::Internal(format!("a backup cannot be written: {why}")))
    }

    fn parse(json: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Head {
            what: String,
            format: u32,
        }
        let damaged = |why: serde_json::Error| {
            refused(format!(
                "the file is no backup of a configuration ({why}); nothing was changed. Backups are made with: vdvs config backup"
            ))
        };
        let head: Head = serde_json::from_str(json).map_err(damaged)?;
        if head.what != WHAT {
            return Err(refused(format!(
                "the file says that it is a '{}', not a '{WHAT}'; nothing was changed",
                head.what.chars().take(40).collect::<String>()
            )));
        }
        if head.format > FORMAT {
            return Err(Error::NewerFormat {
                what: "the backup".to_owned(),
                found: head.format,
                known: FORMAT,
            });
        }
        let backup: Self = serde_json::from_str(json).map_err(damaged)?;
        sound(&backup.access)?;
        Ok(backup)
    }
}

/// Whether a configuration that people may have written by hand can be in force.
pub(super) fn sound(access: &AccessConfig) -> Result<(), Error> {
    let (mut ids, mut names, mut vms) = (HashSet::new(), HashSet::new(), HashSet::new());
    let wrong = |what: String| Err(refused(format!("{what}; nothing was changed")));
    for group in &access.groups {
        if !ids.insert(group.id) || !names.insert(&group.name) {
            return wrong(format!("vmgroup {} is there twice", group.name));
        }
        let others = matches!(group.members, Members::Others);
        if others != (group.id == GroupId::DEFAULT) {
            return wrong(format!(
                "vmgroup {}: only _DEFAULT stands for every VM that no other vmgroup names, and it always does",
                group.name
            ));
        }
        for vm in group.vms() {
            if !vms.insert(vm.uuid) {
                return wrong(format!("VM {} belongs to two vmgroups", vm.name));
            }
        }
        let mut scopes = Vec::new();
        for privilege in &group.privileges {
            if scopes.contains(&&privilege.datastore) {
                return wrong(format!(
                    "vmgroup {} has two privileges for {}",
                    group.name, privilege.datastore
                ));
            }
            scopes.push(&privilege.datastore);
        }
    }
    Ok(())
}

impl Inner {
    /// The configuration in force, as JSON.
    pub(crate) async fn config_backup(&self) -> Result<String, Error> {
        let (home, rules) = self.one_home().await?;
        let document = self.newest_of(&rules).await.ok_or_else(|| {
            Error::from(ConfigFault::HomeUnavailable {
                home: home.clone(),
                why: "it cannot be read".to_owned(),
            })
        })?;
        Backup::of(&document, &home, self.now()).to_json()
    }

    /// `config restore`.
    pub(super) async fn config_restore(
        &self,
        who: &Actor<'_>,
        json: &str,
        dry_run: bool,
    ) -> Result<ConfigDone, Error> {
        let backup = Backup::parse(json)?;
        let (home, now) = self.home_or_removed().await?;
        let mut done = ConfigDone {
            lines: differences(&now, &backup.access),
            warnings: Vec::new(),
        };
        if done.lines.is_empty() {
            done.lines
                .push("The configuration is as the backup says; nothing differs".to_owned());
        }
        if dry_run {
            return Ok(done);
        }
        let what = format!(
            "restored from the backup of version {} of {}",
            backup.version, backup.saved
        );
        self.revive_document(&home, who, |document| {
            let transfers = mem::take(&mut document.access.transfers);
            document.access.clone_from(&backup.access);
            document.access.transfers = transfers;
            Ok(((), what.clone()))
        })
        .await?;
        Ok(done)
    }

    /// Where a restored or imported configuration goes, and what is in force there: nothing, when it was removed.
    pub(super) async fn home_or_removed(&self) -> Result<(DatastoreName, AccessConfig), Error> {
        match self.one_home().await {
            Ok((home, rules)) => Ok((home, rules.access.clone())),
            Err(Error::Config(ConfigFault::InitNeeded)) => match self.one_removed().await? {
                Some(home) => {
                    let nothing = AccessConfig {
                        groups: Vec::new(),
                        policies: Vec::new(),
                        transfers: Vec::new(),
                    };
                    Ok((home, nothing))
                }
                None => Err(ConfigFault::InitNeeded.into()),
            },
            Err(why) => Err(why),
        }
    }
}
