//! What `docker volume inspect` and `docker volume ls` show.
//!
//! The keys of `Status` are the original's, byte for byte, for scripts that read them; ours lie under `vdvs`.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp as Moment;
use jiff::fmt::strtime::format;
use jiff::tz::TimeZone;
use serde::Serialize;
use vdvs_domain::capacity::human;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{Timestamp, VolumeId};

use super::Volumes;
use crate::agent::{Attachment, Volume};
use crate::journal::Stage;

/// A volume as Docker is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct View {
    /// The spelling asked, or the full name in a list.
    pub name: String,
    /// Where the data is, or will be.
    pub mountpoint: String,
    /// RFC 3339; left out when not known, since Docker refuses an empty one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// For `docker volume inspect`.
    pub status: Shown,
}

/// `Status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<String>,
    #[serde(rename = "attach-as", skip_serializing_if = "Option::is_none")]
    attach_as: Option<String>,
    #[serde(rename = "attached to VM", skip_serializing_if = "Option::is_none")]
    attached_to: Option<String>,
    #[serde(rename = "attachedVMDevice", skip_serializing_if = "Option::is_none")]
    device: Option<BTreeMap<&'static str, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<Sizes>,
    #[serde(rename = "clone-from", skip_serializing_if = "Option::is_none")]
    clone_from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(rename = "created by VM", skip_serializing_if = "Option::is_none")]
    created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datastore: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diskformat: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fstype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    #[serde(rename = "vsan-policy-name", skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    /// Ours.
    pub vdvs: VdvsStatus,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Sizes {
    allocated: String,
    size: String,
}

/// `Status.vdvs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VdvsStatus {
    /// `live`: the agent said so just now. `stale`: from the journal.
    pub answer: &'static str,
    /// Age of a stale answer in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_for_s: Option<u64>,
    /// Volume id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<VolumeId>,
    /// `name@datastore`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_name: Option<String>,
    /// The vmgroup it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmgroup: Option<String>,
    /// Count of its attachments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// What happens when another VM wants it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<String>,
    /// The agent's word for its state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// In this guest: `attached`, `mounted` or `lost`, when it is here at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub here: Option<&'static str>,
    /// Mounts counted in this guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refcount: Option<u64>,
    /// Why it cannot be described or used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

impl View {
    /// It exists, and that is all that can be said.
    pub(super) fn problem(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            mountpoint: String::new(),
            created_at: None,
            status: Shown {
                vdvs: VdvsStatus {
                    answer: "live",
                    problem: Some(text.to_owned()),
                    ..VdvsStatus::default()
                },
                ..Shown::default()
            },
        }
    }
}

impl Volumes {
    /// `stale_for`: milliseconds since the agent last described it; none: just now.
    pub(super) fn view(&self, name: &str, volume: &Volume, stale_for: Option<u64>) -> View {
        let mountpoint = self.mountpoint(volume.id, volume.layout);
        let mut shown = describe(volume, stale_for);
        if let Some(held) = self.book().held.get(&volume.id) {
            shown.vdvs.here = Some(match held.stage {
                Stage::Attached => "attached",
                Stage::Mounted => "mounted",
                Stage::Lost => "lost",
            });
            shown.vdvs.refcount = Some(held.counts.values().map(|c| u64::from(c.count)).sum());
        }
        View {
            name: name.to_owned(),
            mountpoint: utf8(&mountpoint),
            created_at: moment(volume.created).map(|created| created.to_string()),
            status: shown,
        }
    }
}

/// Mount roots are checked to be UTF-8 when settings are read.
pub(crate) fn utf8(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn describe(volume: &Volume, stale_for: Option<u64>) -> Shown {
    let option = |key: &str| volume.options.get(key).cloned();
    Shown {
        access: option("access"),
        attach_as: option("attach-as"),
        attached_to: volume.attachment.as_ref().map(|a| {
            if a.vm.is_empty() {
                a.vm_uuid.clone()
            } else {
                a.vm.clone()
            }
        }),
        device: volume.attachment.as_ref().and_then(device),
        capacity: Some(Sizes {
            allocated: human(volume.allocated),
            size: human(volume.capacity),
        }),
        clone_from: Some(option("clone-from").unwrap_or_else(|| "None".into())),
        created: moment(volume.created).and_then(asctime),
        created_by: Some(volume.created_by.clone()),
        datastore: Some(volume.datastore.to_string()),
        diskformat: option("diskformat"),
        policy: option("vsan-policy-name"),
        fstype: Some(volume.filesystem.fstype.to_string()),
        status: Some(if volume.attachment.is_some() {
            "attached"
        } else {
            "detached"
        }),
        vdvs: VdvsStatus {
            answer: if stale_for.is_some() { "stale" } else { "live" },
            stale_for_s: stale_for.map(|ms| ms / 1000),
            id: Some(volume.id),
            full_name: Some(volume.full_name().to_string()),
            vmgroup: Some(volume.group.clone()),
            epoch: Some(volume.epoch.number()),
            failover: option("failover"),
            state: Some(volume.state.clone()),
            waiting: (!volume.waiting.is_empty()).then(|| volume.waiting.clone()),
            ..VdvsStatus::default()
        },
    }
}

/// The original named the bridge's bus too, which a modern locator does not carry.
fn device(attachment: &Attachment) -> Option<BTreeMap<&'static str, String>> {
    match attachment.locator.as_ref()? {
        Locator::Scsi {
            controller_pci_slot,
            target,
        } => Some(BTreeMap::from([
            ("Unit", target.to_string()),
            ("ControllerPciSlotNumber", controller_pci_slot.to_string()),
        ])),
        Locator::Path(_) => None,
    }
}

fn moment(at: Timestamp) -> Option<Moment> {
    Moment::from_millisecond(i64::try_from(at.millis()).ok()?).ok()
}

/// C's `asctime` in UTC: `Mon Apr 10 14:09:08 2017`.
fn asctime(at: Moment) -> Option<String> {
    format("%a %b %e %H:%M:%S %Y", &at.to_zoned(TimeZone::UTC)).ok()
}
