//! `SearchIndex`: objects by what identifies them elsewhere.

use tokio::time::Instant;

use crate::soap::{Call, Repeat};
use crate::xml::Element;
use crate::{Client, Error, MoRef, ServiceContent};

impl Client {
    /// `FindByUuid` for VMs: by instance UUID, or by BIOS UUID (which clones repeat).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn find_vm_by_uuid(
        &self,
        uuid: &str,
        instance: bool,
        deadline: Instant,
    ) -> Result<Option<MoRef>, Error> {
        const CALL: &str = "FindByUuid";
        let this = self.search_index(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Safe, &this, |w| {
            w.text("uuid", uuid);
            w.flag("vmSearch", true);
            w.flag("instanceUuid", instance);
        });
        let answer = self.invoke(call, deadline).await?;
        Ok(answer.element.moref_of("returnval"))
    }

    /// `FindAllByUuid` for VMs: more than one when the UUID is repeated.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn find_all_vms_by_uuid(
        &self,
        uuid: &str,
        instance: bool,
        deadline: Instant,
    ) -> Result<Vec<MoRef>, Error> {
        const CALL: &str = "FindAllByUuid";
        let this = self.search_index(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Safe, &this, |w| {
            w.text("uuid", uuid);
            w.flag("vmSearch", true);
            w.flag("instanceUuid", instance);
        });
        let answer = self.invoke(call, deadline).await?;
        Ok(answer
            .element
            .all("returnval")
            .filter_map(Element::moref)
            .collect())
    }

    /// `FindByDatastorePath`: the VM whose configuration file this is (`[datastore] vm/vm.vmx`).
    ///
    /// # Errors
    /// [`Error`]
    pub async fn find_by_datastore_path(
        &self,
        datacenter: &MoRef,
        path: &str,
        deadline: Instant,
    ) -> Result<Option<MoRef>, Error> {
        const CALL: &str = "FindByDatastorePath";
        let this = self.search_index(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Safe, &this, |w| {
            w.moref("datacenter", datacenter);
            w.text("path", path);
        });
        let answer = self.invoke(call, deadline).await?;
        Ok(answer.element.moref_of("returnval"))
    }

    async fn search_index(&self, call: &'static str, deadline: Instant) -> Result<MoRef, Error> {
        let content = self.service_content(deadline).await?;
        ServiceContent::need(content.search_index.as_ref(), "SearchIndex", call)
    }
}
