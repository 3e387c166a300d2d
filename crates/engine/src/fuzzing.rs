//! What fuzzers check of this crate (`docs/fuzzing.md`). Each function panics when a promise does not hold.
//!
//! A fuzzer does not guess checksums. So each file is tried as it comes, and again as the body of a frame whose header
//! is right.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;
use vdvs_domain::record::NameClaim;
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeName, VolumeRecord};

use crate::adopt::original;
use crate::governance::{Document, Marker};
use crate::hosts::HostFile;
use crate::layout::{Found, Place, claim, classify, group_of_dir, place_of_disk};
use crate::ledger::Ledger;
use crate::ports::{DiskPath, DsPath};
use crate::swap::frame::{self, Kind};
use crate::swap::slot_of;

/// Longest file name there is.
const MAX_FILE_NAME: usize = 255;

/// Slots of shared files: a torn one holds nothing, a whole one has the header that a writer writes, and what was read
/// is written back unchanged.
pub fn slots(bytes: &[u8]) {
    if !frame::is_whole(bytes) {
        assert!(matches!(
            read::<VolumeRecord>(Kind::Record, bytes),
            Ok(None)
        ));
    }
    for kind in [
        Kind::Marker,
        Kind::Config,
        Kind::Claim,
        Kind::Record,
        Kind::Ledger,
        Kind::Host,
    ] {
        all_of(kind, bytes);
        all_of(kind, &frame::around(kind, bytes));
    }
}

fn all_of(kind: Kind, bytes: &[u8]) {
    match kind {
        Kind::Marker => survives::<Marker>(kind, bytes),
        Kind::Config => survives::<Document>(kind, bytes),
        Kind::Claim => survives::<NameClaim>(kind, bytes),
        Kind::Record => survives::<VolumeRecord>(kind, bytes),
        Kind::Ledger => survives::<Ledger>(kind, bytes),
        Kind::Host => survives::<HostFile>(kind, bytes),
    }
}

fn read<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Result<Option<T>, Error> {
    frame::decode(kind, bytes, || "the slot".to_owned())
}

fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(kind: Kind, bytes: &[u8]) {
    let Ok(Some(value)) = read::<T>(kind, bytes) else {
        return;
    };
    let body = bytes.iter().position(|b| *b == b'\n').unwrap_or_default() + 1;
    let written = frame::around(kind, bytes.get(body..).unwrap_or_default());
    // Older formats have the header of their time.
    assert!(
        bytes == written || frame::is_older(kind, bytes),
        "a whole file has the header that a writer writes"
    );
    // Files above a kind's bound are not read at all, and so need not be writable.
    if bytes.len() > kind.max_bytes() / 2 {
        return;
    }
    let written = frame::encode(kind, &value).expect("what was read can be written");
    assert!(frame::is_whole(&written));
    let again = read::<T>(kind, &written).expect("what was written can be read");
    assert_eq!(again, Some(value));
}

/// File names on a datastore: none is two things, and a volume's files are recognised whatever its name.
pub fn file_names(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let entry = text.rsplit('/').next().unwrap_or_default();
    match classify(entry) {
        Found::Claim(name) => assert_eq!(entry, format!("{name}.vdvs")),
        Found::RecordSlot(name, id8) => {
            let stem = format!("{name}.{id8}.vdvs");
            let slot = slot_of(entry, &stem).expect("a slot has a number");
            assert_eq!(entry, format!("{stem}.{slot}"));
        }
        Found::Disk(name, id8) => assert_eq!(entry, format!("{name}.{id8}.vmdk")),
        Found::Original(name) => assert_eq!(entry, format!("{name}.vmdk")),
        Found::Other => {}
    }
    if let Some(group) = group_of_dir(entry) {
        assert_eq!(group.to_string(), entry);
    }
    let datastore = DatastoreName::new("ds").expect("a plain word is a name");
    if let Ok(path) = DsPath::new(text) {
        assert!(!text.starts_with('/') && !text.split('/').any(|part| part == ".."));
        let disk = DiskPath {
            datastore: datastore.clone(),
            path,
        };
        if let Some(place) = place_of_disk(&disk) {
            assert_eq!(place.disk(), disk);
        }
    }
    if let Ok(name) = VolumeName::new(entry) {
        recognised(&Place {
            ds: datastore,
            folder: GroupId::DEFAULT,
            name,
            id8: "deadbeef".to_owned(),
        });
    }
}

/// What the original left beside a disk: descriptor and metadata. The file it names is one beside the disk, and what is
/// not an object is no metadata.
pub fn originals(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let name = VolumeName::new("db").expect("a plain word is a name");
    if let Some(file) = original::metadata_file(&text, &name) {
        assert!(original::is_metadata_file(&file, &name) && !file.contains('/'));
    }
    let (datastore, group) = (Uuid::from_u128(1), GroupId::DEFAULT);
    let id = original::volume_id(datastore, group, &name, original::disk_uuid(&text));
    let place = Place::of(
        &DatastoreName::new("ds").expect("a plain word is a name"),
        group,
        &name,
        id,
    );
    assert!(place.is_adopted());
    if let Some(read) = original::metadata(bytes) {
        assert!(text.trim_ascii().starts_with('{'));
        assert_eq!(read.options.size, None, "the disk says how large it is");
        assert!(read.attached_to.is_none() || text.contains("attached"));
    }
}

fn recognised(place: &Place) {
    let (name, id8) = (place.name.clone(), place.id8.clone());
    let stem = place.record().stem;
    let slot = format!("{stem}.{}", u64::MAX);
    assert!(slot.len() <= MAX_FILE_NAME);
    assert_eq!(slot_of(&slot, &stem), Some(u64::MAX));
    assert_eq!(classify(&slot), Found::RecordSlot(name.clone(), id8));
    assert_eq!(
        classify(claim(place.folder, &place.name).file_name()),
        Found::Claim(name)
    );
    assert_eq!(place_of_disk(&place.disk()).as_ref(), Some(place));
}

#[cfg(test)]
mod tests {
    use vdvs_corpus::check;

    #[test]
    fn any_slot_is_torn_refused_or_written_back_unchanged() {
        check("slots", super::slots);
    }

    #[test]
    fn what_the_original_left_is_read_or_passed_over() {
        check("originals", super::originals);
    }

    #[test]
    fn any_file_name_is_one_thing() {
        check("file_names", super::file_names);
    }
}
