//! The kernel's table of mounts, `/proc/self/mountinfo`.
//!
//! Paths are bytes, not text: the kernel escapes space, tab, newline, `#` and backslash as three octal digits and
//! passes everything else through. A line that cannot be understood is an error for the whole table, because
//! "not listed" is used as evidence that a volume is not mounted.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount, as this process's mount namespace sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Number of the mount.
    pub id: u32,
    /// Number of the mount it is mounted on.
    pub parent: u32,
    /// `st_dev` of its files. Anonymous for btrfs, so compare [`MountEntry::source`] there.
    pub major_minor: (u32, u32),
    /// The folder of the file system that is mounted; `/` unless it is a bind mount.
    pub root: PathBuf,
    /// Where it is mounted.
    pub at: PathBuf,
    /// Options of the mount (`rw,nodev`).
    pub options: String,
    /// Type of the file system.
    pub fstype: String,
    /// What is mounted: the device node's path for a disk.
    pub source: PathBuf,
    /// Options of the file system (`rw,errors=remount-ro`).
    pub super_options: String,
}

impl MountEntry {
    /// Whether the mount itself refuses writing.
    #[must_use]
    pub fn read_only(&self) -> bool {
        self.options.split(',').any(|o| o == "ro")
    }

    /// Whether the file system refuses writing; on a writable mount that is what an error left behind.
    #[must_use]
    pub fn super_read_only(&self) -> bool {
        self.super_options.split(',').any(|o| o == "ro")
    }

    /// Whether this is a mount of the device with this node path and number.
    #[must_use]
    pub fn is_of(&self, path: &Path, major_minor: (u32, u32)) -> bool {
        self.major_minor == major_minor || self.source == path
    }
}

/// Reads the whole table.
///
/// # Errors
/// A text naming the first line that is not of the kernel's form.
pub fn parse(table: &[u8]) -> Result<Vec<MountEntry>, String> {
    table
        .split(|&b| b == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(n, line)| {
            parse_line(line)
                .ok_or_else(|| format!("line {}: {}", n + 1, String::from_utf8_lossy(line)))
        })
        .collect()
}

/// Reads one line: `36 35 98:0 /root /at rw,noatime shared:1 - ext4 /dev/sdb rw`; the tagged fields before the dash
/// may be missing or many.
#[must_use]
pub fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&b| b == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let mut device = fields.next()?.split(|&b| b == b':');
    let major_minor = (number(device.next()?)?, number(device.next()?)?);
    if device.next().is_some() {
        return None;
    }
    let root = path(fields.next()?)?;
    let at = path(fields.next()?)?;
    let options = text(fields.next()?)?;
    fields.find(|f| *f == b"-")?;
    let fstype = text(fields.next()?)?;
    let source = path(fields.next()?)?;
    // The kernel prints nothing for some file systems without options.
    let super_options = text(fields.next().unwrap_or_default())?;
    Some(MountEntry {
        id,
        parent,
        major_minor,
        root,
        at,
        options,
        fstype,
        source,
        super_options,
    })
}

/// What is mounted at `at` now: the last entry hides the ones before it.
#[must_use]
pub fn topmost<'a>(table: &'a [MountEntry], at: &Path) -> Option<&'a MountEntry> {
    table.iter().rev().find(|entry| entry.at == at)
}

fn number(field: &[u8]) -> Option<u32> {
    let digits = str::from_utf8(field).ok()?;
    // `parse` would take a sign.
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn text(field: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(&unescape(field)?).into_owned())
}

fn path(field: &[u8]) -> Option<PathBuf> {
    Some(PathBuf::from(OsString::from_vec(unescape(field)?)))
}

/// Decodes `\ooo`. A backslash the kernel could not have written is refused.
fn unescape(field: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'\\' {
            out.push(first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(3)?;
        let value = digits.iter().try_fold(0_u16, |value, &digit| {
            (b'0'..=b'7')
                .contains(&digit)
                .then(|| value * 8 + u16::from(digit - b'0'))
        })?;
        out.push(u8::try_from(value).ok()?);
        rest = tail;
    }
    Some(out)
}

/// Encodes a path as the kernel does; the inverse of the reader, for tests and fakes.
#[must_use]
pub fn escape(path: &Path) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\\' | b'#') {
            out.extend_from_slice(format!("\\{byte:03o}").as_bytes());
        } else {
            out.push(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::{collection, prelude::*};

    use super::*;

    #[test]
    fn a_line_with_tags_and_escapes_is_read() {
        let line = b"36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let entry = parse_line(line).unwrap();
        assert_eq!(entry.at, Path::new("/mnt 2\\x"));
        assert_eq!(entry.source, Path::new("/dev/root"));
        assert_eq!(entry.major_minor, (98, 0));
        assert!(!entry.read_only());
    }

    #[test]
    fn a_file_system_that_an_error_made_read_only_shows() {
        let entry = parse_line(b"1 2 7:0 / /m rw - ext4 /dev/loop0 ro,errors=remount-ro").unwrap();
        assert!(entry.super_read_only() && !entry.read_only());
    }

    #[test]
    fn a_broken_line_spoils_the_table_instead_of_vanishing() {
        let table = b"1 2 7:0 / /m rw - ext4 /dev/loop0 rw\n1 2 7 / /m rw - ext4 x rw\n";
        assert!(parse(table).unwrap_err().starts_with("line 2"));
    }

    #[test]
    fn the_last_mount_at_a_place_is_the_one_that_counts() {
        let table =
            parse(b"1 2 7:0 / /m rw - ext4 /dev/loop0 rw\n3 1 7:1 / /m rw - ext4 /dev/loop1 rw\n")
                .unwrap();
        assert_eq!(
            topmost(&table, Path::new("/m")).unwrap().major_minor,
            (7, 1)
        );
        assert_eq!(topmost(&table, Path::new("/x")), None);
    }

    #[test]
    fn this_machines_table_is_understood() {
        let table = fs::read("/proc/self/mountinfo").unwrap();
        let entries = parse(&table).unwrap();
        assert!(topmost(&entries, Path::new("/")).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in collection::vec(any::<u8>(), 0..200)) {
            drop(parse(&bytes));
        }

        #[test]
        fn any_path_survives_the_way_through_the_table(
            at in collection::vec(1_u8..=255, 1..60),
            source in collection::vec(1_u8..=255, 1..60),
            ids in any::<(u32, u32, u32, u32)>(),
        ) {
            let at = PathBuf::from(OsString::from_vec(at));
            let source = PathBuf::from(OsString::from_vec(source));
            let mut line = format!("{} {} {}:{} / ", ids.0, ids.1, ids.2, ids.3).into_bytes();
            line.extend(escape(&at));
            line.extend(b" rw - xfs ");
            line.extend(escape(&source));
            line.extend(b" rw");
            let entry = parse_line(&line).unwrap();
            prop_assert_eq!(entry.at, at);
            prop_assert_eq!(entry.source, source);
            prop_assert_eq!((entry.id, entry.parent, entry.major_minor), (ids.0, ids.1, (ids.2, ids.3)));
        }
    }
}
