//! `HostSystem`.

use tokio::time::Instant;

use crate::xml::Element;
use crate::{Client, Error, MoRef, ObjectContent};

/// A host: one on a host by itself, several on a vCenter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSystem {
    /// The host.
    pub object: MoRef,
    /// Its name.
    pub name: String,
    /// `hardware.systemInfo.uuid`: the machine's, which survives re-installation.
    pub uuid: Option<String>,
    /// `runtime.connectionState`
    pub connection: String,
    /// `runtime.inMaintenanceMode`
    pub in_maintenance: bool,
    /// `configManager.datastoreSystem`
    pub datastore_system: Option<MoRef>,
    /// `datastore`: the datastores it has mounted.
    pub datastores: Vec<MoRef>,
}

const PATHS: &[&str] = &[
    "name",
    "hardware.systemInfo.uuid",
    "runtime.connectionState",
    "runtime.inMaintenanceMode",
    "configManager.datastoreSystem",
    "datastore",
];

impl HostSystem {
    fn read(found: ObjectContent) -> Self {
        let properties = found.properties;
        let text = |path: &str| properties.text(path).map(str::to_owned);
        let flag = |path: &str| properties.get(path).and_then(Element::flag);
        let moref = |path: &str| properties.get(path).and_then(Element::moref);
        let datastores = properties.get("datastore");
        Self {
            name: text("name").unwrap_or_default(),
            uuid: text("hardware.systemInfo.uuid"),
            connection: text("runtime.connectionState").unwrap_or_default(),
            in_maintenance: flag("runtime.inMaintenanceMode").unwrap_or(false),
            datastore_system: moref("configManager.datastoreSystem"),
            datastores: datastores
                .into_iter()
                .flat_map(Element::children)
                .filter_map(Element::moref)
                .collect(),
            object: found.object,
        }
    }
}

impl Client {
    /// Every host: exactly one where [`crate::ServiceContent::is_host`].
    ///
    /// # Errors
    /// [`Error`]
    pub async fn list_hosts(&self, deadline: Instant) -> Result<Vec<HostSystem>, Error> {
        let found = self.inventory("HostSystem", PATHS, deadline).await?;
        Ok(found.into_iter().map(HostSystem::read).collect())
    }

    /// The datacenters: `ha-datacenter` on a host by itself.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn list_datacenters(&self, deadline: Instant) -> Result<Vec<(MoRef, String)>, Error> {
        let found = self.inventory("Datacenter", &["name"], deadline).await?;
        let name = |o: &ObjectContent| o.properties.text("name").unwrap_or_default().to_owned();
        Ok(found
            .into_iter()
            .map(|o| (o.object.clone(), name(&o)))
            .collect())
    }
}
