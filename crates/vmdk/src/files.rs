//! The file operations whose order and durability the disk's crash rules rest on.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, hard_link, remove_file};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Makes the folder's entries durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Creates `path` with these bytes, whole or not at all, never over an existing file: the bytes become durable under
/// the name [`temp_of`] gives, then get their real name by a link, which fails if the name is taken.
pub(crate) fn create_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temp = temp_of(path);
    // A file of that name is what an earlier crash left; nothing ever reads one.
    remove_if_present(&temp)?;
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        hard_link(&temp, path)
    })();
    let removed = remove_if_present(&temp);
    written?;
    removed?;
    sync_dir(parent(path))
}

/// The name under which [`create_whole`] prepares `path`.
pub(crate) fn temp_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".tmp");
    PathBuf::from(name)
}

/// True if there was a file to remove.
pub(crate) fn remove_if_present(path: &Path) -> io::Result<bool> {
    match remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Reads at most `limit` + 1 bytes, so that a caller can tell "longer" from "exactly".
pub(crate) fn read_bounded(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The folder a file lies in.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}
