//! Where things lie on a datastore.
//!
//! ```text
//! dockvols/.vdvs/datastore.json                   the first marker
//!          .vdvs/datastore.json.<seq>             later ones
//!          .vdvs/config.<seq>                     configuration document, or where it is; on its home datastore
//!          .vdvs/ledger.<vmgroup uuid>.<seq>      ledger of a vmgroup
//!          .vdvs/host.<host id>.<seq>             what a host tells the others
//!          .vdvs/damaged/<folder>/<file>.<crc>    damaged bytes that fsck replaced; nobody reads them
//!          <vmgroup uuid>/<volume>.vdvs           name claim, always in the folder of the volume's vmgroup
//!                         <volume>.<id8>.vdvs.<seq>  record
//!                         <volume>.<id8>.vmdk     disk
//!                         <volume>.vmdk           disk of a volume adopted from the original; its id8 is 00000000
//! ```
//! Disk and record stay for ever in the folder they were made in, side by side: the configuration of a VM may name the
//! disk. A volume that was moved to another vmgroup has its claim there, and the claim names the folder.

use uuid::Uuid;
use vdvs_domain::record::NameClaim;
use vdvs_domain::{DatastoreName, GroupId, VolumeId, VolumeName};

use crate::ports::{DiskPath, DsPath};
use crate::swap::frame::Kind;
use crate::swap::{SharedFile, slot_of};

/// Folder of everything of ours.
pub(crate) const DOCKVOLS: &str = "dockvols";
/// Folder of what is about the datastore as a whole.
pub(crate) const OWN: &str = ".vdvs";
/// File name of the marker.
pub(crate) const MARKER: &str = "datastore.json";
/// Stem of the configuration document.
pub(crate) const CONFIG: &str = "config";
const CLAIM_SUFFIX: &str = ".vdvs";
/// Last eight digits of the ids of adopted volumes, whose disks keep the name they had.
const ADOPTED: &str = "00000000";

fn path(text: &str) -> DsPath {
    DsPath::new(text).expect("constants, UUIDs and checked names hold no separators")
}

/// `dockvols`
pub(crate) fn root() -> DsPath {
    path(DOCKVOLS)
}

/// `dockvols/.vdvs`
pub(crate) fn own_dir() -> DsPath {
    path(&format!("{DOCKVOLS}/{OWN}"))
}

/// `dockvols/policies`, where the original kept vSAN policies.
pub(crate) fn policies() -> DsPath {
    path(&format!("{DOCKVOLS}/policies"))
}

/// The marker.
pub(crate) fn marker() -> DsPath {
    path(&format!("{DOCKVOLS}/{OWN}/{MARKER}"))
}

/// The markers after the first.
pub(crate) fn markers(ds: &DatastoreName) -> SharedFile {
    SharedFile {
        ds: ds.clone(),
        dir: own_dir(),
        stem: MARKER.to_owned(),
        max: Kind::Marker.max_bytes(),
    }
}

/// The configuration document.
pub(crate) fn config(ds: &DatastoreName) -> SharedFile {
    SharedFile {
        ds: ds.clone(),
        dir: own_dir(),
        stem: CONFIG.to_owned(),
        max: Kind::Config.max_bytes(),
    }
}

/// The ledger of a vmgroup.
pub(crate) fn ledger(ds: &DatastoreName, group: GroupId) -> SharedFile {
    SharedFile {
        ds: ds.clone(),
        dir: own_dir(),
        stem: format!("ledger.{group}"),
        max: Kind::Ledger.max_bytes(),
    }
}

/// A vmgroup's folder.
pub(crate) fn group_dir(group: GroupId) -> DsPath {
    path(&format!("{DOCKVOLS}/{group}"))
}

/// A name's claim.
pub(crate) fn claim(group: GroupId, name: &VolumeName) -> DsPath {
    path(&format!("{DOCKVOLS}/{group}/{name}{CLAIM_SUFFIX}"))
}

/// Where the files of one volume lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) ds: DatastoreName,
    /// The vmgroup's folder; not always that of the vmgroup it belongs to.
    pub(crate) folder: GroupId,
    pub(crate) name: VolumeName,
    /// Eight digits of the volume's id.
    pub(crate) id8: String,
}

impl Place {
    pub(crate) fn of(ds: &DatastoreName, folder: GroupId, name: &VolumeName, id: VolumeId) -> Self {
        Self {
            ds: ds.clone(),
            folder,
            name: name.clone(),
            id8: id.id8(),
        }
    }

    /// The place of the volume that has a claim in a vmgroup's folder.
    pub(crate) fn of_claim(ds: &DatastoreName, group: GroupId, claim: &NameClaim) -> Self {
        Self::of(ds, claim.folder.unwrap_or(group), &claim.name, claim.id)
    }

    /// The place of a volume of the original.
    pub(crate) fn adopted(ds: &DatastoreName, folder: GroupId, name: &VolumeName) -> Self {
        Self {
            ds: ds.clone(),
            folder,
            name: name.clone(),
            id8: ADOPTED.to_owned(),
        }
    }

    /// Whether the disk keeps the name that the original gave it.
    pub(crate) fn is_adopted(&self) -> bool {
        self.id8 == ADOPTED
    }

    pub(crate) fn record(&self) -> SharedFile {
        SharedFile {
            ds: self.ds.clone(),
            dir: group_dir(self.folder),
            stem: format!("{}.{}.vdvs", self.name, self.id8),
            max: Kind::Record.max_bytes(),
        }
    }

    pub(crate) fn disk(&self) -> DiskPath {
        let (folder, name, id8) = (self.folder, &self.name, &self.id8);
        let file = match self.is_adopted() {
            true => format!("{DOCKVOLS}/{folder}/{name}.vmdk"),
            false => format!("{DOCKVOLS}/{folder}/{name}.{id8}.vmdk"),
        };
        DiskPath {
            datastore: self.ds.clone(),
            path: path(&file),
        }
    }

    /// The record's name for messages.
    pub(crate) fn what(&self) -> String {
        format!(
            "record [{}] {DOCKVOLS}/{}/{}.{}.vdvs",
            self.ds, self.folder, self.name, self.id8
        )
    }
}

/// `<volume>.<id8>` taken apart.
fn name_and_id8(text: &str) -> Option<(VolumeName, String)> {
    let (name, id8) = text.rsplit_once('.')?;
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (id8.len() == 8 && id8.bytes().all(hex))
        .then(|| Some((VolumeName::new(name).ok()?, id8.to_owned())))
        .flatten()
}

/// What a file in a vmgroup's folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// A claim on a name.
    Claim(VolumeName),
    /// A slot of a record.
    RecordSlot(VolumeName, String),
    /// A disk's descriptor.
    Disk(VolumeName, String),
    /// By its name, a disk of the original.
    Original(VolumeName),
    /// Something else; left alone.
    Other,
}

/// Reads a file name of a vmgroup's folder.
pub(crate) fn classify(entry: &str) -> Found {
    let slot = || {
        let (stem, seq) = entry.rsplit_once('.')?;
        slot_of(entry, stem)?;
        seq.parse::<u64>().ok()?;
        let (name, id8) = name_and_id8(stem.strip_suffix(CLAIM_SUFFIX)?)?;
        Some(Found::RecordSlot(name, id8))
    };
    let claim = || {
        Some(Found::Claim(
            VolumeName::new(entry.strip_suffix(CLAIM_SUFFIX)?).ok()?,
        ))
    };
    let disk = || {
        let (name, id8) = name_and_id8(entry.strip_suffix(".vmdk")?)?;
        // No disk of ours has these digits in its name.
        (id8 != ADOPTED).then_some(Found::Disk(name, id8))
    };
    let original = || {
        let name = VolumeName::new(entry.strip_suffix(".vmdk")?).ok()?;
        Some(Found::Original(name))
    };
    let ours = claim().or_else(slot).or_else(disk);
    ours.or_else(original).unwrap_or(Found::Other)
}

/// The place a disk's path speaks of; `None` for disks that are not ours.
pub(crate) fn place_of_disk(disk: &DiskPath) -> Option<Place> {
    let mut parts = disk.path.as_str().split('/');
    if parts.next() != Some(DOCKVOLS) {
        return None;
    }
    let folder = group_of_dir(parts.next()?)?;
    let (name, id8) = match classify(parts.next()?) {
        Found::Disk(name, id8) => (name, id8),
        Found::Original(name) => (name, ADOPTED.to_owned()),
        _ => return None,
    };
    parts.next().is_none().then_some(Place {
        ds: disk.datastore.clone(),
        folder,
        name,
        id8,
    })
}

/// The vmgroup a folder below `dockvols` belongs to.
pub(crate) fn group_of_dir(name: &str) -> Option<GroupId> {
    let uuid = Uuid::try_parse(name).ok()?;
    (uuid.hyphenated().to_string() == name).then_some(GroupId::new(uuid))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_file_of_a_volume_is_recognised() {
        let name = VolumeName::new("db.1").unwrap();
        let ds = DatastoreName::new("ds").unwrap();
        let id = VolumeId::new(Uuid::from_u128(0xdead_beef));
        let place = Place::of(&ds, GroupId::DEFAULT, &name, id);
        assert_eq!(
            classify(claim(place.folder, &place.name).file_name()),
            Found::Claim(name.clone())
        );
        let slot = format!("{}.7", place.record().stem);
        assert_eq!(
            classify(&slot),
            Found::RecordSlot(name.clone(), "deadbeef".into())
        );
        assert_eq!(
            classify(place.disk().path.file_name()),
            Found::Disk(name, "deadbeef".into())
        );
        assert_eq!(place_of_disk(&place.disk()), Some(place));
        let adopted = Place::adopted(&ds, GroupId::DEFAULT, &VolumeName::new("db").unwrap());
        assert_eq!(adopted.disk().path.file_name(), "db.vmdk");
        assert_eq!(place_of_disk(&adopted.disk()), Some(adopted));
        let odd = VolumeName::new("db.00000000").unwrap();
        assert_eq!(classify("db.00000000.vmdk"), Found::Original(odd));
        for other in [
            "db.1.deadbeef-flat.vmdk",
            "db-000001.vmdk",
            "db.vmfd",
            "x",
            ".vdvs.1",
        ] {
            assert_eq!(classify(other), Found::Other, "{other}");
        }
    }

    proptest! {
        #[test]
        fn no_file_name_panics_and_no_name_is_read_as_two_things(text in ".{1,60}") {
            drop(classify(&text));
            if let Ok(name) = VolumeName::new(&text) {
                let claim = claim(GroupId::DEFAULT, &name);
                prop_assert_eq!(classify(claim.file_name()), Found::Claim(name));
            }
        }
    }
}
