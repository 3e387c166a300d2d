//! `ServiceInstance`: what this host is and which objects it offers.

use tokio::time::Instant;

use crate::soap::{Call, Repeat};
use crate::xml::Element;
use crate::{Client, Error, MoRef, NotSent};

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Product, as `VMware ESXi 8.0.2 build-…`.
    pub full_name: String,
    /// Product's version, as `8.0.2`.
    pub version: String,
    /// Build.
    pub build: String,
    /// `HostAgent` on a host, `VirtualCenter` on a vCenter.
    pub api_type: String,
    /// Version of the API, as `8.0.2.0`.
    pub api_version: String,
}

/// The objects that exist once per host. Absent ones are not offered by this host (or by a vCenter).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceContent {
    /// Who answers.
    pub about: About,
    /// Root of the inventory.
    pub root_folder: MoRef,
    /// `PropertyCollector`.
    pub property_collector: MoRef,
    /// `SessionManager`.
    pub session_manager: Option<MoRef>,
    /// `ViewManager`.
    pub view_manager: Option<MoRef>,
    /// `SearchIndex`.
    pub search_index: Option<MoRef>,
    /// `FileManager`.
    pub file_manager: Option<MoRef>,
    /// `VirtualDiskManager`.
    pub virtual_disk_manager: Option<MoRef>,
    /// `DatastoreNamespaceManager`.
    pub datastore_namespace_manager: Option<MoRef>,
}

impl ServiceContent {
    /// Whether this is a host by itself, not a vCenter.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.about.api_type == "HostAgent"
    }

    pub(crate) fn read(element: &Element) -> Option<Self> {
        let about = element.child("about")?;
        let text = |field: &str| about.some_text_of(field).unwrap_or_default();
        Some(Self {
            about: About {
                full_name: text("fullName"),
                version: text("version"),
                build: text("build"),
                api_type: text("apiType"),
                api_version: text("apiVersion"),
            },
            root_folder: element.moref_of("rootFolder")?,
            property_collector: element.moref_of("propertyCollector")?,
            session_manager: element.moref_of("sessionManager"),
            view_manager: element.moref_of("viewManager"),
            search_index: element.moref_of("searchIndex"),
            file_manager: element.moref_of("fileManager"),
            virtual_disk_manager: element.moref_of("virtualDiskManager"),
            datastore_namespace_manager: element.moref_of("datastoreNamespaceManager"),
        })
    }

    /// The object, or the error that this host does not offer it.
    pub(crate) fn need(
        object: Option<&MoRef>,
        name: &'static str,
        call: &'static str,
    ) -> Result<MoRef, Error> {
        object.cloned().ok_or(Error::NotSent {
            call,
            why: NotSent::Absent(name),
        })
    }
}

impl Client {
    /// `RetrieveServiceContent`, asked of the host without a session.
    pub(crate) fn retrieve_service_content() -> Call {
        let this = MoRef::new("ServiceInstance", "ServiceInstance");
        Call::new("RetrieveServiceContent", Repeat::Safe, &this, |_| ())
    }

    /// `CurrentTime`: the host's clock, in its own words. Answers as soon as hostd is up; for `--probe`.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn current_time(&self, deadline: Instant) -> Result<String, Error> {
        let this = MoRef::new("ServiceInstance", "ServiceInstance");
        let call = Call::new("CurrentTime", Repeat::Safe, &this, |_| ());
        self.invoke(call, deadline).await?.need_text()
    }
}
