//! Loop devices as the kernel shows them. Reading never opens a device: an open one can keep it from closing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc;

/// One binding of a loop device to a file: the number is used again, the kernel's sequence of disks is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Binding {
    /// As in `/dev/loop<number>`.
    pub(crate) number: u32,
    /// `diskseq`.
    pub(crate) generation: u64,
}

/// A bound loop device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loop {
    pub(crate) binding: Binding,
    /// Where the kernel says the file is.
    pub(crate) file: PathBuf,
    /// Capacity in sectors; 0: fenced.
    pub(crate) size: u64,
    pub(crate) offset: u64,
    pub(crate) size_limit: u64,
    pub(crate) read_only: bool,
    /// Goes at its last close.
    pub(crate) autoclear: bool,
    /// Sectors written or discarded so far.
    pub(crate) written: u64,
    /// Requests under way.
    pub(crate) in_flight: u64,
}

/// All devices bound to files below a folder.
///
/// # Errors
/// `/sys/block` cannot be listed.
pub(crate) fn loops(under: Option<&Path>) -> io::Result<Vec<Loop>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block")? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("loop")?.parse().ok());
        let Some(number) = number else { continue };
        let device = read(number);
        found.extend(
            device.filter(|device| under.is_none_or(|under| device.file.starts_with(under))),
        );
    }
    found.sort_by_key(|device| device.binding);
    Ok(found)
}

/// One device. None: not bound, or bound anew while it was read; the next look sees it.
pub(crate) fn read(number: u32) -> Option<Loop> {
    let base = PathBuf::from(format!("/sys/block/loop{number}"));
    let file = text(&base.join("loop/backing_file"))?;
    let generation = self::number(&base.join("diskseq"))?;
    let stat = text(&base.join("stat"))?;
    let stat: Vec<u64> = stat
        .split_whitespace()
        .map(|field| field.parse().ok())
        .collect::<Option<_>>()?;
    let device = Loop {
        binding: Binding { number, generation },
        file: PathBuf::from(file),
        size: self::number(&base.join("size"))?,
        offset: self::number(&base.join("loop/offset"))?,
        size_limit: self::number(&base.join("loop/sizelimit"))?,
        read_only: self::number(&base.join("ro"))? != 0,
        autoclear: self::number(&base.join("loop/autoclear"))? != 0,
        written: written(&stat)?,
        in_flight: *stat.get(8)?,
    };
    let again = text(&base.join("loop/backing_file"))?;
    let same =
        Path::new(&again) == device.file && self::number(&base.join("diskseq"))? == generation;
    same.then_some(device)
}

/// When the content of files last changed. One that is gone is left out.
pub(crate) fn changes<'a>(files: impl Iterator<Item = &'a PathBuf>) -> BTreeMap<PathBuf, Duration> {
    files
        .filter_map(|file| {
            let data = fs::metadata(file).ok()?;
            let seconds = u64::try_from(data.mtime()).ok()?;
            let nanoseconds = u32::try_from(data.mtime_nsec()).ok()?;
            Some((file.clone(), Duration::new(seconds, nanoseconds)))
        })
        .collect()
}

/// Number of a loop device in the kernel's `major:minor`.
pub(crate) fn loop_of(device: &str) -> Option<u32> {
    device.strip_prefix("7:")?.parse().ok()
}

/// The kernel's number of a loop device.
pub(crate) fn device_number(number: u32) -> libc::dev_t {
    libc::makedev(7, number)
}

/// Sectors written (field 7) and discarded (field 14) of a device's `stat`.
fn written(stat: &[u64]) -> Option<u64> {
    let discarded = stat.get(13).copied().unwrap_or_default();
    stat.get(6)?.checked_add(discarded)
}

fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    (!text.is_empty()).then(|| text.to_owned())
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_discarded_sectors_count() {
        let stat = [10, 0, 80, 1, 20, 0, 160, 2, 0, 3, 3, 4, 0, 32, 0, 1, 0];
        assert_eq!(written(&stat), Some(192));
        assert_eq!(written(&[1, 2, 3]), None);
    }

    #[test]
    fn only_loop_devices_are_looked_at() {
        assert_eq!(loop_of("7:12"), Some(12));
        assert_eq!(loop_of("8:12"), None);
    }
}
