//! What the agent answers an administrator. The command line prints these, so it reads them tolerantly.

use vdvs_domain::{Error, Timestamp};

use super::invalid;
use super::volume::{Volume, time_to_wire};
use crate::v1;

/// A volume as an administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminVolume {
    /// The volume.
    pub volume: Volume,
    /// The operation under way, and since when.
    pub operation: Option<(String, Timestamp)>,
    /// Why a person should look at it.
    pub attention: Option<String>,
    /// Where its descriptor lies.
    pub disk_path: String,
    /// Name of its vSAN policy; empty: none.
    pub policy: String,
    /// It cannot be removed until the protection is lifted.
    pub protected: bool,
    /// Its vmgroup exists no more.
    pub orphan: bool,
    /// The other host that says so, and when it did.
    pub told: Option<(String, Timestamp)>,
}

/// A VM of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminVm {
    /// Name.
    pub name: String,
    /// Instance UUID.
    pub uuid: String,
    /// Configuration file.
    pub config_path: String,
    /// `on`, `off`, `suspended`.
    pub power: String,
    /// Whether a plugin is connected.
    pub connected: bool,
    /// Which plugin said hello last; empty: none yet.
    pub plugin: String,
    /// Its vmgroup; empty: none.
    pub group: String,
    /// Full names of the volumes it holds.
    pub volumes: Vec<String>,
    /// The host it is registered on.
    pub host: String,
    /// When that host said so; none: it is this one.
    pub told_at: Option<Timestamp>,
}

/// A datastore of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatastoreStatus {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: String,
    /// Whether it can be read now.
    pub accessible: bool,
    /// Its size.
    pub capacity_bytes: u64,
    /// Its free room.
    pub free_bytes: u64,
    /// Sum of the volumes' sizes.
    pub provisioned_bytes: u64,
    /// Sum of what they occupy.
    pub used_bytes: u64,
    /// How many there are.
    pub volumes: u32,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

impl From<AdminVolume> for v1::AdminVolume {
    fn from(admin: AdminVolume) -> Self {
        let (operation, since) = admin.operation.unwrap_or_default();
        let (told_by, told_at) = admin.told.unwrap_or_default();
        Self {
            volume: Some(admin.volume.into()),
            operation,
            operation_since_unix_ms: time_to_wire(since),
            attention: admin.attention.unwrap_or_default(),
            disk_path: admin.disk_path,
            policy: admin.policy,
            protected: admin.protected,
            orphan: admin.orphan,
            told_by,
            told_at_unix_ms: time_to_wire(told_at),
        }
    }
}

impl TryFrom<v1::AdminVolume> for AdminVolume {
    type Error = Error;

    fn try_from(wire: v1::AdminVolume) -> Result<Self, Error> {
        let since = u64::try_from(wire.operation_since_unix_ms).unwrap_or_default();
        let told_at = u64::try_from(wire.told_at_unix_ms).unwrap_or_default();
        Ok(Self {
            volume: wire
                .volume
                .ok_or_else(|| invalid("volume", "is missing"))
                .and_then(Volume::try_from)?,
            operation: Some((wire.operation, Timestamp::from_millis(since)))
                .filter(|(verb, _)| !verb.is_empty()),
            attention: Some(wire.attention).filter(|t| !t.is_empty()),
            disk_path: wire.disk_path,
            policy: wire.policy,
            protected: wire.protected,
            orphan: wire.orphan,
            told: Some((wire.told_by, Timestamp::from_millis(told_at)))
                .filter(|(host, _)| !host.is_empty()),
        })
    }
}

impl From<AdminVm> for v1::AdminVm {
    fn from(vm: AdminVm) -> Self {
        Self {
            name: vm.name,
            uuid: vm.uuid,
            config_path: vm.config_path,
            power: vm.power,
            connected: vm.connected,
            plugin: vm.plugin,
            group: vm.group,
            volumes: vm.volumes,
            host: vm.host,
            told_at_unix_ms: vm.told_at.map_or(0, time_to_wire),
        }
    }
}

impl From<v1::AdminVm> for AdminVm {
    fn from(wire: v1::AdminVm) -> Self {
        Self {
            name: wire.name,
            uuid: wire.uuid,
            config_path: wire.config_path,
            power: wire.power,
            connected: wire.connected,
            plugin: wire.plugin,
            group: wire.group,
            volumes: wire.volumes,
            host: wire.host,
            told_at: u64::try_from(wire.told_at_unix_ms)
                .ok()
                .filter(|at| *at != 0)
                .map(Timestamp::from_millis),
        }
    }
}

impl From<DatastoreStatus> for v1::Datastore {
    fn from(ds: DatastoreStatus) -> Self {
        Self {
            name: ds.name,
            r#type: ds.kind,
            accessible: ds.accessible,
            capacity_bytes: ds.capacity_bytes,
            free_bytes: ds.free_bytes,
            provisioned_bytes: ds.provisioned_bytes,
            used_bytes: ds.used_bytes,
            volumes: ds.volumes,
            problem: ds.problem.unwrap_or_default(),
        }
    }
}

impl From<v1::Datastore> for DatastoreStatus {
    fn from(wire: v1::Datastore) -> Self {
        Self {
            name: wire.name,
            kind: wire.r#type,
            accessible: wire.accessible,
            capacity_bytes: wire.capacity_bytes,
            free_bytes: wire.free_bytes,
            provisioned_bytes: wire.provisioned_bytes,
            used_bytes: wire.used_bytes,
            volumes: wire.volumes,
            problem: Some(wire.problem).filter(|t| !t.is_empty()),
        }
    }
}
