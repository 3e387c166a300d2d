//! Lock files: which host has which disk open for which VM.
//!
//! ```text
//! <datastore>/.labhv/locks/<disk>.<host id>.<vm>.lock      disk, vm: hashes of the extent's path and the VM's name
//! ```
//!
//! A file per holder, written and removed by that host alone; nobody ever breaks another's lock. It counts while its
//! host's lease does ([`super::leases`]). Who wants a disk writes his file first and then looks for others: of two who
//! want it at once both may be refused, and never both be served. After a start a host removes its files of disks that
//! it does not have open before it renews its lease, so that no old lock comes to life again.

use std::collections::BTreeSet;
use std::fs::{read_dir, remove_file};
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::init::InitId;
use super::leases::{OWN, Store};
use crate::files;

/// Whether others may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Alone.
    Write,
    /// Together with other readers.
    Read,
}

/// A lock as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LockFile {
    pub(crate) format: u32,
    /// Path of the extent below the datastore.
    pub(crate) disk: String,
    pub(crate) mode: Mode,
    pub(crate) host: String,
    pub(crate) host_id: String,
    pub(crate) vm: String,
    pub(crate) instance_uuid: Uuid,
    /// The process that is the VM.
    pub(crate) init: Option<InitId>,
}

/// Who opens a disk.
#[derive(Debug, Clone)]
pub(crate) struct Opener<'a> {
    pub(crate) vm: &'a str,
    pub(crate) instance_uuid: Uuid,
    pub(crate) init: Option<InitId>,
    pub(crate) read_only: bool,
}

/// FNV-1a: names of fixed length for paths of any. The file's content tells which disk is meant.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Store {
    /// The extent's path below the datastore.
    fn below(&self, extent: &Path) -> io::Result<String> {
        let path = extent.strip_prefix(&self.root).map_err(io::Error::other)?;
        let path = path.to_str();
        path.map(str::to_owned)
            .ok_or_else(|| io::Error::other("a path that is not UTF-8"))
    }

    /// Name of our lock file for a disk and a VM.
    pub(crate) fn lock_name(&self, extent: &Path, vm: &str) -> io::Result<String> {
        let disk = hash(&self.below(extent)?);
        let (host, vm) = (&self.me.id, hash(vm));
        Ok(format!("{disk:016x}.{host}.{vm:016x}.lock"))
    }

    /// Writes our lock.
    pub(crate) fn take(&self, extent: &Path, opener: &Opener<'_>) -> io::Result<()> {
        let lock = LockFile {
            format: 1,
            disk: self.below(extent)?,
            mode: if opener.read_only {
                Mode::Read
            } else {
                Mode::Write
            },
            host: self.me.name.clone(),
            host_id: self.me.id.clone(),
            vm: opener.vm.to_owned(),
            instance_uuid: opener.instance_uuid,
            init: opener.init,
        };
        let path = self
            .folder("locks")?
            .join(self.lock_name(extent, opener.vm)?);
        files::put(&path, &serde_json::to_vec(&lock)?)
    }

    /// Removes our lock. Not there: what was wanted.
    pub(crate) fn release(&self, extent: &Path, vm: &str) -> io::Result<()> {
        let name = self.lock_name(extent, vm)?;
        self.reachable()?;
        match remove_file(self.root.join(OWN).join("locks").join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn lock_names(&self) -> io::Result<Vec<String>> {
        self.reachable()?;
        let dir = match read_dir(self.root.join(OWN).join("locks")) {
            // No host has opened anything yet, if the datastore itself is there.
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.root.is_dir() => {
                return Ok(Vec::new());
            }
            other => other?,
        };
        let mut names = Vec::new();
        for entry in dir {
            let name = entry?.file_name();
            if let Some(name) = name.to_str().filter(|n| n.ends_with(".lock")) {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Locks of other hosts on this disk that count.
    pub(crate) fn others(&self, extent: &Path) -> io::Result<Vec<LockFile>> {
        let disk = self.below(extent)?;
        let prefix = format!("{:016x}.", hash(&disk));
        let mut found = Vec::new();
        for lock in self.foreign(&prefix)? {
            if lock.disk == disk && !self.lapsed(&lock.host_id)? {
                found.push(lock);
            }
        }
        Ok(found)
    }

    /// Locks of other hosts whose lease is over.
    pub(crate) fn left_behind(&self) -> io::Result<Vec<LockFile>> {
        let mut found = Vec::new();
        for lock in self.foreign("")? {
            if self.lapsed(&lock.host_id)? {
                found.push(lock);
            }
        }
        Ok(found)
    }

    fn foreign(&self, prefix: &str) -> io::Result<Vec<LockFile>> {
        let mut found = Vec::new();
        for name in self.lock_names()? {
            let host = name.split('.').nth(1).unwrap_or_default();
            if !name.starts_with(prefix) || host == self.me.id {
                continue;
            }
            let path = self.root.join(OWN).join("locks").join(&name);
            match files::read_text(&path) {
                Ok(text) => match serde_json::from_str(&text) {
                    Ok(lock) => found.push(lock),
                    // Of a machine that lost power, at worst: it ends with the lease as any other.
                    Err(_) if self.lapsed(host)? => {}
                    Err(e) => return Err(e.into()),
                },
                // Let go meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    /// Removes our locks but these.
    pub(crate) fn sweep(&self, keep: &BTreeSet<String>) -> io::Result<()> {
        for name in self.lock_names()? {
            let ours = name.split('.').nth(1) == Some(self.me.id.as_str());
            if ours && !keep.contains(&name) {
                match remove_file(self.root.join(OWN).join("locks").join(&name)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
