//! The first use of a datastore: which configuration it follows, its document, its marker.
//!
//! * The host follows exactly one configuration: the datastore follows that one too. A new datastore is never open where
//!   an old one is locked.
//! * Several: refused; an administrator says which.
//! * None: it gets the first one, in which everybody may do everything. Only when nothing is in doubt: a datastore that
//!   cannot be read, or a copy kept here of one that is not found, may stand for a configuration that is locked.
//!
//! What is decided is a document beside the marker, made by *swap*: the configuration itself, or where it is. So two
//! hosts that use a datastore for the first time at once agree, and the marker follows from it (docs/adr/0020). Two
//! hosts that use two datastores for the first time at once may each make a first configuration; whoever made one looks
//! again, and of those that nobody has changed yet one stays (docs/adr/0055).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use uuid::Uuid;
use vdvs_domain::access::AccessConfig;
use vdvs_domain::governing::ConfigFault;
use vdvs_domain::{DatastoreName, Error};

use super::document::{Document, Standing};
use super::marker::{Marker, MarkerFile};
use super::{Governed, Rules};
use crate::inner::{Inner, unavailable};
use crate::keyed::Key;
use crate::layout;
use crate::ports::{DatastoreInfo, StorageError};
use crate::swap::Swapped;
use crate::swap::frame::{self, Kind};

/// An agent that finds a marker empty gives its maker this long before it finishes the marker itself.
const MARKER_GRACE: Duration = Duration::from_secs(2);
/// How long another datastore may take to say whether it is governed.
const BESIDE: Duration = Duration::from_secs(4);
const MARKER_POLL: Duration = Duration::from_millis(50);
const ATTEMPTS: usize = 10;

/// What a datastore that nobody used yet comes to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum First {
    /// A configuration that is there.
    Follow(Arc<Rules>),
    /// One of its own, in which everybody may do everything.
    Own,
    /// One of its own that says this.
    With(Box<AccessConfig>),
}

impl Inner {
    /// Makes `ds` ready for volumes, if it is fresh; returns its rules.
    pub(crate) async fn establish(&self, ds: &DatastoreName) -> Result<Arc<Rules>, Error> {
        let closed = |why| Error::NotConfigured {
            datastore: ds.clone(),
            why,
        };
        match self.governed_by_itself(ds).await? {
            Governed::By(rules) => return Ok(rules),
            Governed::Not(why) => return Err(closed(why)),
            Governed::Fresh(_) => {}
        }
        let first = self.first_for(ds).await?;
        let _key = self
            .keys
            .hold(Key::Governance(ds.clone()), "first use")
            .await;
        for _ in 0..ATTEMPTS {
            match self.look_up_governed(ds).await? {
                Governed::By(rules) => return Ok(rules),
                Governed::Not(why) => return Err(closed(why)),
                Governed::Fresh(_) => self.make_governed(ds, &first).await?,
            }
        }
        Err(closed("others keep changing it".to_owned()))
    }

    /// The same for a request that was allowed by the rules `asked`. Another host may have been first, and made the
    /// datastore follow what nobody asked here yet.
    pub(crate) async fn establish_as(
        &self,
        ds: &DatastoreName,
        asked: &Rules,
    ) -> Result<(), Error> {
        let rules = self.establish(ds).await?;
        match asked.datastore.is_nil() && asked.access != rules.access {
            true => Err(Error::DatastoreUnavailable {
                datastore: ds.clone(),
                why: "another host uses it for the first time at this moment, try again".to_owned(),
            }),
            false => Ok(()),
        }
    }

    /// What would hold on `ds`, which nobody used yet, after its first use.
    pub(super) async fn governed_if_used(&self, ds: &DatastoreName) -> Governed {
        match self.first_for(ds).await {
            Ok(First::Own | First::With(_)) => Governed::Fresh(Arc::new(Rules::of_nobody(ds))),
            Ok(First::Follow(rules)) => Governed::Fresh(Arc::new(Rules {
                datastore: Uuid::nil(),
                ..Rules::clone(&rules)
            })),
            Err(Error::Config(ConfigFault::FirstInDoubt { doubts, .. })) => {
                let doubts = doubts.join("; ");
                Governed::Not(format!(
                    "nobody used it yet, and it is in doubt whether it may be open to all: {doubts}; decide with: vdvs config init --datastore {ds}"
                ))
            }
            Err(why) => Governed::Not(why.to_string()),
        }
    }

    /// What the first use of `ds` makes it follow.
    async fn first_for(&self, ds: &DatastoreName) -> Result<First, Error> {
        let (found, doubts) = self.configurations_beside(ds).await?;
        let several = || found.values().map(|r| r.home.to_string()).collect();
        match found.values().next() {
            Some(rules) if found.len() == 1 => Ok(First::Follow(Arc::clone(rules))),
            Some(_) => Err(ConfigFault::Several { homes: several() }.into()),
            None if doubts.is_empty() => Ok(First::Own),
            None => Err(ConfigFault::FirstInDoubt {
                datastore: ds.clone(),
                doubts,
            }
            .into()),
        }
    }

    /// The configurations that govern the other datastores, by id with their homes, and what stands in the way of
    /// saying that there are none. One that came to govern `ds` meanwhile is among them.
    pub(super) async fn configurations_beside(
        &self,
        ds: &DatastoreName,
    ) -> Result<(BTreeMap<Uuid, Arc<Rules>>, Vec<String>), Error> {
        let (found, mut doubts) = self.look_beside(ds).await?;
        let nothing = found.is_empty() && doubts.is_empty();
        let kept = self.ports.store.kept_configs().await;
        if !nothing || kept.unwrap_or_default().is_empty() {
            return Ok((found, doubts));
        }
        // Another request of this host may have made the first configuration while this one looked, on another
        // datastore or on this one.
        self.forget_governed();
        let (mut found, again) = self.look_beside(ds).await?;
        doubts.extend(again);
        if found.is_empty()
            && doubts.is_empty()
            && let Governed::By(rules) = self.governed_by_itself(ds).await?
        {
            found.insert(rules.config, rules);
        }
        if found.is_empty() && doubts.is_empty() {
            doubts.push("this host followed a configuration that is not found now".to_owned());
        }
        Ok((found, doubts))
    }

    async fn look_beside(
        &self,
        ds: &DatastoreName,
    ) -> Result<(BTreeMap<Uuid, Arc<Rules>>, Vec<String>), Error> {
        let mut others = self.datastores().await?;
        others.retain(|other| other.name != *ds);
        let look = |other: DatastoreInfo| async move {
            if !other.accessible {
                return None;
            }
            let look = async {
                let governed = self.governed_by_itself(&other.name).await?;
                let marked = match governed {
                    Governed::Not(_) => self.read_marker(&other.name).await? != MarkerFile::Absent,
                    _ => false,
                };
                Ok::<_, Error>((governed, marked))
            };
            timeout(BESIDE, look).await.ok()?.ok()
        };
        let looked = join_all(others.iter().cloned().map(look)).await;
        let (mut found, mut doubts) = (BTreeMap::new(), Vec::new());
        for (other, governed) in others.into_iter().zip(looked) {
            match governed {
                Some((Governed::By(rules), _)) => {
                    found.insert(rules.config, rules);
                }
                Some((Governed::Not(_), true)) => {
                    doubts.push(format!("the configuration of {} was removed", other.name));
                }
                Some((Governed::Fresh(_) | Governed::Not(_), _)) => {}
                None => doubts.push(format!("datastore {} cannot be read", other.name)),
            }
        }
        Ok((found, doubts))
    }

    /// One attempt at the document beside the marker, and the marker.
    pub(super) async fn make_governed(
        &self,
        ds: &DatastoreName,
        first: &First,
    ) -> Result<(), Error> {
        let store = &*self.ports.datastores;
        let failed = |why: StorageError| unavailable(ds, &why);
        store
            .make_dir(ds, &layout::own_dir())
            .await
            .map_err(failed)?;
        let document = self.first_document(ds, first).await?;
        let (config, home) = match &document.standing {
            Standing::Moved { config, home } => (*config, home.clone()),
            _ => (document.id, ds.clone()),
        };
        let marker = Marker {
            datastore: document.datastore,
            layout: 1,
            config,
            home,
        };
        match store.create_new(ds, &layout::marker()).await {
            Ok(()) => {}
            Err(StorageError::AlreadyExists(_)) => {
                if !self.marker_abandoned(ds).await? {
                    return Ok(());
                }
            }
            Err(why) => return Err(failed(why)),
        }
        let bytes = frame::encode(Kind::Marker, &marker)?;
        store
            .write(ds, &layout::marker(), &bytes)
            .await
            .map_err(failed)?;
        let (config, home) = (marker.config, &marker.home);
        tracing::info!(datastore = %ds, %config, %home, "datastore is ready for volumes");
        if marker.home == *ds {
            self.one_of_those_made_at_once(ds).await;
        }
        Ok(())
    }

    /// The document beside the marker: the one that lies there, or a new one. Never one that can be read and that
    /// somebody may replace who has not seen it: the marker follows from it, and nothing reads it again.
    async fn first_document(&self, ds: &DatastoreName, first: &First) -> Result<Document, Error> {
        let store = &*self.ports.datastores;
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            let (seen, found) = self.read_document(ds).await?;
            let document = match found {
                Some(document) if seen.is_settled() => return Ok(document),
                // Another host began before it lay there. Written once more it is settled, or that host was first.
                Some(document) => document,
                None => self.new_document(first),
            };
            let bytes = document.encode()?;
            let swapped = layout::config(ds).swap(store, &seen, bytes).await;
            match swapped.map_err(|why| unavailable(ds, &why))? {
                Swapped::Done(_) => return Ok(document),
                Swapped::Conflict => {}
                Swapped::Unknown(why) => failed = why,
            }
        }
        Err(Error::DatastoreUnavailable {
            datastore: ds.clone(),
            why: failed.map_or_else(
                || "other hosts use it for the first time at this moment, try again".to_owned(),
                |why| why.to_string(),
            ),
        })
    }

    fn new_document(&self, first: &First) -> Document {
        let mut document = Document::open_to_all(self.ports.ids.uuid(), self.ports.ids.uuid());
        document.version = 1;
        match first {
            First::Own => {}
            First::With(access) => document.access = AccessConfig::clone(access),
            First::Follow(rules) => {
                document.access.groups.clear();
                document.standing = Standing::Moved {
                    config: rules.config,
                    home: rules.home.clone(),
                };
            }
        }
        document
    }

    /// Whether a marker that is not whole stays so, on a datastore where still nothing else lies.
    async fn marker_abandoned(&self, ds: &DatastoreName) -> Result<bool, Error> {
        let begun = self.instant();
        while self.instant().saturating_duration_since(begun) < MARKER_GRACE {
            if let MarkerFile::Is(_) = self.read_marker(ds).await? {
                return Ok(false);
            }
            sleep(MARKER_POLL).await;
        }
        self.untouched(ds).await
    }

    /// Looks again after a first configuration was made on `ds`: another host may have made one elsewhere at the same
    /// moment. Each makes first and looks then, so at least one of the two sees both.
    async fn one_of_those_made_at_once(&self, ds: &DatastoreName) {
        self.forget_governed();
        let Ok((found, _)) = self.configurations_beside(ds).await else {
            return;
        };
        let Ok((_, Some(mine))) = self.read_document(ds).await else {
            return;
        };
        let found = found.into_values().map(|r| (r.config, r.home.clone()));
        let mut all: BTreeMap<_, _> = found.collect();
        all.insert(mine.id, ds.clone());
        match self.keep_one(&all).await {
            Ok(()) => {}
            // They stand side by side, and every verb of an administrator says so.
            Err(why) => self
                .said
                .once("two first configurations".to_owned(), &why.to_string()),
        }
    }

    /// Of several configurations, puts those that nobody has changed yet under one: the only one that was changed, or
    /// the one with the lowest id. If several were changed, nothing is done.
    async fn keep_one(&self, all: &BTreeMap<Uuid, DatastoreName>) -> Result<(), Error> {
        let mut changed = Vec::new();
        for (id, home) in all {
            match self.read_document(home).await? {
                (_, Some(document)) if document.id == *id && document.is_pristine() => {}
                _ => changed.push(*id),
            }
        }
        let stays = match changed.as_slice() {
            [] => all.keys().next(),
            [one] => Some(one),
            _ => None,
        };
        let Some((stays, home)) = stays.and_then(|id| all.get_key_value(id)) else {
            return Ok(());
        };
        for (id, from) in all.iter().filter(|(id, _)| *id != stays) {
            let (seen, Some(mut document)) = self.read_document(from).await? else {
                continue;
            };
            if document.id != *id || !document.is_pristine() {
                continue;
            }
            document.standing = Standing::Moved {
                config: *stays,
                home: home.clone(),
            };
            document.version = document.version.saturating_add(1);
            let bytes = document.encode()?;
            let store = &*self.ports.datastores;
            let swapped = layout::config(from).swap(store, &seen, bytes).await;
            if let Swapped::Done(_) = swapped.map_err(|why| unavailable(from, &why))? {
                tracing::info!(%from, %home, "two first configurations were made at once; one stays");
            }
        }
        self.forget_governed();
        Ok(())
    }
}
