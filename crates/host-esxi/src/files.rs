//! The crash-safe write of this crate: temp, fsync, rename, fsync the folder.

use std::fs::{File, OpenOptions, create_dir_all, rename};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What file systems answer that make a folder's entries durable by themselves and have no call for it: EBADF, EINVAL,
/// ENOSYS, ENOTSUP.
const NO_SYNC: [i32; 4] = [9, 22, 38, 95];

/// Puts `bytes` in place of `path`, whole or not at all, durably. One writer per file.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temp = path.with_extension("tmp");
    if let Some(dir) = path.parent() {
        create_dir_all(dir)?;
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    rename_over(&temp, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one crash-safe helper of this crate"
)]
fn rename_over(from: &Path, to: &Path) -> io::Result<()> {
    rename(from, to)
}

/// Makes a folder's entries durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        Err(e) if e.raw_os_error().is_some_and(|n| NO_SYNC.contains(&n)) => Ok(()),
        other => other,
    }
}

/// Reads a file of at most `max` bytes; none when it is not there.
pub(crate) fn read_small(path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take(max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
