//! The crash-safe write of this crate: temp, fsync, rename, fsync the folder.

use std::fs::{File, OpenOptions, rename};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Largest JSON file read: a VM with every unit taken needs 20 KiB.
const MAX_JSON: u64 = 1024 * 1024;

/// Puts `bytes` in place of `path`, whole or not at all, durably. One writer per file.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    swap_in(path, bytes, File::sync_all)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// As [`replace`], for what needs to outlive this process and not the machine: nothing is flushed.
pub(crate) fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    swap_in(path, bytes, |_| Ok(()))
}

fn swap_in(path: &Path, bytes: &[u8], flush: fn(&File) -> io::Result<()>) -> io::Result<()> {
    let temp = path.with_extension("tmp");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temp)?;
    file.write_all(bytes)?;
    flush(&file)?;
    drop(file);
    rename_over(&temp, path)
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
    File::open(dir)?.sync_all()
}

/// Reads a small text file.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_JSON).read_to_string(&mut text)?;
    Ok(text)
}
