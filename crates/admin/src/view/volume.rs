//! Volumes.
#![expect(
    missing_docs,
    reason = "the names are the documentation: they are what JSON shows"
)]

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use vdvs_api::v1;
use vdvs_api::v1::locator::Kind as LocatorKind;

use super::{Tabular, Told, present};
use crate::grid::{Cell, Column, Grid, Row, number, text};
use crate::time::rfc3339;

/// `vdvs volume ls`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VolumeList {
    pub volumes: Vec<Volume>,
    pub unreadable_datastores: Vec<String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    pub policy: Option<String>,
    pub protected: bool,
    pub orphan: bool,
    pub told: Option<Told>,
}

/// The VM that has a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
pub struct Filesystem {
    pub fstype: String,
    pub state: &'static str,
    pub uuid: Option<String>,
}

/// An operation under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
pub struct Removed {
    pub removed: String,
    pub id: String,
}

fn time(unix_ms: i64) -> String {
    rfc3339(unix_ms).unwrap_or_else(|| "unknown".to_owned())
}

impl From<v1::ListAllVolumesReply> for VolumeList {
    fn from(reply: v1::ListAllVolumesReply) -> Self {
        let mut volumes: Vec<_> = reply.volumes.into_iter().map(Volume::from).collect();
        let key = |v: &Volume| (v.datastore.clone(), v.group.clone(), v.name.clone());
        volumes.sort_by_cached_key(key);
        Self {
            volumes,
            unreadable_datastores: reply.unreadable_datastores,
        }
    }
}

/// Read as it comes: one volume with an odd name must not hide the others, least of all from whoever looks for it.
impl From<v1::AdminVolume> for Volume {
    fn from(admin: v1::AdminVolume) -> Self {
        let v = admin.volume.unwrap_or_default();
        let filesystem = Filesystem {
            state: match v.filesystem() {
                v1::FilesystemState::Never => "never",
                v1::FilesystemState::Formatting => "formatting",
                v1::FilesystemState::Ready => "ready",
                v1::FilesystemState::Unknown | v1::FilesystemState::Unspecified => "unknown",
            },
            fstype: v.fstype.clone(),
            uuid: present(v.filesystem_uuid.clone()),
        };
        Self {
            layout: match v.layout() {
                v1::Layout::Root => "root",
                v1::Layout::Data | v1::Layout::Unspecified => "data",
            },
            filesystem,
            id: v.id,
            name: v.name,
            datastore: v.datastore,
            group: v.group,
            size_bytes: v.capacity_bytes,
            used_bytes: v.allocated_bytes,
            state: v.state,
            attachment: v.attachment.map(Attached::from),
            epoch: v.epoch,
            options: v.options.into_iter().collect(),
            created_at: time(v.created_unix_ms),
            created_by: present(v.created_by),
            disk_path: admin.disk_path,
            operation: present(admin.operation).map(|kind| Operation {
                kind,
                since: time(admin.operation_since_unix_ms),
            }),
            waiting: present(v.waiting),
            attention: present(admin.attention),
            policy: present(admin.policy),
            protected: admin.protected,
            orphan: admin.orphan,
            told: present(admin.told_by).and_then(|host| Told::new(&host, admin.told_at_unix_ms)),
        }
    }
}

impl From<v1::Attachment> for Attached {
    fn from(a: v1::Attachment) -> Self {
        let device = a.locator.and_then(|locator| locator.kind);
        Self {
            vm: a.vm_name,
            vm_uuid: a.vm_uuid,
            host: a.host_name,
            since: time(a.since_unix_ms),
            read_only: a.read_only,
            device: device.map(|kind| match kind {
                LocatorKind::Scsi(scsi) => format!(
                    "SCSI controller at PCI slot {}, target {}",
                    scsi.controller_pci_slot, scsi.target
                ),
                LocatorKind::Path(path) => path,
            }),
        }
    }
}

impl Inspection {
    /// A volume with its record.
    #[must_use]
    pub fn new(volume: v1::AdminVolume, record_json: &str) -> Self {
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

/// The original's columns, in its order.
pub const ORIGINAL_COLUMNS: &[&str] = &[
    "volume",
    "datastore",
    "vmgroup",
    "capacity",
    "used",
    "fstype",
    "policy",
    "disk-format",
    "attached-to",
    "access",
    "attach-as",
    "created-by",
    "created",
];

/// All columns: the original's first, then ours.
pub const COLUMNS: &[Column] = &[
    text("volume", "Volume"),
    text("datastore", "Datastore"),
    text("vmgroup", "VMGroup"),
    number("capacity", "Capacity"),
    number("used", "Used"),
    text("fstype", "Filesystem"),
    text("policy", "Policy"),
    text("disk-format", "Disk Format"),
    text("attached-to", "Attached-to"),
    text("access", "Access"),
    text("attach-as", "Attach-as"),
    text("created-by", "Created By"),
    text("created", "Created Date"),
    text("state", "State"),
    text("vm", "VM"),
    text("host", "Host"),
    text("id", "Id"),
    number("epoch", "Epoch"),
    text("protected", "Protected"),
    text("orphan", "Orphan"),
    text("attention", "Attention"),
    text("told-by", "Told By"),
    text("told-at", "Told At"),
];

impl Volume {
    /// An option's value.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.get(key).map(String::as_str)
    }

    /// The VM's name, its UUID where nobody knows the name, or `detached`.
    #[must_use]
    pub fn attached_to(&self) -> &str {
        match &self.attachment {
            Some(a) if a.vm.is_empty() => &a.vm_uuid,
            Some(a) => &a.vm,
            None => "detached",
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let option = |key| Cell::maybe(self.option(key));
        let attached = self.attachment.as_ref();
        vec![
            Cell::text(&self.name),
            Cell::text(&self.datastore),
            if self.orphan {
                Cell::Nothing
            } else {
                Cell::text(&self.group)
            },
            Cell::Size(self.size_bytes),
            Cell::Size(self.used_bytes),
            Cell::text(&self.filesystem.fstype),
            Cell::maybe(self.policy.as_deref()),
            option("diskformat"),
            Cell::text(self.attached_to()),
            option("access"),
            option("attach-as"),
            Cell::maybe(self.created_by.as_deref()),
            Cell::text(&self.created_at),
            Cell::text(&self.state),
            Cell::maybe(attached.map(|a| &a.vm)),
            Cell::maybe(attached.map(|a| &a.host)),
            Cell::text(&self.id),
            Cell::Count(self.epoch),
            Cell::Flag(self.protected),
            Cell::Flag(self.orphan),
            Cell::maybe(self.attention.as_deref()),
            Cell::maybe(self.told.as_ref().map(|t| &t.host)),
            Cell::maybe(self.told.as_ref().and_then(|t| t.at.as_deref())),
        ]
    }
}

impl Tabular for [Volume] {
    fn grid(&self) -> Grid {
        let row = |v: &Volume| Row {
            cells: v.cells(),
            marked: v.attention.is_some() || v.orphan,
        };
        Grid {
            columns: COLUMNS,
            rows: self.iter().map(row).collect(),
        }
    }
}

impl Tabular for VolumeList {
    fn grid(&self) -> Grid {
        self.volumes.grid()
    }
}

impl Tabular for Inspection {
    fn grid(&self) -> Grid {
        Grid {
            columns: COLUMNS,
            rows: vec![Row {
                cells: self.volume.cells(),
                marked: false,
            }],
        }
    }
}

impl Tabular for Removed {
    fn grid(&self) -> Grid {
        const REMOVED: &[Column] = &[text("removed", "Removed"), text("id", "Id")];
        let row = vec![Cell::text(&self.removed), Cell::text(&self.id)];
        Grid::new(REMOVED, [row])
    }
}
