//! Writing.

use super::{BLOCK, MODES, NAME};
use crate::error::BuildError;

/// 2026-01-01T00:00:00Z: the time of everything. Any fixed moment does.
pub const EPOCH: u64 = 1_767_225_600;

/// GNU tar writes whole records of so many blocks, and real packages' payloads are made by it.
const RECORD: usize = 20 * BLOCK;

/// A file or folder to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewEntry<'a> {
    /// Relative, without `.` and `..`; a folder's ends in `/`.
    pub path: &'a str,
    /// Permissions and sticky bit.
    pub mode: u32,
    /// The content; a folder has none.
    pub data: &'a [u8],
}

/// Writes an archive of the entries in their order.
///
/// # Errors
/// [`BuildError`] for a name that is none here, or that comes twice.
pub fn write(entries: &[NewEntry<'_>]) -> Result<Vec<u8>, BuildError> {
    let mut out = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        check(entry)?;
        let before = entries.iter().take(at);
        if before.into_iter().any(|other| other.path == entry.path) {
            return Err(BuildError::Twice(entry.path.to_owned()));
        }
        out.extend_from_slice(&header(entry)?);
        out.extend_from_slice(entry.data);
        pad(&mut out, BLOCK);
    }
    out.extend_from_slice(&[0; 2 * BLOCK]);
    pad(&mut out, RECORD);
    Ok(out)
}

fn check(entry: &NewEntry<'_>) -> Result<(), BuildError> {
    let path = entry.path.strip_suffix('/').unwrap_or(entry.path);
    let whole = |part: &str| !matches!(part, "" | "." | "..");
    let why = if entry.path.len() > NAME {
        "it takes at most 100 characters"
    } else if !path.split('/').all(whole) {
        "it is relative, without '.', '..' and empty parts"
    } else if !path.bytes().all(|b| b.is_ascii_graphic()) {
        "it takes ASCII letters, digits and signs"
    } else if entry.path.ends_with('/') && !entry.data.is_empty() {
        "a folder has no content"
    } else {
        return Ok(());
    };
    Err(BuildError::Name {
        what: "an entry",
        name: entry.path.to_owned(),
        why,
    })
}

fn header(entry: &NewEntry<'_>) -> Result<[u8; BLOCK], BuildError> {
    let folder = entry.path.ends_with('/');
    let size = entry.data.len();
    let text = |checksum: &str| {
        let (mode, kind) = (entry.mode & MODES, if folder { '5' } else { '0' });
        // name, mode, owner, group, size, time, checksum, type, target, magic; the rest is zero.
        format!(
            "{:\0<100}{mode:07o}\0{:07o}\0{:07o}\0{size:011o}\0{EPOCH:011o}\0{checksum}{kind}{:\0<100}ustar\x0000{:\0<247}",
            entry.path, 0, 0, "", ""
        )
    };
    // It is computed as if it were blank itself.
    let sum: u32 = text("        ").bytes().map(u32::from).sum();
    let bytes = text(&format!("{sum:06o}\0 ")).into_bytes();
    <[u8; BLOCK]>::try_from(bytes).map_err(|_| BuildError::TooLarge {
        what: entry.path.to_owned(),
    })
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}
