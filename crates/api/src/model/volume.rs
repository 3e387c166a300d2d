//! A volume as both ends see it.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{
    Access, Capacity, CreateOptions, DatastoreName, Epoch, Error, Filesystem, FilesystemState,
    FsType, GroupName, Layout, Timestamp, VolumeAddress, VolumeId, VolumeName,
};

use super::{invalid, locator_from_wire, locator_to_wire, uuid};
use crate::v1;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Identity.
    pub id: VolumeId,
    /// Name without datastore.
    pub name: VolumeName,
    /// Where it lies.
    pub datastore: DatastoreName,
    /// Its vmgroup.
    pub group: GroupName,
    /// Size of its disk.
    pub capacity: Capacity,
    /// Bytes it occupies; 0: not known.
    pub allocated_bytes: u64,
    /// Its file system.
    pub filesystem: Filesystem,
    /// Where its data lies in the file system.
    pub layout: Layout,
    /// All options by their names; a newer agent may name more than this program knows.
    pub options: BTreeMap<String, String>,
    /// What guests may do.
    pub access: Access,
    /// When it was made.
    pub created_at: Timestamp,
    /// The VM that made it; none: an administrator.
    pub created_by: Option<String>,
    /// Whose it is.
    pub state: State,
    /// Count of attachments.
    pub epoch: Epoch,
    /// What it waits for, in words.
    pub waiting: Option<String>,
}

impl Volume {
    /// `name@datastore`.
    #[must_use]
    pub fn full_name(&self) -> VolumeAddress {
        VolumeAddress {
            name: self.name.clone(),
            datastore: Some(self.datastore.clone()),
        }
    }

    /// The attachment, if it has one.
    #[must_use]
    pub const fn attachment(&self) -> Option<&Attachment> {
        match &self.state {
            State::Attaching(a) | State::Attached(a) | State::Detaching(a) => Some(a),
            State::Free | State::Reading | State::Other(_) => None,
        }
    }
}

/// Whose a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nobody's.
    Free,
    /// Being attached.
    Attaching(Attachment),
    /// Attached.
    Attached(Attachment),
    /// Being detached.
    Detaching(Attachment),
    /// Being read as the source of a clone.
    Reading,
    /// A state of a newer agent, in its word.
    Other(String),
}

impl State {
    /// The word on the wire.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Free => "free",
            Self::Attaching(_) => "attaching",
            Self::Attached(_) => "attached",
            Self::Detaching(_) => "detaching",
            Self::Reading => "reading",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The VM a volume belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub vm_name: String,
    /// Its instance UUID.
    pub vm_uuid: Uuid,
    /// Its host, as far as known.
    pub host_name: String,
    /// Since when.
    pub since: Timestamp,
    /// For reading only.
    pub read_only: bool,
    /// Where it finds the disk, once attached.
    pub locator: Option<Locator>,
}

/// A volume's options by their names in `docker volume create -o`.
#[must_use]
pub fn options_map(capacity: Capacity, options: &CreateOptions) -> BTreeMap<String, String> {
    let size = ("size".to_owned(), capacity.to_string());
    let others = options.pairs().into_iter();
    others
        .map(|(key, value)| (key.to_owned(), value))
        .chain([size])
        .collect()
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|t| !t.is_empty())
}

fn time_from_wire(what: &'static str, millis: i64) -> Result<Timestamp, Error> {
    u64::try_from(millis)
        .map(Timestamp::from_millis)
        .map_err(|_| invalid(what, "is before 1970"))
}

/// Milliseconds as the wire has them; a clock three hundred million years ahead is cut.
pub(super) fn time_to_wire(time: Timestamp) -> i64 {
    i64::try_from(time.millis()).unwrap_or(i64::MAX)
}

impl From<Volume> for v1::Volume {
    fn from(volume: Volume) -> Self {
        let (filesystem, filesystem_uuid) = match volume.filesystem.state {
            FilesystemState::Never => (v1::FilesystemState::Never, None),
            FilesystemState::Formatting { uuid } => (v1::FilesystemState::Formatting, Some(uuid)),
            FilesystemState::Ready { uuid } => (v1::FilesystemState::Ready, Some(uuid)),
            FilesystemState::Unknown => (v1::FilesystemState::Unknown, None),
        };
        let layout = match volume.layout {
            Layout::Data => v1::Layout::Data,
            Layout::Root => v1::Layout::Root,
        };
        Self {
            id: volume.id.to_string(),
            name: volume.name.into(),
            datastore: volume.datastore.into(),
            group: volume.group.into(),
            capacity_bytes: volume.capacity.bytes(),
            allocated_bytes: volume.allocated_bytes,
            fstype: volume.filesystem.fstype.into(),
            filesystem: filesystem.into(),
            filesystem_uuid: filesystem_uuid.map(|u| u.to_string()).unwrap_or_default(),
            layout: layout.into(),
            options: volume.options,
            created_unix_ms: time_to_wire(volume.created_at),
            created_by: volume.created_by.unwrap_or_default(),
            state: volume.state.word().to_owned(),
            attachment: match volume.state {
                State::Attaching(a) | State::Attached(a) | State::Detaching(a) => Some(a.into()),
                State::Free | State::Reading | State::Other(_) => None,
            },
            epoch: volume.epoch.number(),
            waiting: volume.waiting.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::Volume> for Volume {
    type Error = Error;

    fn try_from(wire: v1::Volume) -> Result<Self, Error> {
        // What decides about formatting is read strictly: an unknown word is no permission.
        let state = filesystem_state(wire.filesystem(), &wire.filesystem_uuid)?;
        let layout = match wire.layout() {
            v1::Layout::Data => Layout::Data,
            v1::Layout::Root => Layout::Root,
            v1::Layout::Unspecified => return Err(invalid("layout", "is not known here")),
        };
        let access = match wire.options.get("access") {
            None => Access::default(),
            Some(text) => {
                Access::parse(text).ok_or_else(|| invalid("options.access", "is not known here"))?
            }
        };
        Ok(Self {
            id: uuid("id", &wire.id).map(VolumeId::new)?,
            name: VolumeName::new(&wire.name)?,
            datastore: DatastoreName::new(&wire.datastore)?,
            group: GroupName::new(&wire.group)?,
            capacity: Capacity::from_bytes(wire.capacity_bytes)
                .map_err(|e| invalid("capacity_bytes", &e.to_string()))?,
            allocated_bytes: wire.allocated_bytes,
            filesystem: Filesystem {
                fstype: FsType::new(&wire.fstype)?,
                state,
            },
            layout,
            access,
            created_at: time_from_wire("created_unix_ms", wire.created_unix_ms)?,
            created_by: some(wire.created_by),
            state: ownership(wire.state, wire.attachment)?,
            epoch: Epoch::new(wire.epoch),
            waiting: some(wire.waiting),
            options: wire.options,
        })
    }
}

fn filesystem_state(state: v1::FilesystemState, id: &str) -> Result<FilesystemState, Error> {
    let id = || uuid("filesystem_uuid", id);
    Ok(match state {
        v1::FilesystemState::Never => FilesystemState::Never,
        v1::FilesystemState::Formatting => FilesystemState::Formatting { uuid: id()? },
        v1::FilesystemState::Ready => FilesystemState::Ready { uuid: id()? },
        v1::FilesystemState::Unknown => FilesystemState::Unknown,
        v1::FilesystemState::Unspecified => {
            return Err(invalid("filesystem", "is in a state not known here"));
        }
    })
}

fn ownership(word: String, attachment: Option<v1::Attachment>) -> Result<State, Error> {
    let owner = || {
        attachment
            .ok_or_else(|| invalid("attachment", "is missing"))
            .and_then(Attachment::try_from)
    };
    Ok(match word.as_str() {
        "free" => State::Free,
        "attaching" => State::Attaching(owner()?),
        "attached" => State::Attached(owner()?),
        "detaching" => State::Detaching(owner()?),
        "reading" => State::Reading,
        _ => State::Other(word),
    })
}

impl From<Attachment> for v1::Attachment {
    fn from(attachment: Attachment) -> Self {
        Self {
            vm_name: attachment.vm_name,
            vm_uuid: attachment.vm_uuid.to_string(),
            host_name: attachment.host_name,
            since_unix_ms: time_to_wire(attachment.since),
            read_only: attachment.read_only,
            locator: attachment.locator.map(locator_to_wire),
        }
    }
}

impl TryFrom<v1::Attachment> for Attachment {
    type Error = Error;

    fn try_from(wire: v1::Attachment) -> Result<Self, Error> {
        Ok(Self {
            vm_name: wire.vm_name,
            vm_uuid: uuid("attachment.vm_uuid", &wire.vm_uuid)?,
            host_name: wire.host_name,
            since: time_from_wire("attachment.since_unix_ms", wire.since_unix_ms)?,
            read_only: wire.read_only,
            locator: wire.locator.map(locator_from_wire).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use vdvs_domain::options::GivenOptions;

    use super::*;

    fn volume() -> Volume {
        let capacity = Capacity::DEFAULT;
        Volume {
            id: VolumeId::new(Uuid::from_u128(1)),
            name: VolumeName::new("postgres_postgres_vol").unwrap(),
            datastore: DatastoreName::new("vsanDatastore").unwrap(),
            group: GroupName::default_group(),
            capacity,
            allocated_bytes: 4096,
            filesystem: Filesystem {
                fstype: FsType::ext4(),
                state: FilesystemState::Ready {
                    uuid: Uuid::from_u128(2),
                },
            },
            layout: Layout::Data,
            options: options_map(capacity, &GivenOptions::default().resolve()),
            access: Access::ReadWrite,
            created_at: Timestamp::from_millis(1_700_000_000_000),
            created_by: Some("swarm01".into()),
            state: State::Attached(Attachment {
                vm_name: "swarm02".into(),
                vm_uuid: Uuid::from_u128(3),
                host_name: "esx01".into(),
                since: Timestamp::from_millis(5),
                read_only: false,
                locator: Some(Locator::Path("/dev/loop3".into())),
            }),
            epoch: Epoch::new(7),
            waiting: None,
        }
    }

    #[test]
    fn a_volume_survives_the_wire() {
        let free = Volume {
            state: State::Free,
            created_by: None,
            waiting: Some("swarm03 waits".into()),
            filesystem: Filesystem {
                fstype: FsType::ext4(),
                state: FilesystemState::Never,
            },
            ..volume()
        };
        for volume in [volume(), free] {
            assert_eq!(
                Volume::try_from(v1::Volume::from(volume.clone())).unwrap(),
                volume
            );
        }
    }

    #[test]
    fn what_decides_about_formatting_is_never_guessed() {
        let wire = v1::Volume::from(volume());
        let broken: [fn(&mut v1::Volume); 6] = [
            |w| w.filesystem = 0,
            |w| w.filesystem = 99,
            |w| w.filesystem_uuid.clear(),
            |w| w.layout = 0,
            |w| drop(w.options.insert("access".into(), "sometimes".into())),
            |w| w.id.clear(),
        ];
        for (n, break_it) in broken.into_iter().enumerate() {
            let mut wire = wire.clone();
            break_it(&mut wire);
            assert!(Volume::try_from(wire).is_err(), "case {n}");
        }
    }

    #[test]
    fn what_a_newer_agent_adds_is_kept_for_people() {
        let mut wire = v1::Volume::from(volume());
        wire.state = "frozen".into();
        wire.options.insert("snapshots".into(), "daily".into());
        let volume = Volume::try_from(wire).unwrap();
        assert_eq!(volume.state, State::Other("frozen".into()));
        assert_eq!(volume.options["snapshots"], "daily");
        assert!(volume.attachment().is_none());
    }
}
