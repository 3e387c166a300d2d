//! What the agent answers a guest.

use std::time::Duration;

use prost::Message;
use prost::bytes::Bytes;
use uuid::Uuid;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{DatastoreName, Epoch, Error, Timestamp, VolumeId};

use super::request::millis;
use super::volume::Volume;
use super::{invalid, locator_from_wire, locator_to_wire, uuid, volume_id};
use crate::listing::{self, ListVolumesReply};
use crate::v1;
use crate::version::Range;

/// Answer of `Hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloAnswer {
    /// The version both will speak.
    pub version: u32,
    /// What the agent speaks.
    pub versions: Range,
    /// Its program and version.
    pub program: String,
    /// What else it can do.
    pub features: Vec<String>,
    /// The VM it takes the caller for.
    pub vm_name: String,
    /// That VM's instance UUID.
    pub vm_uuid: Uuid,
    /// The host.
    pub host_name: String,
    /// Its clock; `None`: an older agent, which does not say.
    pub clock: Option<Timestamp>,
}

/// Answer of `AttachVolume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The volume.
    pub volume: Volume,
    /// Epoch of the attachment.
    pub epoch: Epoch,
    /// Where the guest finds the disk.
    pub locator: Locator,
    /// UUID of the disk as the guest's SCSI layer shows it.
    pub disk_uuid: Option<String>,
    /// How long the call waited for another VM.
    pub waited: Duration,
}

/// Answer of `ListVolumes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The volumes.
    pub volumes: Vec<Volume>,
    /// Datastores that could not be read: volumes may be missing here.
    pub unreadable: Vec<DatastoreName>,
}

/// Answer of `ReportInventory`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InventoryAnswer {
    /// Volumes the records say this VM has.
    pub attached: Vec<Volume>,
    /// Reported ones that are stale or not this VM's any more.
    pub superseded: Vec<VolumeId>,
    /// Ones another VM waits for.
    pub wanted: Vec<VolumeId>,
}

/// One message of `Watch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Another VM waits for this volume.
    Wanted {
        /// Which.
        volume: VolumeId,
        /// Who waits.
        by_vm: String,
    },
    /// The attachment of this epoch is over.
    Superseded {
        /// Which volume.
        volume: VolumeId,
        /// Which attachment.
        epoch: Epoch,
    },
}

impl From<HelloAnswer> for v1::HelloReply {
    fn from(hello: HelloAnswer) -> Self {
        Self {
            version: hello.version,
            versions: Some(hello.versions.into()),
            program: hello.program,
            features: hello.features,
            vm_name: hello.vm_name,
            vm_uuid: hello.vm_uuid.to_string(),
            host_name: hello.host_name,
            clock_unix_ms: hello
                .clock
                .map_or(0, |at| i64::try_from(at.millis()).unwrap_or(i64::MAX)),
        }
    }
}

impl TryFrom<v1::HelloReply> for HelloAnswer {
    type Error = Error;

    fn try_from(wire: v1::HelloReply) -> Result<Self, Error> {
        Ok(Self {
            version: wire.version,
            versions: Range::try_from(wire.versions)?,
            program: wire.program,
            features: wire.features,
            vm_name: wire.vm_name,
            vm_uuid: uuid("vm_uuid", &wire.vm_uuid)?,
            host_name: wire.host_name,
            clock: u64::try_from(wire.clock_unix_ms)
                .ok()
                .filter(|millis| *millis > 0)
                .map(Timestamp::from_millis),
        })
    }
}

impl From<Attached> for v1::AttachVolumeReply {
    fn from(attached: Attached) -> Self {
        Self {
            volume: Some(attached.volume.into()),
            epoch: attached.epoch.number(),
            locator: Some(locator_to_wire(attached.locator)),
            disk_uuid: attached.disk_uuid.unwrap_or_default(),
            waited_ms: millis(attached.waited),
        }
    }
}

impl TryFrom<v1::AttachVolumeReply> for Attached {
    type Error = Error;

    fn try_from(wire: v1::AttachVolumeReply) -> Result<Self, Error> {
        Ok(Self {
            volume: required(wire.volume)?,
            epoch: Epoch::new(wire.epoch),
            locator: wire
                .locator
                .ok_or_else(|| invalid("locator", "is missing"))
                .and_then(locator_from_wire)?,
            disk_uuid: Some(wire.disk_uuid).filter(|t| !t.is_empty()),
            waited: Duration::from_millis(wire.waited_ms),
        })
    }
}

/// The volume of a reply that must have one.
fn required(volume: Option<v1::Volume>) -> Result<Volume, Error> {
    volume
        .ok_or_else(|| invalid("volume", "is missing"))
        .and_then(Volume::try_from)
}

impl TryFrom<v1::GetVolumeReply> for Volume {
    type Error = Error;

    fn try_from(wire: v1::GetVolumeReply) -> Result<Self, Error> {
        required(wire.volume)
    }
}

impl TryFrom<v1::CreateVolumeReply> for Volume {
    type Error = Error;

    fn try_from(wire: v1::CreateVolumeReply) -> Result<Self, Error> {
        required(wire.volume)
    }
}

impl From<Listing> for ListVolumesReply {
    fn from(listing: Listing) -> Self {
        let encoded = |volume| listing::encoded(&v1::Volume::from(volume));
        Self {
            encoded: listing.volumes.into_iter().map(encoded).collect(),
            unreadable_datastores: listing.unreadable.into_iter().map(String::from).collect(),
        }
    }
}

impl TryFrom<ListVolumesReply> for Listing {
    type Error = Error;

    fn try_from(wire: ListVolumesReply) -> Result<Self, Error> {
        let read = |bytes: Bytes| {
            let volume = v1::Volume::decode(bytes.as_ref());
            volume
                .map_err(|why| invalid("volumes", &why.to_string()))
                .and_then(Volume::try_from)
        };
        Ok(Self {
            volumes: all(wire.encoded, read)?,
            unreadable: all(wire.unreadable_datastores, |name| {
                Ok(DatastoreName::new(&name)?)
            })?,
        })
    }
}

pub(super) fn all<W, T>(
    wire: Vec<W>,
    read: impl FnMut(W) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    wire.into_iter().map(read).collect()
}

impl From<InventoryAnswer> for v1::ReportInventoryReply {
    fn from(answer: InventoryAnswer) -> Self {
        let ids = |ids: Vec<VolumeId>| ids.iter().map(ToString::to_string).collect();
        Self {
            attached: answer.attached.into_iter().map(v1::Volume::from).collect(),
            superseded_ids: ids(answer.superseded),
            wanted_ids: ids(answer.wanted),
        }
    }
}

impl TryFrom<v1::ReportInventoryReply> for InventoryAnswer {
    type Error = Error;

    fn try_from(wire: v1::ReportInventoryReply) -> Result<Self, Error> {
        Ok(Self {
            attached: all(wire.attached, Volume::try_from)?,
            superseded: all(wire.superseded_ids, |id| volume_id(&id))?,
            wanted: all(wire.wanted_ids, |id| volume_id(&id))?,
        })
    }
}

impl From<Notice> for v1::Notice {
    fn from(notice: Notice) -> Self {
        let kind = match notice {
            Notice::Wanted { volume, by_vm } => v1::notice::Kind::Wanted(v1::Wanted {
                volume_id: volume.to_string(),
                by_vm,
            }),
            Notice::Superseded { volume, epoch } => v1::notice::Kind::Superseded(v1::Superseded {
                volume_id: volume.to_string(),
                epoch: epoch.number(),
            }),
        };
        Self { kind: Some(kind) }
    }
}

impl Notice {
    /// Reads a notice; none for a kind that a newer agent added, which this program can do nothing about.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed id.
    pub fn read(wire: v1::Notice) -> Result<Option<Self>, Error> {
        Ok(match wire.kind {
            None => None,
            Some(v1::notice::Kind::Wanted(wanted)) => Some(Self::Wanted {
                volume: volume_id(&wanted.volume_id)?,
                by_vm: wanted.by_vm,
            }),
            Some(v1::notice::Kind::Superseded(superseded)) => Some(Self::Superseded {
                volume: volume_id(&superseded.volume_id)?,
                epoch: Epoch::new(superseded.epoch),
            }),
        })
    }
}

impl TryFrom<v1::BeginFormatReply> for Uuid {
    type Error = Error;

    fn try_from(wire: v1::BeginFormatReply) -> Result<Self, Error> {
        uuid("filesystem_uuid", &wire.filesystem_uuid)
    }
}

impl TryFrom<v1::DeleteVolumeReply> for VolumeId {
    type Error = Error;

    fn try_from(wire: v1::DeleteVolumeReply) -> Result<Self, Error> {
        volume_id(&wire.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_survive_the_wire_and_unknown_ones_are_passed_over() {
        let volume = VolumeId::new(Uuid::from_u128(9));
        for notice in [
            Notice::Wanted {
                volume,
                by_vm: "swarm03".into(),
            },
            Notice::Superseded {
                volume,
                epoch: Epoch::new(4),
            },
        ] {
            let wire = v1::Notice::from(notice.clone());
            assert_eq!(Notice::read(wire).unwrap(), Some(notice));
        }
        assert_eq!(Notice::read(v1::Notice { kind: None }).unwrap(), None);
    }

    #[test]
    fn a_reply_without_its_volume_is_no_answer() {
        assert!(Volume::try_from(v1::GetVolumeReply { volume: None }).is_err());
        assert!(Attached::try_from(v1::AttachVolumeReply::default()).is_err());
    }
}
