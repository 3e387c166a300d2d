//! What fuzzers check of this crate (`docs/fuzzing.md`). Each function panics when a promise does not hold.

use std::slice;

use uuid::Uuid;

use crate::begun;
use crate::fsck;
use crate::identity;
use crate::mountinfo::{self, MountEntry, escape};
use crate::probe::{Signature, from_export, identify};
use crate::uevent::Uevent;

/// The table of mounts: no line is lost, and an entry written as the kernel writes it reads the same.
pub fn mountinfo(bytes: &[u8]) {
    let Ok(table) = mountinfo::parse(bytes) else {
        return;
    };
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    assert_eq!(table.len(), lines.count(), "not listed is evidence");
    for entry in table {
        assert_eq!(
            mountinfo::parse_line(&written(&entry)).as_ref(),
            Some(&entry)
        );
        let found = mountinfo::topmost(slice::from_ref(&entry), &entry.at);
        assert_eq!(found, Some(&entry));
        assert!(entry.is_of(&entry.source, entry.major_minor));
    }
}

fn written(entry: &MountEntry) -> Vec<u8> {
    let (major, minor) = entry.major_minor;
    let mut line = format!("{} {} {major}:{minor} ", entry.id, entry.parent).into_bytes();
    line.extend(escape(&entry.root));
    line.push(b' ');
    line.extend(escape(&entry.at));
    line.push(b' ');
    line.extend(escape(entry.options.as_ref()));
    line.extend(b" shared:7 - ");
    line.extend(escape(entry.fstype.as_ref()));
    line.push(b' ');
    line.extend(escape(&entry.source));
    line.push(b' ');
    line.extend(escape(entry.super_options.as_ref()));
    line
}

/// The kernel's announcements: what was understood, written as the kernel writes it, is understood the same.
pub fn uevents(bytes: &[u8]) {
    let Some(event) = Uevent::parse(bytes) else {
        return;
    };
    let mut parts = vec![
        format!("{}@{}", event.action, event.devpath),
        format!("ACTION={}", event.action),
        format!("DEVPATH={}", event.devpath),
        format!("SUBSYSTEM={}", event.subsystem),
    ];
    parts.extend(event.devname.iter().map(|name| format!("DEVNAME={name}")));
    let message = parts.join("\0");
    assert_eq!(Uevent::parse(message.as_bytes()).as_ref(), Some(&event));
    if event.may_bring_a_disk() {
        assert_eq!(event.subsystem, "block");
    }
}

/// What lies on a disk, and what `blkid` says of it: a recognised file system has a type we know, and nothing is
/// recognised in zeros.
pub fn disks(bytes: &[u8]) {
    for signature in identify(bytes) {
        assert!(bytes.iter().any(|b| *b != 0));
        if let Signature::Filesystem(content) = signature {
            let kind = content.fstype.expect("each structure known has a type");
            assert!(content.description.starts_with(kind.as_str()));
            let uuid = content.uuid.as_deref();
            assert!(uuid.is_none_or(|id| id.parse::<Uuid>().is_ok()));
        }
    }
    // Our own mark is exact or not there; the ext superblock's other readers take anything.
    assert_eq!(
        begun::read(bytes)
            .map(begun::block)
            .as_deref()
            .unwrap_or(bytes),
        bytes
    );
    if fsck::asks(bytes) {
        assert!(bytes.get(0x438..0x43a) == Some(&[0x53, 0xef]));
    }
    for kind in ["ext4", "xfs", "btrfs"] {
        let change = identity::change(kind, bytes, Uuid::nil());
        assert!(kind != "xfs" || change.is_none());
    }
    // Superblocks lie far into the disk, where a fuzzer does not get by itself: the same bytes at each place.
    for at in [0x400, 0x1000, 0x1_0000] {
        let mut disk = vec![0; at];
        disk.extend_from_slice(bytes);
        drop(identify(&disk));
    }
    if let Ok(text) = str::from_utf8(bytes) {
        let content = from_export(text);
        assert!(!content.description.is_empty());
        assert!(content.description.len() <= text.len() + 64);
    }
}

#[cfg(test)]
mod tests {
    use vdvs_corpus::check;

    #[test]
    fn any_table_of_mounts_is_refused_or_read_whole() {
        check("mountinfo", super::mountinfo);
    }

    #[test]
    fn any_announcement_is_passed_over_or_understood() {
        check("uevents", super::uevents);
    }

    #[test]
    fn any_disk_is_looked_at() {
        check("disks", super::disks);
    }
}
