//! `PropertyCollector`: properties of objects, page by page.

use tokio::time::Instant;

use super::inventory::Way;
use crate::soap::{Answer, Call, Repeat, localized};
use crate::xml::{Element, Writer};
use crate::{Client, Error, Fault, MoRef};

/// Objects in one page of an answer. A VM's device list has some tens of kilobytes; [`crate::Limits::ANSWER`] holds
/// several hundred of them.
const PAGE: u32 = 100;

/// Pages followed. Ten thousand objects are more than any host has.
const MOST_PAGES: usize = 100;

/// Properties of one object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    values: Vec<(String, Element)>,
    missing: Vec<(String, Fault)>,
}

impl Properties {
    /// The value at this path, if the object has one.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Element> {
        self.values
            .iter()
            .find(|(name, _)| name == path)
            .map(|(_, value)| value)
    }

    /// The text at this path, unless it is empty.
    #[must_use]
    pub fn text(&self, path: &str) -> Option<&str> {
        self.get(path).map(Element::text).filter(|t| !t.is_empty())
    }

    /// Why the host did not say what is at this path.
    #[must_use]
    pub fn missing(&self, path: &str) -> Option<&Fault> {
        self.missing
            .iter()
            .find(|(name, _)| name == path)
            .map(|(_, fault)| fault)
    }

    /// All values with their paths.
    pub fn values(&self) -> impl Iterator<Item = (&str, &Element)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    pub(crate) fn read(element: &Element) -> Self {
        let values = element
            .all("propSet")
            .filter_map(|p| Some((p.some_text_of("name")?, p.child("val")?.clone())))
            .collect();
        Self {
            values,
            missing: missing(element),
        }
    }
}

/// The properties an object has but does not show.
pub(crate) fn missing(element: &Element) -> Vec<(String, Fault)> {
    let one = |m: &Element| Some((m.some_text_of("path")?, localized(m.child("fault")?)));
    element.all("missingSet").filter_map(one).collect()
}

/// An object and what was asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectContent {
    /// Which object.
    pub object: MoRef,
    /// Its properties.
    pub properties: Properties,
}

/// Which objects a filter is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Objects<'a> {
    /// These.
    Listed(&'a [MoRef]),
    /// Those a view shows.
    Viewed(&'a MoRef),
    /// Those a way down from this object leads to.
    Below(&'a MoRef, Way),
}

/// Writes a `PropertyFilterSpec` for `paths` of objects of type `kind`. No path: no property, only which objects there are.
pub(crate) fn filter_spec(w: &mut Writer, kind: &str, paths: &[&str], objects: Objects<'_>) {
    w.element("propSet", |w| {
        w.text("type", kind);
        w.flag("all", false);
        for path in paths {
            w.text("pathSet", path);
        }
    });
    match objects {
        Objects::Listed(listed) => {
            for object in listed {
                w.element("objectSet", |w| {
                    w.moref("obj", object);
                    w.flag("skip", false);
                });
            }
        }
        Objects::Below(root, way) => {
            w.element("objectSet", |w| {
                w.moref("obj", root);
                w.flag("skip", false);
                way.write(w);
            });
        }
        Objects::Viewed(view) => {
            w.element("objectSet", |w| {
                w.moref("obj", view);
                w.flag("skip", true);
                w.typed("selectSet", "TraversalSpec", |w| {
                    w.text("name", "view");
                    w.text("type", view.kind());
                    w.text("path", "view");
                    w.flag("skip", false);
                });
            });
        }
    }
}

impl Client {
    /// Properties of one object. An object that is gone: [`Error::Refused`] with `ManagedObjectNotFound`.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn properties(
        &self,
        object: &MoRef,
        paths: &[&str],
        deadline: Instant,
    ) -> Result<Properties, Error> {
        let objects = [object.clone()];
        let found = self
            .retrieve(object.kind(), paths, Objects::Listed(&objects), deadline)
            .await?;
        let first = found.into_iter().next();
        Ok(first.map(|o| o.properties).unwrap_or_default())
    }

    /// Properties of several objects of one type. One that is gone fails the whole call.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn properties_of(
        &self,
        kind: &str,
        objects: &[MoRef],
        paths: &[&str],
        deadline: Instant,
    ) -> Result<Vec<ObjectContent>, Error> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        self.retrieve(kind, paths, Objects::Listed(objects), deadline)
            .await
    }

    /// `RetrievePropertiesEx` and `ContinueRetrievePropertiesEx` until there is no more.
    pub(crate) async fn retrieve(
        &self,
        kind: &str,
        paths: &[&str],
        objects: Objects<'_>,
        deadline: Instant,
    ) -> Result<Vec<ObjectContent>, Error> {
        let collector = self
            .service_content(deadline)
            .await?
            .property_collector
            .clone();
        let call = Call::new("RetrievePropertiesEx", Repeat::Safe, &collector, |w| {
            w.element("specSet", |w| filter_spec(w, kind, paths, objects));
            w.element("options", |w| {
                w.number("maxObjects", PAGE);
            });
        });
        let mut answer = self.invoke(call.clone(), deadline).await?;
        if tells_nobody(&answer) {
            // Some hosts answer a stranger with properties he may not see instead of refusing him.
            self.lose_session();
            answer = self.invoke(call, deadline).await?;
        }
        let mut found = Vec::new();
        for _ in 0..MOST_PAGES {
            let Some(token) = take_page(&answer, &mut found)? else {
                return Ok(found);
            };
            // A token counts once and in its session: a lost page is asked for again from the first one, by the caller.
            let next = "ContinueRetrievePropertiesEx";
            let call = Call::new(next, Repeat::Never, &collector, |w| {
                w.text("token", &token);
            });
            answer = self.invoke(call, deadline).await?;
        }
        Err(answer.senseless("it has no end"))
    }
}

/// Whether the host does not know us: nothing is shown for the reason that we are not logged in.
fn tells_nobody(answer: &Answer) -> bool {
    let objects = answer.element.child("returnval");
    objects
        .into_iter()
        .flat_map(|r| r.all("objects"))
        .flat_map(missing)
        .any(|(_, fault)| fault.is_not_authenticated())
}

/// Adds a page; the token of the next one.
fn take_page(answer: &Answer, found: &mut Vec<ObjectContent>) -> Result<Option<String>, Error> {
    // No object at all: no `returnval`.
    let Some(page) = answer.element.child("returnval") else {
        return Ok(None);
    };
    for object in page.all("objects") {
        let reference = object
            .moref_of("obj")
            .ok_or_else(|| answer.senseless("an object without its reference"))?;
        found.push(ObjectContent {
            object: reference,
            properties: Properties::read(object),
        });
    }
    Ok(page.some_text_of("token"))
}
