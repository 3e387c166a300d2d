//! Moving the document to another home.
//!
//! ```text
//!   1. at the old home: Moving{to}              nobody changes it any more; readers go on reading it here
//!   2. at the new home: the document itself     a version higher
//!   3. at the old home: Moved{to}               from here on everybody reads it there
//!   4. the markers name the new home            by every agent, for the datastores it sees
//! ```
//! Any agent may finish a move at any step, twice, and whoever wants to change the document does it first. So a host
//! that dies between two steps stops nothing, and no change is made on a copy that is about to be left.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error};

use super::document::{Document, Standing};
use super::first_use::First;
use super::init::refused;
use super::state::{Stand, location};
use crate::api::Actor;
use crate::config::ConfigDone;
use crate::inner::Inner;
use crate::layout;
use crate::ports::StorageError;
use crate::swap::Swapped;

const ATTEMPTS: usize = 20;
/// How long one attempt to finish a move may take.
const FINISH: Duration = Duration::from_secs(20);

impl Inner {
    /// `config mv`: the one configuration gets another home.
    pub(super) async fn config_move(
        &self,
        who: &Actor<'_>,
        to: &DatastoreName,
        force: bool,
        dry_run: bool,
    ) -> Result<ConfigDone, Error> {
        let (home, rules) = self.one_home().await?;
        let to = self.datastore_of_config(to).await?;
        if force {
            self.turn_back(who, &home, &to, dry_run).await?;
        }
        if to == home {
            return Err(refused(format!(
                "the configuration lies on datastore {to} already; nothing was changed"
            )));
        }
        let stand = self.answering(&to, self.stand_of(&to)).await?;
        let advice = match &stand {
            Stand::Follows(there) if there.config == rules.config => None,
            Stand::Unused => None,
            Stand::Follows(_) => Some("follows another configuration"),
            Stand::Unmarked => Some("has volumes and follows no configuration"),
            Stand::Removed { .. } => Some("followed a configuration that was removed"),
            Stand::Lost { .. } => Some("names a configuration that is not found"),
        };
        if let Some(advice) = advice {
            return Err(refused(format!(
                "datastore {to} {advice}; put it under this one first with: vdvs config init --datastore {to}, or see: vdvs config status"
            )));
        }
        let mut done = ConfigDone::default();
        done.lines
            .push(format!("Moving {} to {}", location(&home), location(&to)));
        if dry_run {
            return Ok(done);
        }
        if matches!(stand, Stand::Unused) {
            self.mark(&to, &First::Follow(Arc::clone(&rules))).await?;
        }
        self.change_document(&home, who, |document| {
            document.standing = Standing::Moving { to: to.clone() };
            Ok(((), format!("moved from {home} to {to}")))
        })
        .await?;
        let finish = timeout(FINISH, self.finish_move(&home)).await;
        match finish {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return Err(why),
            Err(_) => {
                return Err(refused(format!(
                    "the move to {to} has begun and is not finished; every agent finishes it when both datastores answer. Give it up with: vdvs config mv --to {home} --force"
                )));
            }
        }
        done.lines.extend(self.point_all().await);
        done.lines.push(format!(
            "{home} keeps a trace for hosts that were away; it may go when every host shows the new home in: vdvs config status"
        ));
        Ok(done)
    }

    /// Gives up a move that cannot be finished: the document stays, or goes elsewhere.
    async fn turn_back(
        &self,
        who: &Actor<'_>,
        home: &DatastoreName,
        to: &DatastoreName,
        dry_run: bool,
    ) -> Result<(), Error> {
        let (seen, Some(mut document)) = self.read_document(home).await? else {
            return Ok(());
        };
        let Standing::Moving { to: before } = document.standing.clone() else {
            return Ok(());
        };
        if before == *to || dry_run {
            return Ok(());
        }
        document.standing = Standing::InForce;
        document.version = document.version.saturating_add(1);
        let bytes = document.encode()?;
        let store = &*self.ports.datastores;
        let swapped = layout::config(home).swap(store, &seen, bytes).await;
        match swapped.map_err(|why| unavailable(home, &why))? {
            Swapped::Done(_) => {
                let detail = format!("the move from {home} to {before} was given up");
                let object = format!("configuration on {home}");
                self.audit(*who, "config", object, None, detail).await;
                self.forget_governed();
                Ok(())
            }
            Swapped::Unknown(Some(why)) => Err(unavailable(home, why).into()),
            Swapped::Conflict | Swapped::Unknown(None) => {
                Err(unavailable(home, "other hosts changed it first").into())
            }
        }
    }

    /// Finishes the move that the document on `home` says is under way, if one is.
    pub(super) async fn finish_move(&self, home: &DatastoreName) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let (seen, Some(mut document)) = self.read_document(home).await? else {
                return Ok(());
            };
            let Standing::Moving { to } = document.standing.clone() else {
                return Ok(());
            };
            self.arrive(home, &document, &to).await?;
            document.standing = Standing::Moved {
                config: document.id,
                home: to.clone(),
            };
            document.version = document.version.saturating_add(1);
            let bytes = document.encode()?;
            let store = &*self.ports.datastores;
            let swapped = layout::config(home).swap(store, &seen, bytes).await;
            if let Swapped::Done(_) = swapped.map_err(|why| unavailable(home, &why))? {
                tracing::info!(from = %home, %to, "the configuration moved");
                self.forget_governed();
                return Ok(());
            }
        }
        Err(unavailable(home, "other hosts kept changing it first").into())
    }

    /// Puts the document on its new home, unless it is there already.
    async fn arrive(
        &self,
        home: &DatastoreName,
        document: &Document,
        to: &DatastoreName,
    ) -> Result<(), Error> {
        let store = &*self.ports.datastores;
        let made = store.make_dir(to, &layout::own_dir()).await;
        made.map_err(|why: StorageError| unavailable(to, &why))?;
        for _ in 0..ATTEMPTS {
            let (seen, there) = self.read_document(to).await?;
            let mut next = document.clone();
            next.standing = Standing::InForce;
            next.version = document.version.saturating_add(1);
            if let Some(there) = &there {
                if there.id == document.id && there.version >= next.version {
                    return Ok(());
                }
                if there.id != document.id && there.is_in_force() {
                    return Err(ConfigFault::Refused {
                        text: format!(
                            "datastore {to} is the home of another configuration; put it under this one first with: vdvs config init --datastore {home} --force"
                        ),
                    }
                    .into());
                }
                next.datastore = there.datastore;
                next.absorb(there);
            }
            let bytes = next.encode()?;
            let swapped = layout::config(to).swap(store, &seen, bytes).await;
            if let Swapped::Done(_) = swapped.map_err(|why| unavailable(to, &why))? {
                return Ok(());
            }
        }
        Err(unavailable(to, "other hosts kept changing it first").into())
    }
}

fn unavailable(home: &DatastoreName, why: impl ToString) -> ConfigFault {
    ConfigFault::HomeUnavailable {
        home: home.clone(),
        why: why.to_string(),
    }
}
