//! `ViewManager`: every object of a type, wherever it is in the inventory.

use tokio::time::Instant;

use super::property::Objects;
use crate::soap::{Call, Repeat};
use crate::{Client, Error, MoRef, ObjectContent, ServiceContent};

impl Client {
    /// Properties of every object of type `kind` that this host (or vCenter) has.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn inventory(
        &self,
        kind: &'static str,
        paths: &[&str],
        deadline: Instant,
    ) -> Result<Vec<ObjectContent>, Error> {
        let view = self.create_container_view(&[kind], deadline).await?;
        let found = self
            .retrieve(kind, paths, Objects::Viewed(&view), deadline)
            .await;
        // A view that stays behind ends with the session; what was found counts.
        if let Err(why) = self.destroy_view(&view, deadline).await {
            tracing::debug!(%why, "a view stays until the session ends");
        }
        found
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
