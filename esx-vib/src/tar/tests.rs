use proptest::prelude::*;

use super::*;
use crate::error::{BuildError, ReadError};

fn new<'a>(path: &'a str, mode: u32, data: &'a [u8]) -> NewEntry<'a> {
    NewEntry { path, mode, data }
}

#[test]
fn what_is_written_is_read() {
    let content = vec![7; 700];
    let bytes = write(&[
        new("opt/", 0o755, b""),
        new("opt/a", 0o1644, &content),
        new("opt/b", 0o555, b""),
    ])
    .unwrap();
    assert_eq!(bytes.len() % 10_240, 0);
    let entries = read(&bytes).unwrap();
    let seen: Vec<_> = entries
        .iter()
        .map(|e| (e.path.as_str(), e.mode, e.data.len()))
        .collect();
    assert_eq!(
        seen,
        [
            ("opt/", 0o755, 0),
            ("opt/a", 0o1644, 700),
            ("opt/b", 0o555, 0)
        ]
    );
    assert!(
        entries
            .iter()
            .all(|e| e.owner == (0, 0) && e.changed == EPOCH && e.dialect == Dialect::Ustar)
    );
    assert_eq!(entries[0].kind, Kind::Folder);
    assert_eq!(
        (&entries[1].kind, &entries[1].data),
        (&Kind::File, &content)
    );
}

#[test]
fn names_that_would_leave_the_folder_or_need_an_extension_are_refused() {
    let long = "a".repeat(101);
    for path in [
        "/etc/x", "../x", "a/./b", "a//b", "", "/", "a b", "ä", &long,
    ] {
        let refused = write(&[new(path, 0o644, b"")]);
        assert!(matches!(refused, Err(BuildError::Name { .. })), "{path}");
    }
    assert!(write(&[new(&long[..100], 0o644, b"")]).is_ok());
    assert!(write(&[new("a/", 0o755, b"x")]).is_err());
    let twice = write(&[new("a", 0o644, b""), new("a", 0o644, b"")]);
    assert_eq!(twice, Err(BuildError::Twice("a".into())));
}

/// A header as VMware's tool writes it: the magic, and where the data is.
fn visor(path: &str, mode: u32, kind: u8, size: usize, at: u32) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    header[..path.len()].copy_from_slice(path.as_bytes());
    header[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[257..264].copy_from_slice(b"visor  ");
    header[496..500].copy_from_slice(&at.to_le_bytes());
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[test]
fn vmwares_own_form_has_its_data_behind_all_headers() {
    let mut bytes = [
        visor("etc", 0o1755, b'5', 0, 0),
        visor("etc/a.conf", 0o1644, b'0', 5, 2048),
        visor("etc/b", 0o555, b'0', 600, 2560),
        vec![0; BLOCK],
    ]
    .concat();
    assert_eq!(bytes.len(), 2048);
    bytes.extend([b"12345".to_vec(), vec![0; 507], vec![9; 600]].concat());
    let entries = read(&bytes).unwrap();
    let seen: Vec<_> = entries.iter().map(|e| (e.path.as_str(), e.mode)).collect();
    assert_eq!(
        seen,
        [("etc", 0o1755), ("etc/a.conf", 0o1644), ("etc/b", 0o555)]
    );
    assert!(entries.iter().all(|e| e.dialect == Dialect::Visor));
    assert_eq!(entries[1].data, b"12345");
    assert_eq!(entries[2].data, [9; 600]);
    // A place beyond the end.
    assert!(matches!(
        read(&bytes[..bytes.len() - 1]),
        Err(ReadError::Truncated { .. })
    ));
}

#[test]
fn a_small_archive_cannot_pretend_to_be_a_large_one() {
    let mut bytes = Vec::new();
    for i in 0..1000 {
        bytes.extend(visor(&format!("f{i}"), 0o644, b'0', 400_000, 512));
    }
    bytes.extend([0; BLOCK]);
    let refused = read(&bytes).unwrap_err().to_string();
    assert!(refused.contains("share their content"), "{refused}");
}

#[test]
fn an_archive_that_was_cut_or_damaged_is_refused() {
    let bytes = write(&[new("a", 0o644, b"content"), new("b", 0o644, b"")]).unwrap();
    for end in (0..3 * BLOCK).step_by(100) {
        assert!(read(&bytes[..end]).is_err(), "{end}");
    }
    for at in 0..BLOCK {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert!(read(&damaged).is_err() || at >= 155, "{at}");
    }
}

fn names() -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set("[a-z]{1,8}(/[A-Za-z0-9._-]{1,8}[a-z]){0,4}", 1..20)
        .prop_map(|names| names.into_iter().collect())
}

proptest! {
    #[test]
    fn whatever_is_written_is_read(names in names(), mode in 0_u32..0o10000, content in prop::collection::vec(any::<u8>(), 0..1500)) {
        let entries: Vec<_> = names.iter().map(|name| new(name, mode, &content)).collect();
        let read = read(&write(&entries).unwrap()).unwrap();
        prop_assert_eq!(read.len(), entries.len());
        for (read, written) in read.iter().zip(&entries) {
            prop_assert_eq!(read.path.as_str(), written.path);
            prop_assert_eq!(read.mode, mode);
            prop_assert_eq!(&read.data, &content);
        }
    }
}
