//! Who a VM is and whether it runs.

use tokio::time::Instant;

use crate::{Client, Error, Hardware, MoRef, ObjectContent, Properties};

/// Whether a VM runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerState {
    /// It runs.
    On,
    /// It does not.
    Off,
    /// Its memory is saved: it goes on when it is resumed.
    Suspended,
    /// Anything else, also nothing. Proves nothing.
    Unknown(String),
}

impl PowerState {
    /// Reads the API's word.
    #[must_use]
    pub fn read(text: &str) -> Self {
        match text {
            "poweredOn" => Self::On,
            "poweredOff" => Self::Off,
            "suspended" => Self::Suspended,
            _ => Self::Unknown(text.chars().take(40).collect()),
        }
    }
}

/// A VM as the inventory shows it. While a VM is not readable (its datastore is away) the host leaves fields out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmSummary {
    /// The VM.
    pub object: MoRef,
    /// Display name.
    pub name: String,
    /// Whether it runs.
    pub power: PowerState,
    /// `connected`, `disconnected`, `orphaned`, `inaccessible`, `invalid`.
    pub connection: String,
    /// `config.instanceUuid`, what identifies it.
    pub instance_uuid: Option<String>,
    /// `config.uuid`, the BIOS UUID, which clones repeat.
    pub bios_uuid: Option<String>,
    /// `config.files.vmPathName`: the configuration file, `[datastore] vm/vm.vmx`.
    pub config_file: Option<String>,
    /// `config.version`: virtual hardware, as `vmx-19`.
    pub hardware_version: Option<String>,
    /// `config.template`.
    pub template: bool,
}

const PATHS: &[&str] = &[
    "name",
    "runtime.powerState",
    "runtime.connectionState",
    "config.instanceUuid",
    "config.uuid",
    "config.files.vmPathName",
    "config.version",
    "config.template",
];

impl VmSummary {
    /// Which properties [`VmSummary::read`] reads.
    pub const PATHS: &'static [&'static str] = PATHS;

    /// Reads a VM from its properties.
    #[must_use]
    pub fn read(object: &MoRef, properties: &Properties) -> Self {
        let text = |path: &str| properties.text(path).map(str::to_owned);
        Self {
            object: object.clone(),
            name: text("name").unwrap_or_default(),
            power: PowerState::read(properties.text("runtime.powerState").unwrap_or_default()),
            connection: text("runtime.connectionState").unwrap_or_default(),
            instance_uuid: text("config.instanceUuid"),
            bios_uuid: text("config.uuid"),
            config_file: text("config.files.vmPathName"),
            hardware_version: text("config.version"),
            template: properties
                .get("config.template")
                .and_then(|e| e.flag())
                .unwrap_or(false),
        }
    }
}

impl Client {
    /// Every VM registered here, in any state.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn list_vms(&self, deadline: Instant) -> Result<Vec<VmSummary>, Error> {
        let read = |found: ObjectContent| VmSummary::read(&found.object, &found.properties);
        let found = self.inventory("VirtualMachine", PATHS, deadline).await?;
        Ok(found.into_iter().map(read).collect())
    }

    /// One VM.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn vm(&self, vm: &MoRef, deadline: Instant) -> Result<VmSummary, Error> {
        let properties = self.properties(vm, PATHS, deadline).await?;
        Ok(VmSummary::read(vm, &properties))
    }

    /// One VM with its devices, both of one moment. The devices are as [`Client::hardware`] tells them.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn vm_and_hardware(
        &self,
        vm: &MoRef,
        deadline: Instant,
    ) -> Result<(VmSummary, Option<Hardware>), Error> {
        let mut paths = PATHS.to_vec();
        // A path is named once.
        paths.extend(Hardware::PATHS.iter().filter(|path| !PATHS.contains(path)));
        let properties = self.properties(vm, &paths, deadline).await?;
        Ok((
            VmSummary::read(vm, &properties),
            Hardware::read(&properties),
        ))
    }

    /// `runtime.powerState`, read now.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn power_state(&self, vm: &MoRef, deadline: Instant) -> Result<PowerState, Error> {
        const PATH: &str = "runtime.powerState";
        let properties = self.properties(vm, &[PATH], deadline).await?;
        Ok(PowerState::read(properties.text(PATH).unwrap_or_default()))
    }
}
