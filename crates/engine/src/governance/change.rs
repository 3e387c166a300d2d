//! Changing the configuration: read the newest, change it, swap; again when somebody else was first.
//!
//! A change is pure, so it may be made on a newer document when the one it was made on was replaced. A change whose
//! swap is *unknown* is looked for by its identity in the history: found, it is settled by one more swap of the same
//! content, because only that makes it stand; not found, it is made anew. So each acknowledged change is there exactly
//! once, and one that is not acknowledged at most once.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;
use vdvs_domain::access::AccessConfig;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error};

use super::document::{Change, Document, Read, Standing, cut};
use super::{Governed, Rules};
use crate::api::Actor;
use crate::inner::Inner;
use crate::keyed::Key;
use crate::layout;
use crate::swap::Swapped;

/// Times a change is tried again because another host was first. Each failure is another host's success.
const ATTEMPTS: usize = 100;
/// Homes a document may have moved through.
const MAX_HOPS: usize = 8;

/// Which changes are made.
#[derive(Debug, Clone, Copy, Default)]
struct How {
    /// Also those that change nothing.
    always: bool,
    /// Also of a document that was removed.
    removed: bool,
}

impl Inner {
    /// Changes the configuration whose document lies on `home`, and writes down who did what. `change` may be called
    /// several times, each time on the newest content. A change that changes nothing writes nothing.
    ///
    /// # Errors
    /// What `change` says; [`ConfigFault::HomeUnavailable`], nothing was changed; [`ConfigFault::Unsettled`].
    pub(crate) async fn change_config<T>(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        mut change: impl FnMut(&mut AccessConfig) -> Result<(T, String), Error>,
    ) -> Result<T, Error> {
        let how = How::default();
        self.change_how(home, who, how, |document| change(&mut document.access))
            .await
    }

    /// The same for the document as a whole; written down even when nothing else changes.
    pub(super) async fn change_document<T>(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        change: impl FnMut(&mut Document) -> Result<(T, String), Error>,
    ) -> Result<T, Error> {
        let how = How {
            always: true,
            ..How::default()
        };
        self.change_how(home, who, how, change).await
    }

    /// The same, and it is in force again if it was removed.
    pub(super) async fn revive_document<T>(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        mut change: impl FnMut(&mut Document) -> Result<(T, String), Error>,
    ) -> Result<T, Error> {
        let how = How {
            always: true,
            removed: true,
        };
        self.change_how(home, who, how, |document| {
            document.standing = Standing::InForce;
            change(document)
        })
        .await
    }

    async fn change_how<T>(
        &self,
        home: &DatastoreName,
        who: &Actor<'_>,
        how: How,
        mut change: impl FnMut(&mut Document) -> Result<(T, String), Error>,
    ) -> Result<T, Error> {
        let _key = self
            .keys
            .hold(Key::Governance(home.clone()), "change of the configuration")
            .await;
        let id = self.ports.ids.uuid();
        // What the last attempt did, when it is not known whether it stands; and whether any attempt was such.
        let mut open: Option<(T, String)> = None;
        let (mut doubt, mut failed) = (false, None);
        let unsettled = |why: String| ConfigFault::Unsettled {
            home: home.clone(),
            why,
        };
        for _ in 0..ATTEMPTS {
            let (place, read) = match self.document_in_force(home, how.removed).await {
                Ok(found) => found,
                Err(why) if doubt => return Err(unsettled(why.to_string()).into()),
                Err(why) => return Err(why),
            };
            let mut next = read.document.clone();
            let stands = read.document.history.iter().any(|c| c.id == id);
            let (value, what) = match open.take().filter(|_| stands) {
                Some(done) => {
                    next.version = next.version.saturating_add(1);
                    done
                }
                None => {
                    let (value, what) = change(&mut next)?;
                    match next == read.document && !how.always {
                        true if read.seen.is_settled() => return Ok(value),
                        true => next.version = next.version.saturating_add(1),
                        false => self.write_down(&mut next, id, who, &what),
                    }
                    (value, what)
                }
            };
            let bytes = next.encode()?;
            let store = &*self.ports.datastores;
            match layout::config(&place).swap(store, &read.seen, bytes).await {
                Ok(Swapped::Done(_)) => {
                    self.forget_governed();
                    let object = format!("configuration on {place}");
                    self.audit(*who, "config", object, None, what).await;
                    return Ok(value);
                }
                Ok(Swapped::Conflict) if stands => open = Some((value, what)),
                Ok(Swapped::Conflict) => {}
                Ok(Swapped::Unknown(why)) => {
                    (open, doubt, failed) = (Some((value, what)), true, why);
                }
                Err(why) if doubt => return Err(unsettled(why.to_string()).into()),
                Err(why) => {
                    return Err(ConfigFault::HomeUnavailable {
                        home: place,
                        why: why.to_string(),
                    }
                    .into());
                }
            }
        }
        let why = failed.map_or_else(
            || "other hosts kept changing it first".to_owned(),
            |why| format!("it cannot be written: {why}"),
        );
        Err(match doubt {
            true => unsettled(why).into(),
            false => ConfigFault::HomeUnavailable {
                home: home.clone(),
                why,
            }
            .into(),
        })
    }

    fn write_down(&self, document: &mut Document, id: Uuid, who: &Actor<'_>, what: &str) {
        document.remember(Change {
            id,
            version: document.version.saturating_add(1),
            at: self.now(),
            who: cut(&who.to_string()),
            host: self.ports.host.identity().name,
            what: cut(what),
        });
    }

    /// The document in force that lies on `home`, or where it moved from there.
    async fn document_in_force(
        &self,
        home: &DatastoreName,
        also_removed: bool,
    ) -> Result<(DatastoreName, Read), Error> {
        let mut place = home.clone();
        for _ in 0..MAX_HOPS {
            let unavailable = |why: String| ConfigFault::HomeUnavailable {
                home: place.clone(),
                why,
            };
            let (seen, document) = match self.read_document(&place).await {
                Ok((seen, Some(document))) => (seen, document),
                Ok((_, None)) => {
                    return Err(unavailable(format!(
                        "no configuration document lies there; if it does not come back, make one from the copy kept here with: vdvs config init --datastore {place} --force"
                    )).into());
                }
                Err(newer @ Error::NewerFormat { .. }) => return Err(newer),
                Err(why) => return Err(unavailable(why.to_string()).into()),
            };
            match &document.standing {
                Standing::InForce => return Ok((place, Read { seen, document })),
                Standing::Moved { home, .. } => place = home.clone(),
                Standing::Moving { .. } => self.finish_move(&place).await?,
                Standing::Removed if also_removed => return Ok((place, Read { seen, document })),
                Standing::Removed => {
                    let by = document.last_change();
                    return Err(ConfigFault::Removed { home: place, by }.into());
                }
            }
        }
        Err(ConfigFault::HomeUnavailable {
            home: place,
            why: "it moved from datastore to datastore in a circle".to_owned(),
        }
        .into())
    }

    /// The configurations this host follows, each once, by home.
    ///
    /// # Errors
    /// When none is followed and some datastore cannot be read: it may be followed from there.
    pub(crate) async fn homes(&self) -> Result<Vec<(DatastoreName, Arc<Rules>)>, Error> {
        let mut found: BTreeMap<Uuid, Arc<Rules>> = BTreeMap::new();
        let mut unread = None;
        for ds in self.datastores().await? {
            match self.governed_in_time(&ds).await {
                Ok(Governed::By(rules)) => {
                    found.entry(rules.config).or_insert(rules);
                }
                Ok(Governed::Fresh(_) | Governed::Not(_)) => {}
                Err(why) => unread = unread.or(Some(why)),
            }
        }
        if let Some(why) = unread.filter(|_| found.is_empty()) {
            return Err(why);
        }
        let mut homes: Vec<_> = found.into_values().map(|r| (r.home.clone(), r)).collect();
        homes.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(homes)
    }

    /// The one configuration this host follows.
    ///
    /// # Errors
    /// [`ConfigFault::InitNeeded`], [`ConfigFault::Several`], and as [`Inner::homes`].
    pub(crate) async fn one_home(&self) -> Result<(DatastoreName, Arc<Rules>), Error> {
        let mut homes = self.homes().await?;
        match (homes.pop(), homes.is_empty()) {
            (Some(one), true) => Ok(one),
            (None, _) => Err(ConfigFault::InitNeeded.into()),
            (Some(last), false) => {
                let all = homes.iter().chain([&last]);
                Err(ConfigFault::Several {
                    homes: all.map(|(home, _)| home.to_string()).collect(),
                }
                .into())
            }
        }
    }
}
