//! What is shown, as data. `--output json` prints exactly these structures: fields are only ever added.
//! Sizes are bytes, times RFC 3339 in UTC, absent things `null`.

use std::collections::BTreeMap;

use jiff::Timestamp as Time;
use serde::Serialize;
use serde_json::Value;
use vdvs_api::model::{AdminVm, AdminVolume, Attachment, DatastoreStatus};
use vdvs_api::v1;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{FilesystemState, Layout, Timestamp};

use crate::agent;

/// `vdvs status`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]
pub struct Status {
    pub program: String,
    pub host_name: String,
    pub host_id: String,
    pub host_kind: String,
    pub uptime_ms: u64,
    pub protocol_min: u32,
    pub protocol_max: u32,
    pub guests_connected: u32,
    pub vms: u32,
    pub volumes: u32,
    pub attached: u32,
    pub unresolved_operations: u32,
    pub open_to_all: bool,
    pub datastores: Vec<Datastore>,
    pub warnings: Vec<String>,
}

/// `vdvs volume ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]
pub struct VolumeList {
    pub volumes: Vec<Volume>,
    pub unreadable_datastores: Vec<String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]
pub struct Volume {
    pub id: String,
    pub name: String,
    pub datastore: String,
    pub group: String,
    pub size_bytes: u64,
    pub used_bytes: u64,
    pub state: String,
    pub attachment: Option<Attached>,
    pub epoch: u64,
    pub filesystem: Filesystem,
    pub layout: &'static str,
    pub options: BTreeMap<String, String>,
    pub created_at: String,
    pub created_by: Option<String>,
    pub disk_path: String,
    pub operation: Option<Operation>,
    pub waiting: Option<String>,
    pub attention: Option<String>,
}

/// The VM that has a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]
pub struct Attached {
    pub vm: String,
    pub vm_uuid: String,
    pub host: String,
    pub since: String,
    pub read_only: bool,
    pub device: Option<String>,
}

/// A volume's file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]
pub struct Filesystem {
    pub fstype: String,
    pub state: &'static str,
    pub uuid: Option<String>,
}

/// An operation under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]
pub struct Operation {
    pub kind: String,
    pub since: String,
}

/// `vdvs volume inspect`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// The volume.
    #[serde(flatten)]
    pub volume: Volume,
    /// Its record as the datastore holds it; `null` when the agent sent none.
    pub record: Value,
}

/// `vdvs volume rm`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]
pub struct Removed {
    pub removed: String,
    pub id: String,
}

/// `vdvs vm ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]
pub struct Vm {
    pub name: String,
    pub uuid: String,
    pub config_path: String,
    pub power: String,
    pub connected: bool,
    pub plugin: Option<String>,
    pub group: Option<String>,
    pub volumes: Vec<String>,
}

/// `vdvs datastore ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]
pub struct Datastore {
    pub name: String,
    pub r#type: String,
    pub accessible: bool,
    pub capacity_bytes: u64,
    pub free_bytes: u64,
    pub provisioned_bytes: u64,
    pub used_bytes: u64,
    pub volumes: u32,
    pub problem: Option<String>,
}

/// RFC 3339, in whole seconds.
fn time(at: Timestamp) -> String {
    i64::try_from(at.millis() / 1000)
        .ok()
        .and_then(|seconds| Time::from_second(seconds).ok())
        .map_or_else(|| "unknown".to_owned(), |t| t.to_string())
}

fn present(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

impl From<v1::StatusReply> for Status {
    fn from(r: v1::StatusReply) -> Self {
        let datastores = r.datastores.into_iter().map(DatastoreStatus::from);
        Self {
            program: r.program,
            host_name: r.host_name,
            host_id: r.host_id,
            host_kind: r.host_kind,
            uptime_ms: r.uptime_ms,
            protocol_min: r.protocol_min,
            protocol_max: r.protocol_max,
            guests_connected: r.guests_connected,
            vms: r.vms,
            volumes: r.volumes,
            attached: r.attached,
            unresolved_operations: r.unresolved_operations,
            open_to_all: r.open_to_all,
            datastores: datastores.map(Datastore::from).collect(),
            warnings: r.warnings,
        }
    }
}

impl From<agent::Volumes> for VolumeList {
    fn from(list: agent::Volumes) -> Self {
        let mut volumes: Vec<_> = list.volumes.into_iter().map(Volume::from).collect();
        let key = |v: &Volume| (v.datastore.clone(), v.group.clone(), v.name.clone());
        volumes.sort_by_cached_key(key);
        Self {
            volumes,
            unreadable_datastores: list.unreadable,
        }
    }
}

impl From<AdminVolume> for Volume {
    fn from(admin: AdminVolume) -> Self {
        let v = admin.volume;
        let state = v.state.word().to_owned();
        let attachment = v.attachment().map(Attached::from);
        let (fs_state, fs_uuid) = match v.filesystem.state {
            FilesystemState::Never => ("never", None),
            FilesystemState::Formatting { uuid } => ("formatting", Some(uuid)),
            FilesystemState::Ready { uuid } => ("ready", Some(uuid)),
            FilesystemState::Unknown => ("unknown", None),
        };
        Self {
            id: v.id.to_string(),
            name: v.name.to_string(),
            datastore: v.datastore.to_string(),
            group: v.group.to_string(),
            size_bytes: v.capacity.bytes(),
            used_bytes: v.allocated_bytes,
            state,
            attachment,
            epoch: v.epoch.number(),
            filesystem: Filesystem {
                fstype: v.filesystem.fstype.to_string(),
                state: fs_state,
                uuid: fs_uuid.map(|u| u.to_string()),
            },
            layout: match v.layout {
                Layout::Data => "data",
                Layout::Root => "root",
            },
            options: v.options,
            created_at: time(v.created_at),
            created_by: v.created_by,
            disk_path: admin.disk_path,
            operation: admin.operation.map(|(kind, since)| Operation {
                kind,
                since: time(since),
            }),
            waiting: v.waiting,
            attention: admin.attention,
        }
    }
}

impl From<&Attachment> for Attached {
    fn from(a: &Attachment) -> Self {
        Self {
            vm: a.vm_name.clone(),
            vm_uuid: a.vm_uuid.to_string(),
            host: a.host_name.clone(),
            since: time(a.since),
            read_only: a.read_only,
            device: a.locator.as_ref().map(|l| match l {
                Locator::Scsi {
                    controller_pci_slot,
                    target,
                } => format!("SCSI controller at PCI slot {controller_pci_slot}, target {target}"),
                Locator::Path(path) => path.clone(),
            }),
        }
    }
}

impl Inspection {
    /// A volume with its record.
    #[must_use]
    pub fn new(volume: AdminVolume, record_json: &str) -> Self {
        Self {
            volume: volume.into(),
            // A record that is not JSON is shown as the text it is.
            record: match serde_json::from_str(record_json) {
                Ok(value) => value,
                Err(_) if record_json.is_empty() => Value::Null,
                Err(_) => Value::String(record_json.to_owned()),
            },
        }
    }
}

impl From<AdminVm> for Vm {
    fn from(vm: AdminVm) -> Self {
        Self {
            name: vm.name,
            uuid: vm.uuid,
            config_path: vm.config_path,
            power: vm.power,
            connected: vm.connected,
            plugin: present(vm.plugin),
            group: present(vm.group),
            volumes: vm.volumes,
        }
    }
}

impl From<DatastoreStatus> for Datastore {
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
            problem: ds.problem,
        }
    }
}
