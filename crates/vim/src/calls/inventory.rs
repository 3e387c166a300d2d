//! The inventory: every object of a type, wherever it is.
//!
//! A list is one request that walks down from the root. A view, which also shows what comes later, is an object of the
//! session, so only those who watch make one.

use tokio::time::Instant;

use super::property::Objects;
use crate::soap::{Call, Repeat};
use crate::xml::Writer;
use crate::{Client, Error, MoRef, ObjectContent, ServiceContent};

/// A step of the way down: a property of a type that leads to further objects, and the steps that go on from there.
#[derive(Debug)]
struct Step {
    name: &'static str,
    kind: &'static str,
    path: &'static str,
    then: &'static [&'static str],
}

/// The way down to objects of a type, the first step from the root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way(&'static [Step]);

const FOLDER: &str = "folder";
const TO_VMS: &str = "vms";
const TO_HOSTS: &str = "hosts";
const TO_STORES: &str = "stores";
const OF_COMPUTE: &str = "compute";

const fn folders(then: &'static [&'static str]) -> Step {
    Step {
        name: FOLDER,
        kind: "Folder",
        path: "childEntity",
        then,
    }
}

const fn of_datacenter(
    name: &'static str,
    path: &'static str,
    then: &'static [&'static str],
) -> Step {
    Step {
        name,
        kind: "Datacenter",
        path,
        then,
    }
}

/// Steps name each other and so go down any depth of folders.
const VMS: &[Step] = &[
    folders(&[FOLDER, TO_VMS]),
    of_datacenter(TO_VMS, "vmFolder", &[FOLDER]),
];
const HOSTS: &[Step] = &[
    folders(&[FOLDER, TO_HOSTS, OF_COMPUTE]),
    of_datacenter(TO_HOSTS, "hostFolder", &[FOLDER]),
    Step {
        name: OF_COMPUTE,
        kind: "ComputeResource",
        path: "host",
        then: &[],
    },
];
const STORES: &[Step] = &[
    folders(&[FOLDER, TO_STORES]),
    of_datacenter(TO_STORES, "datastore", &[]),
];
const DATACENTERS: &[Step] = &[folders(&[FOLDER])];

impl Way {
    /// The way to objects of a type that lists are made of.
    fn to(kind: &str) -> Option<Self> {
        Some(Self(match kind {
            "VirtualMachine" => VMS,
            "HostSystem" => HOSTS,
            "Datastore" => STORES,
            "Datacenter" => DATACENTERS,
            _ => return None,
        }))
    }

    /// Writes the steps as selections of an object.
    pub(crate) fn write(self, w: &mut Writer) {
        for step in self.0 {
            w.typed("selectSet", "TraversalSpec", |w| {
                w.text("name", step.name);
                w.text("type", step.kind);
                w.text("path", step.path);
                w.flag("skip", false);
                for next in step.then {
                    w.element("selectSet", |w| {
                        w.text("name", next);
                    });
                }
            });
        }
    }
}

impl Client {
    /// Properties of every object of type `kind` (`VirtualMachine`, `HostSystem`, `Datastore`, `Datacenter`; of others
    /// there is no list) that this host or vCenter has.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn inventory(
        &self,
        kind: &'static str,
        paths: &[&str],
        deadline: Instant,
    ) -> Result<Vec<ObjectContent>, Error> {
        let Some(way) = Way::to(kind) else {
            return Ok(Vec::new());
        };
        let root = self.service_content(deadline).await?.root_folder.clone();
        self.retrieve(kind, paths, Objects::Below(&root, way), deadline)
            .await
    }

    /// `CreateContainerView` over the whole inventory. It shows objects as they come and go, and ends with the session.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn create_container_view(
        &self,
        kinds: &[&str],
        deadline: Instant,
    ) -> Result<MoRef, Error> {
        const CALL: &str = "CreateContainerView";
        let content = self.service_content(deadline).await?;
        let this = ServiceContent::need(content.view_manager.as_ref(), "ViewManager", CALL)?;
        // Twice means a view nobody uses, until the session ends.
        let call = Call::new(CALL, Repeat::Safe, &this, |w| {
            w.moref("container", &content.root_folder);
            for kind in kinds {
                w.text("type", kind);
            }
            w.flag("recursive", true);
        });
        self.invoke(call, deadline).await?.need_moref()
    }

    /// `DestroyView`.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn destroy_view(&self, view: &MoRef, deadline: Instant) -> Result<(), Error> {
        let call = Call::new("DestroyView", Repeat::Never, view, |_| ());
        self.invoke(call, deadline).await.map(drop)
    }
}
