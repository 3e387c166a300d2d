//! The journal's files after crashes and damage.

use std::collections::BTreeMap;
use std::fs::OpenOptions;

use tempfile::TempDir;
use uuid::Uuid;
use vdvs_domain::{
    DatastoreName, Epoch, Filesystem, FilesystemState, FsType, Layout, Timestamp, VolumeId,
    VolumeName,
};

use super::*;
use crate::agent::Volume;
use crate::journal::{Count, Stage};

fn id(number: u128) -> VolumeId {
    VolumeId::new(Uuid::from_u128(number))
}

fn held(number: u128) -> Held {
    let count = Count {
        count: 2,
        last: Timestamp::from_millis(5),
    };
    Held {
        volume: id(number),
        name: format!("v{number}@ds"),
        epoch: Epoch::new(7),
        stage: Stage::Mounted,
        device: None,
        locator: None,
        capacity: 1 << 30,
        fstype: FsType::ext4(),
        layout: Layout::Data,
        read_only: false,
        mount_options: Vec::new(),
        counts: BTreeMap::from([("a".to_owned(), count)]),
        since: Timestamp::from_millis(5),
    }
}

fn known(number: u128) -> Known {
    Known {
        volume: Volume {
            id: id(number),
            name: VolumeName::new(&format!("v{number}")).unwrap(),
            datastore: DatastoreName::new("ds").unwrap(),
            group: "_DEFAULT".into(),
            capacity: 1 << 30,
            allocated: 0,
            filesystem: Filesystem {
                fstype: FsType::ext4(),
                state: FilesystemState::Never,
            },
            layout: Layout::Data,
            options: BTreeMap::new(),
            created: Timestamp::from_millis(1),
            created_by: String::new(),
            state: "free".into(),
            attachment: None,
            epoch: Epoch::default(),
            waiting: String::new(),
        },
        short: true,
        seen: Timestamp::from_millis(9),
    }
}

fn put(number: u128) -> Change {
    Change::Put(Box::new(known(number)))
}

fn filled() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let journal = FileJournal::open(folder.path()).unwrap();
    journal.load().unwrap();
    journal.save_held(1, &[held(1), held(2)]).unwrap();
    assert_eq!(journal.append_known(&[put(1), put(2)]).unwrap(), 2);
    assert_eq!(journal.append_known(&[Change::Drop(id(1))]).unwrap(), 3);
    folder
}

fn reload(folder: &TempDir) -> Loaded {
    FileJournal::open(folder.path()).unwrap().load().unwrap()
}

#[test]
fn everything_written_is_there_after_a_restart() {
    let folder = filled();
    let loaded = reload(&folder);
    assert_eq!(loaded.held, [held(1), held(2)]);
    assert_eq!(loaded.known, [known(2)]);
    assert!(loaded.set_aside.is_empty());
}

#[test]
fn a_late_writer_does_not_undo_a_newer_state() {
    let folder = tempfile::tempdir().unwrap();
    let journal = FileJournal::open(folder.path()).unwrap();
    journal.save_held(5, &[held(1)]).unwrap();
    journal.save_held(4, &[]).unwrap();
    assert_eq!(journal.load().unwrap().held, [held(1)]);
}

#[test]
fn a_torn_last_line_is_cut_off_and_writing_goes_on() {
    let folder = filled();
    let path = folder.path().join(KNOWN);
    let whole = fs::read(&path).unwrap();
    for torn in [1, 8, 40] {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(u64::try_from(whole.len() - torn).unwrap())
            .unwrap();
        let journal = FileJournal::open(folder.path()).unwrap();
        let loaded = journal.load().unwrap();
        assert_eq!(loaded.known, [known(1), known(2)], "the drop was torn");
        journal.append_known(&[Change::Drop(id(1))]).unwrap();
        drop(journal);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

/// A disk that takes nothing may not let go of what was half written either.
#[test]
fn a_write_that_fails_and_cannot_be_cut_off_loses_no_earlier_name() {
    let folder = filled();
    let path = folder.path().join(KNOWN);
    let before = fs::read(&path).unwrap();
    let journal = FileJournal::open(folder.path()).unwrap();
    journal.load().unwrap();
    // Neither written nor cut through this one.
    journal.state().log = Some(File::open(&path).unwrap());
    journal.append_known(&[put(3)]).unwrap_err();
    let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
    torn.write_all(b"half a li").unwrap();
    journal.append_known(&[put(4)]).unwrap();
    drop(journal);
    assert!(fs::read(&path).unwrap().starts_with(&before));
    let loaded = reload(&folder);
    assert_eq!(loaded.known, [known(2), known(4)]);
    assert!(loaded.set_aside.is_empty());
}

#[test]
fn a_crash_between_temp_and_rename_leaves_the_former_state() {
    let folder = filled();
    fs::write(folder.path().join("held.new"), b"half").unwrap();
    assert_eq!(reload(&folder).held.len(), 2);
}

#[test]
fn any_damaged_byte_sets_the_file_aside_and_nothing_wrong_is_read() {
    let clean = filled();
    for name in [HELD, KNOWN] {
        let bytes = fs::read(clean.path().join(name)).unwrap();
        for at in (0..bytes.len()).step_by(11) {
            let folder = filled();
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            fs::write(folder.path().join(name), &damaged).unwrap();
            let loaded = reload(&folder);
            assert_eq!(loaded.set_aside.len(), 1, "{name} byte {at}");
            assert!(folder.path().join(format!("{name}.damaged-1")).exists());
            assert!(loaded.held.is_empty() || loaded.held.len() == 2);
            for entry in &loaded.known {
                assert!([known(1), known(2)].contains(entry));
            }
            let again = reload(&folder);
            assert!(again.set_aside.is_empty(), "rebuilt");
            assert_eq!(again.known, loaded.known, "what was sound stays known");
        }
    }
}

#[test]
fn two_plugins_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let _first = FileJournal::open(folder.path()).unwrap();
    let second = FileJournal::open(folder.path()).unwrap_err().to_string();
    assert!(second.contains("another vdvs-plugin"), "{second}");
}

#[test]
fn a_rewritten_log_holds_the_same() {
    let folder = filled();
    let journal = FileJournal::open(folder.path()).unwrap();
    journal.load().unwrap();
    journal.rewrite_known(&[known(3)]).unwrap();
    journal.append_known(&[put(4)]).unwrap();
    drop(journal);
    assert_eq!(reload(&folder).known, [known(3), known(4)]);
}
