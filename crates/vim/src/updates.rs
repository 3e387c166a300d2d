//! `WaitForUpdatesEx`: what changes, as it changes.
//!
//! A [`Watch`] has a session and connections of its own: a waiter blocks its connection, and another's filter must not
//! show up in its updates.
//!
//! ```text
//!  closed ──open──► watching ──next──► changes, nothing yet, …
//!    ▲                 │
//!    └── any error ────┘     the next `next` opens again; its first changes have `restarted` set and are everything
//! ```
//!
//! A large inventory comes in several updates, all but the last `truncated`: what is missing in them is not gone.

use std::time::Duration;

use tokio::time::Instant;

use crate::calls::property::{Objects, filter_spec};
use crate::soap::{Answer, Call, Repeat};
use crate::xml::Element;
use crate::{Client, Error, MoRef};

/// Objects in one update. The host sends the rest in further ones.
const MOST_OBJECTS: u32 = 100;

/// How much longer than it was asked to wait a host may take to answer.
const GRACE: Duration = Duration::from_secs(15);

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateKind {
    /// It came; its properties follow.
    Enter,
    /// Some properties changed. A kind nobody knows reads as this: look.
    Modify,
    /// It is gone.
    Leave,
}

/// A property's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PropertyChange {
    /// Which property.
    pub path: String,
    /// Its value, none when it has none any more.
    pub value: Option<Element>,
}

/// An object's update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectUpdate {
    /// What happened.
    pub kind: UpdateKind,
    /// To which object.
    pub object: MoRef,
    /// Properties that changed.
    pub changes: Vec<PropertyChange>,
    /// Properties the host does not show now, of which nothing is known.
    pub missing: Vec<String>,
}

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Objects, in the order of their changes.
    pub objects: Vec<ObjectUpdate>,
    /// More follows at once.
    pub truncated: bool,
    /// The watch was opened anew: forget what is known, what follows is everything.
    pub restarted: bool,
}

/// One answer of `WaitForUpdatesEx`.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) version: String,
    pub(crate) objects: Vec<ObjectUpdate>,
    pub(crate) truncated: bool,
}

/// Watches properties of every object of one type.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    kind: &'static str,
    paths: &'static [&'static str],
    open: Option<Open>,
}

/// What a watch has at the host.
#[derive(Debug)]
struct Open {
    collector: MoRef,
    filter: MoRef,
    view: MoRef,
    /// Empty before the first answer.
    version: String,
}

impl Watch {
    /// A watch beside `client`, with a session of its own. Nothing is asked of the host yet.
    #[must_use]
    pub fn new(client: &Client, kind: &'static str, paths: &'static [&'static str]) -> Self {
        Self {
            client: client.separate(),
            kind,
            paths,
            open: None,
        }
    }

    /// The next changes, or none when nothing changed for `wait`. After an error the watch begins anew with the next
    /// call; who calls paces that.
    ///
    /// # Errors
    /// [`Error`]. Nothing is changed by watching, so it never matters what became of a call.
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Changes>, Error> {
        let deadline = Instant::now() + wait + GRACE;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(deadline).await?,
        };
        let fresh = open.version.is_empty();
        let client = &self.client;
        let update = client
            .wait_for_updates(&open.collector, &open.version, wait, deadline)
            .await?;
        let Some(update) = update else {
            self.open = Some(open);
            return Ok(None);
        };
        open.version = update.version;
        self.open = Some(open);
        Ok(Some(Changes {
            objects: update.objects,
            truncated: update.truncated,
            restarted: fresh,
        }))
    }

    /// Ends the watch and its session at the host. Dropping it instead leaves them to expire.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn close(mut self, deadline: Instant) -> Result<(), Error> {
        if let Some(open) = self.open.take() {
            let client = &self.client;
            client.destroy_filter(&open.filter, deadline).await?;
            client.destroy_view(&open.view, deadline).await?;
        }
        self.client.logout(deadline).await
    }

    /// Makes another's [`Watch::next`] return: `CancelWaitForUpdates`. `None` while nothing is being watched.
    #[must_use]
    pub fn canceller(&self) -> Option<Canceller> {
        let open = self.open.as_ref()?;
        Some(Canceller {
            client: self.client.clone(),
            collector: open.collector.clone(),
        })
    }

    async fn begin(&self, deadline: Instant) -> Result<Open, Error> {
        let client = &self.client;
        // A session that failed once is not trusted with what it may have kept: filters, views, versions.
        client.lose_session();
        let collector = client
            .service_content(deadline)
            .await?
            .property_collector
            .clone();
        let view = client.create_container_view(&[self.kind], deadline).await?;
        let objects = Objects::Viewed(&view);
        let filter = client
            .create_filter(&collector, self.kind, self.paths, objects, deadline)
            .await?;
        Ok(Open {
            collector,
            filter,
            view,
            version: String::new(),
        })
    }
}

/// Ends a wait from outside.
#[derive(Debug, Clone)]
pub struct Canceller {
    client: Client,
    collector: MoRef,
}

impl Canceller {
    /// `CancelWaitForUpdates`: the wait ends with `RequestCanceled`.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn cancel(&self, deadline: Instant) -> Result<(), Error> {
        let call = Call::new(
            "CancelWaitForUpdates",
            Repeat::Safe,
            &self.collector,
            |_| (),
        );
        self.client.invoke(call, deadline).await.map(drop)
    }
}

impl Client {
    /// `CreateFilter`.
    pub(crate) async fn create_filter(
        &self,
        collector: &MoRef,
        kind: &str,
        paths: &[&str],
        objects: Objects<'_>,
        deadline: Instant,
    ) -> Result<MoRef, Error> {
        let call = Call::new("CreateFilter", Repeat::Never, collector, |w| {
            w.element("spec", |w| filter_spec(w, kind, paths, objects));
            w.flag("partialUpdates", false);
        });
        self.invoke(call, deadline).await?.need_moref()
    }

    /// `DestroyPropertyFilter`.
    pub(crate) async fn destroy_filter(
        &self,
        filter: &MoRef,
        deadline: Instant,
    ) -> Result<(), Error> {
        let call = Call::new("DestroyPropertyFilter", Repeat::Never, filter, |_| ());
        self.invoke(call, deadline).await.map(drop)
    }

    /// `CreatePropertyCollector`.
    pub(crate) async fn create_property_collector(
        &self,
        deadline: Instant,
    ) -> Result<MoRef, Error> {
        let this = self
            .service_content(deadline)
            .await?
            .property_collector
            .clone();
        let call = Call::new("CreatePropertyCollector", Repeat::Safe, &this, |_| ());
        self.invoke(call, deadline).await?.need_moref()
    }

    /// `DestroyPropertyCollector`.
    pub(crate) async fn destroy_property_collector(
        &self,
        collector: &MoRef,
        deadline: Instant,
    ) -> Result<(), Error> {
        let call = Call::new("DestroyPropertyCollector", Repeat::Never, collector, |_| ());
        self.invoke(call, deadline).await.map(drop)
    }

    /// `WaitForUpdatesEx`: none when nothing changed for `wait`.
    pub(crate) async fn wait_for_updates(
        &self,
        collector: &MoRef,
        version: &str,
        wait: Duration,
        deadline: Instant,
    ) -> Result<Option<Update>, Error> {
        // Sent once: after a lost answer its updates are lost with it, and a repetition would wait for the next ones.
        let call = Call::new("WaitForUpdatesEx", Repeat::Never, collector, |w| {
            w.text("version", version);
            w.element("options", |w| {
                w.number("maxWaitSeconds", wait.as_secs().max(1));
                w.number("maxObjectUpdates", MOST_OBJECTS);
            });
        })
        .waiting();
        let answer = self.invoke(call, deadline).await?;
        let Some(set) = answer.element.child("returnval") else {
            return Ok(None);
        };
        Update::read(&answer, set).map(Some)
    }
}

impl Update {
    fn read(answer: &Answer, set: &Element) -> Result<Self, Error> {
        let version = set
            .some_text_of("version")
            .ok_or_else(|| answer.senseless("an update without a version"))?;
        let mut objects = Vec::new();
        for update in set.all("filterSet").flat_map(|f| f.all("objectSet")) {
            objects.push(ObjectUpdate::read(answer, update)?);
        }
        Ok(Self {
            version,
            objects,
            truncated: set.flag_of("truncated").unwrap_or(false),
        })
    }
}

impl ObjectUpdate {
    fn read(answer: &Answer, update: &Element) -> Result<Self, Error> {
        let object = update
            .moref_of("obj")
            .ok_or_else(|| answer.senseless("an update without its object"))?;
        let kind = match update.text_of("kind") {
            Some("enter") => UpdateKind::Enter,
            Some("leave") => UpdateKind::Leave,
            _ => UpdateKind::Modify,
        };
        let change = |c: &Element| {
            let gone = matches!(c.text_of("op"), Some("remove" | "indirectRemove"));
            Some(PropertyChange {
                path: c.some_text_of("name")?,
                value: if gone { None } else { c.child("val").cloned() },
            })
        };
        let missing = |m: &Element| m.some_text_of("path");
        Ok(Self {
            kind,
            object,
            changes: update.all("changeSet").filter_map(change).collect(),
            missing: update.all("missingSet").filter_map(missing).collect(),
        })
    }
}
