//! `DatastoreNamespaceManager`: top-level folders of vSAN and VVol, where a plain folder is refused.

use tokio::time::Instant;

use crate::soap::{ApiVersion, Call, Repeat};
use crate::{Client, Error, MoRef, ServiceContent};

impl Client {
    /// `CreateDirectory` of the namespace manager. Returns the folder's path by UUID (`/vmfs/volumes/…/…`); the display
    /// name is a link to it. `size_mb` only where the host knows it (7.0.2).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn create_directory(
        &self,
        datastore: &MoRef,
        display_name: &str,
        policy: Option<&str>,
        size_mb: Option<u64>,
        deadline: Instant,
    ) -> Result<String, Error> {
        const CALL: &str = "CreateDirectory";
        let this = self.namespace_manager(CALL, deadline).await?;
        let mut call = Call::new(CALL, Repeat::Never, &this, |w| {
            w.moref("datastore", datastore);
            w.text("displayName", display_name);
            if let Some(policy) = policy {
                w.text("policy", policy);
            }
            if let Some(size) = size_mb {
                w.number("size", size);
            }
        });
        if size_mb.is_some() {
            call = call.since(ApiVersion::V7_0_2);
        }
        self.invoke(call, deadline).await?.need_text()
    }

    /// `DeleteDirectory` of the namespace manager, by the folder's path as [`Client::create_directory`] returned it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn delete_directory(
        &self,
        path: &str,
        datacenter: Option<&MoRef>,
        deadline: Instant,
    ) -> Result<(), Error> {
        const CALL: &str = "DeleteDirectory";
        let this = self.namespace_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Never, &this, |w| {
            if let Some(dc) = datacenter {
                w.moref("datacenter", dc);
            }
            w.text("datastorePath", path);
        });
        self.invoke(call, deadline).await.map(drop)
    }

    /// `ConvertNamespacePathToUuidPath`: where a namespace link leads.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn convert_namespace_path_to_uuid_path(
        &self,
        url: &str,
        datacenter: Option<&MoRef>,
        deadline: Instant,
    ) -> Result<String, Error> {
        const CALL: &str = "ConvertNamespacePathToUuidPath";
        let this = self.namespace_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Safe, &this, |w| {
            if let Some(dc) = datacenter {
                w.moref("datacenter", dc);
            }
            w.text("namespaceUrl", url);
        });
        self.invoke(call, deadline).await?.need_text()
    }

    async fn namespace_manager(
        &self,
        call: &'static str,
        deadline: Instant,
    ) -> Result<MoRef, Error> {
        let content = self.service_content(deadline).await?;
        let manager = content.datastore_namespace_manager.as_ref();
        ServiceContent::need(manager, "DatastoreNamespaceManager", call)
    }
}
