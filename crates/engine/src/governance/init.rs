//! `config init`: a datastore comes to follow a configuration.
//!
//! | the datastore | this host follows none | one | several |
//! |---|---|---|---|
//! | unused, or the original's | a first one, open to all | follows it | refused |
//! | follows one | refused: it does | refused: it does | with force: all follow this one |
//! | its configuration was removed | with force: a new one, open to all | with force: follows it | refused |
//! | its configuration is lost | with force: as the copy kept here says, or with no vmgroup at all | with force: follows it | refused |
//!
//! What was locked is opened by `--force` after `config rm` alone, and then it is said so.

use std::sync::Arc;

use vdvs_domain::access::AccessConfig;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error};

use super::document::{Document, Standing};
use super::first_use::First;
use super::marker::Marker;
use super::state::{Stand, location};
use super::{Governed, Rules};
use crate::api::Actor;
use crate::config::ConfigDone;
use crate::inner::{Inner, unavailable};
use crate::keyed::Key;
use crate::layout;
use crate::swap::Swapped;

const ATTEMPTS: usize = 10;

/// What `config init` is asked.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) datastore: Option<DatastoreName>,
    pub(super) local: bool,
    pub(super) force: bool,
    pub(super) dry_run: bool,
}

/// A refusal in the original's manner.
pub(super) fn refused(text: impl Into<String>) -> Error {
    ConfigFault::Refused { text: text.into() }.into()
}

impl Inner {
    pub(super) async fn config_init(
        &self,
        who: &Actor<'_>,
        ask: &Ask,
    ) -> Result<ConfigDone, Error> {
        let ds = match (&ask.datastore, ask.local) {
            (Some(_), true) => {
                return Err(refused(
                    "Error: only one of '--datastore' or '--local' can be set",
                ));
            }
            (None, false) => {
                return Err(refused(
                    "Error: one of '--datastore' or '--local' have to be set",
                ));
            }
            (Some(asked), false) => self.datastore_of_config(asked).await?,
            (None, true) => self.datastore_for_local().await?,
        };
        let (mut homes, unread) = match self.homes().await {
            Ok(homes) => (homes, None),
            Err(why @ Error::DatastoreUnavailable { .. }) => (Vec::new(), Some(why)),
            Err(_) if ask.force => (Vec::new(), None),
            Err(why) => return Err(why),
        };
        let mut done = self.config_init_on(who, ask, &ds, &mut homes).await?;
        // An administrator decides what a first use does not: it may govern there, and then there are two.
        done.warnings.extend(unread.map(|why| {
            format!("{why}. If a configuration governs there, see then: vdvs config status")
        }));
        Ok(done)
    }

    async fn config_init_on(
        &self,
        who: &Actor<'_>,
        ask: &Ask,
        ds: &DatastoreName,
        homes: &mut Vec<(DatastoreName, Arc<Rules>)>,
    ) -> Result<ConfigDone, Error> {
        let stand = self.answering(ds, self.stand_of(ds)).await?;
        if matches!(stand, Stand::Removed { .. } | Stand::Lost { .. }) {
            // A copy is followed for want of what is to be replaced here.
            homes.retain(|(_, rules)| !rules.kept);
        }
        let several = || {
            let homes = homes.iter().map(|(home, _)| home.to_string()).collect();
            Error::from(ConfigFault::Several { homes })
        };
        match (stand, homes.as_slice()) {
            (Stand::Follows(rules), others) => {
                let mut others: Vec<_> = others.iter().map(|(_, r)| &**r).collect();
                others.retain(|r| r.config != rules.config);
                self.init_again(who, ask, ds, &rules, &others).await
            }
            (_, [_, _, ..]) => Err(several()),
            (Stand::Unused | Stand::Unmarked, [(_, rules)]) => {
                self.init_following(who, ask, ds, rules).await
            }
            (Stand::Unused | Stand::Unmarked, []) => self.init_first(who, ask, ds).await,
            (Stand::Removed { home, by }, _) if !ask.force => {
                Err(ConfigFault::Removed { home, by }.into())
            }
            (Stand::Lost { why, .. }, _) if !ask.force => Err(lost_text(ds, &why)),
            (Stand::Removed { .. } | Stand::Lost { .. }, [(_, rules)]) => {
                self.init_pointing(who, ask, ds, rules).await
            }
            (Stand::Removed { home, .. }, []) => self.init_anew(who, ask, &home).await,
            (Stand::Lost { marker, .. }, []) => self.init_lost(who, ask, ds, marker).await,
        }
    }

    pub(super) async fn datastore_of_config(
        &self,
        asked: &DatastoreName,
    ) -> Result<DatastoreName, Error> {
        let known = self.datastore_named(asked).await.map_err(|why| match why {
            Error::NoSuchDatastore { asked, known } => refused(format!(
                "No such datastore: {asked}; this host has: {known}"
            )),
            other => other,
        })?;
        match known.accessible {
            true => Ok(known.name),
            false => Err(ConfigFault::HomeUnavailable {
                home: known.name,
                why: "it is not accessible".to_owned(),
            }
            .into()),
        }
    }

    /// `--local`: the host's own datastore, when there is no doubt which that is.
    async fn datastore_for_local(&self) -> Result<DatastoreName, Error> {
        let mut known = self.datastores().await?;
        known.retain(|ds| ds.accessible);
        match known.as_slice() {
            [one] => Ok(one.name.clone()),
            several => {
                let names: Vec<&str> = several.iter().map(|d| d.name.as_str()).collect();
                Err(refused(format!(
                    "--local kept the configuration in this host's /etc, which forgets it at a reboot; here it lies on a datastore, and is this host's alone where only this host has the datastore. Say which: vdvs config init --datastore DATASTORE (one of {})",
                    names.join(", ")
                )))
            }
        }
    }

    async fn init_first(
        &self,
        who: &Actor<'_>,
        ask: &Ask,
        ds: &DatastoreName,
    ) -> Result<ConfigDone, Error> {
        if !ask.force
            && let Some(home) = self.one_removed().await?
        {
            return Err(refused(format!(
                "the configuration on datastore {home} was removed, and a new one would be open to all; bring it back with: vdvs config restore FILE, or add '--force' to make a new one"
            )));
        }
        let mut done = ConfigDone::default();
        done.lines
            .push(format!("Creating new DB at {}", location(ds)));
        done.warnings.push(open_to_all(ds));
        if !ask.dry_run {
            self.mark(ds, &First::Own).await?;
            self.change_document(ds, who, |_| {
                Ok(((), format!("configuration made on {ds}, open to all")))
            })
            .await?;
        }
        Ok(done)
    }

    async fn init_following(
        &self,
        who: &Actor<'_>,
        ask: &Ask,
        ds: &DatastoreName,
        rules: &Arc<Rules>,
    ) -> Result<ConfigDone, Error> {
        if !ask.dry_run {
            self.mark(ds, &First::Follow(Arc::clone(rules))).await?;
            self.audit_follow(who, ds, rules).await;
        }
        Ok(follows(ds, rules))
    }

    pub(super) async fn audit_follow(&self, who: &Actor<'_>, ds: &DatastoreName, rules: &Rules) {
        let detail = format!("datastore {ds} follows the configuration on {}", rules.home);
        self.audit(*who, "config", format!("datastore {ds}"), None, detail)
            .await;
    }

    /// Document and marker beside whatever lies there.
    pub(super) async fn mark(&self, ds: &DatastoreName, first: &First) -> Result<(), Error> {
        let _key = self
            .keys
            .hold(Key::Governance(ds.clone()), "config init")
            .await;
        for _ in 0..ATTEMPTS {
            match self.stand_of(ds).await? {
                Stand::Unused | Stand::Unmarked => self.make_governed(ds, first).await?,
                Stand::Follows(_) => {
                    self.forget_governed();
                    return Ok(());
                }
                Stand::Removed { home, by } => {
                    return Err(ConfigFault::Removed { home, by }.into());
                }
                Stand::Lost { why, .. } => return Err(lost_text(ds, &why)),
            }
        }
        Err(unavailable_now(ds))
    }

    /// A datastore that follows one already.
    async fn init_again(
        &self,
        who: &Actor<'_>,
        ask: &Ask,
        ds: &DatastoreName,
        rules: &Rules,
        others: &[&Rules],
    ) -> Result<ConfigDone, Error> {
        if others.is_empty() {
            return Err(refused(format!(
                "Config DB  is already initialized. Use 'rm --local' or 'rm --unlink' to reset. Datastore {ds} follows the configuration on {}; see: vdvs config status",
                rules.home
            )));
        }
        let homes: Vec<String> = others.iter().map(|r| r.home.to_string()).collect();
        if !ask.force {
            return Err(refused(format!(
                "Found Config DB on other datastores. . Add '--force' flag to force the request execution: then what follows {} follows the configuration on {} instead",
                homes.join(", "),
                rules.home
            )));
        }
        let mut done = ConfigDone::default();
        for other in others {
            let groups = other.access.groups.iter();
            let lost = groups.filter(|g| !rules.access.groups.iter().any(|r| r.id == g.id));
            for group in lost {
                done.warnings.push(format!(
                    "vmgroup {} of the configuration on {} is not part of the one on {}: its VMs lose it and its volumes become orphans; move them with: vdvs volume move --to-group",
                    group.name, other.home, rules.home
                ));
            }
            if !ask.dry_run {
                self.put_under(who, other, rules).await?;
            }
            done.lines.push(format!(
                "What followed the configuration on {} follows the one on {}",
                other.home, rules.home
            ));
        }
        if !ask.dry_run {
            self.point_all().await;
        }
        Ok(done)
    }

    /// Leaves a trace to another configuration where this one lies.
    async fn put_under(&self, who: &Actor<'_>, this: &Rules, other: &Rules) -> Result<(), Error> {
        let (config, to) = (other.config, other.home.clone());
        let what = format!("replaced by the configuration on {to}");
        self.change_document(&this.home, who, |document| {
            if document.id == config {
                // It moved meanwhile, and is the other one.
                return Ok(((), String::new()));
            }
            document.standing = Standing::Moved {
                config,
                home: to.clone(),
            };
            Ok(((), what.clone()))
        })
        .await
    }

    /// A datastore whose own configuration is gone follows the one there is.
    async fn init_pointing(
        &self,
        who: &Actor<'_>,
        ask: &Ask,
        ds: &DatastoreName,
        rules: &Rules,
    ) -> Result<ConfigDone, Error> {
        if !ask.dry_run {
            self.write_marker_anew(ds, rules.config, &rules.home)
                .await?;
            self.audit_follow(who, ds, rules).await;
        }
        Ok(follows(ds, rules))
    }

    /// A new configuration where one was removed: all that followed that one follow it.
    async fn init_anew(
        &self,
        who: &Actor<'_>,
        ask: &Ask,
        home: &DatastoreName,
    ) -> Result<ConfigDone, Error> {
        let mut done = ConfigDone::default();
        done.lines
            .push(format!("Creating new DB at {}", location(home)));
        done.warnings.push(open_to_all(home));
        if !ask.dry_run {
            self.revive_document(home, who, |document| {
                document.access = AccessConfig::open_to_all();
                Ok(((), "made anew after it was removed, open to all".to_owned()))
            })
            .await?;
        }
        Ok(done)
    }

    /// A configuration in place of one that is lost.
    async fn init_lost(
        &self,
        who: &Actor<'_>,
        ask: &Ask,
        ds: &DatastoreName,
        marker: Option<Marker>,
    ) -> Result<ConfigDone, Error> {
        let kept = match &marker {
            Some(marker) => self.ports.store.kept_config(marker.config).await,
            None => Ok(None),
        };
        let copy = kept.ok().flatten().and_then(|kept| {
            let document = Document::decode(ds, &kept.bytes).ok().flatten()?;
            document.is_in_force().then_some((document, kept.confirmed))
        });
        let mut done = ConfigDone::default();
        done.lines
            .push(format!("Creating new DB at {}", location(ds)));
        let (from, what) = match copy {
            Some((document, confirmed)) => {
                done.lines.push(format!(
                    "It says what the copy kept on this host says, which was the newest at {confirmed}"
                ));
                let what = format!("made from the copy of {confirmed}, the one before is lost");
                (Some(document), what)
            }
            None => {
                done.warnings.push(
                    "no copy is kept on this host, so it has no vmgroup and lets nobody in; bring back a backup with: vdvs config restore FILE, or open it with: vdvs vmgroup create --name=_DEFAULT".to_owned(),
                );
                (
                    None,
                    "made without vmgroups, the one before is lost".to_owned(),
                )
            }
        };
        if !ask.dry_run {
            self.make_in_place(ds, marker, from).await?;
            self.change_document(ds, who, |_| Ok(((), what.clone())))
                .await?;
        }
        Ok(done)
    }

    /// A document of a new identity on `ds`, and a marker that names it.
    async fn make_in_place(
        &self,
        ds: &DatastoreName,
        marker: Option<Marker>,
        from: Option<Document>,
    ) -> Result<(), Error> {
        let store = &*self.ports.datastores;
        let id = self.ports.ids.uuid();
        let datastore = marker.map_or_else(|| self.ports.ids.uuid(), |m| m.datastore);
        for _ in 0..ATTEMPTS {
            let seen = layout::config(ds).read(store).await;
            let seen = seen.map_err(|why| unavailable(ds, &why))?;
            let mut document = Document::open_to_all(id, datastore);
            document.access.groups.clear();
            if let Some(from) = &from {
                document.access.clone_from(&from.access);
                document.history.clone_from(&from.history);
                document.version = from.version;
            }
            document.version = document.version.saturating_add(1);
            let swapped = layout::config(ds)
                .swap(store, &seen, document.encode()?)
                .await;
            if let Swapped::Done(_) = swapped.map_err(|why| unavailable(ds, &why))? {
                return self.write_marker_anew(ds, id, ds).await;
            }
        }
        Err(unavailable_now(ds))
    }

    /// Every datastore whose marker names a home that was left names the new one.
    pub(crate) async fn point_all(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for info in self.datastores().await.unwrap_or_default() {
            match self.point_one(&info.name).await {
                Ok(Some(home)) => lines.push(format!("Datastore {} follows {home}", info.name)),
                Ok(None) => {}
                Err(why) => lines.push(format!(
                    "Datastore {} still names the old home ({why}); that is put right when it can be reached",
                    info.name
                )),
            }
        }
        lines
    }

    /// The same for one; `Some`: its marker was changed to this home.
    pub(crate) async fn point_one(
        &self,
        ds: &DatastoreName,
    ) -> Result<Option<DatastoreName>, Error> {
        let Governed::By(rules) = self.answering(ds, self.governed_by_itself(ds)).await? else {
            return Ok(None);
        };
        if !rules.follows_a_trace {
            return Ok(None);
        }
        let pointed = self.point_marker(ds, rules.config, &rules.home).await?;
        Ok(pointed.then(|| rules.home.clone()))
    }
}

fn follows(ds: &DatastoreName, rules: &Rules) -> ConfigDone {
    ConfigDone {
        lines: vec![format!(
            "Datastore {ds} follows the configuration on {}",
            rules.home
        )],
        warnings: Vec::new(),
    }
}

fn open_to_all(ds: &DatastoreName) -> String {
    format!(
        "access on {ds} is open to all: every VM may create and delete volumes; make vmgroups, then lock it with: vdvs vmgroup rm --name=_DEFAULT"
    )
}

fn lost_text(ds: &DatastoreName, why: &str) -> Error {
    refused(format!(
        "DB access error at {}: BrokenLink (Broken link or corrupted DB file): {why}. Bring that back, or add '--force' to make a configuration on {ds} in its place",
        location(ds)
    ))
}

fn unavailable_now(ds: &DatastoreName) -> Error {
    ConfigFault::HomeUnavailable {
        home: ds.clone(),
        why: "others keep changing it".to_owned(),
    }
    .into()
}
