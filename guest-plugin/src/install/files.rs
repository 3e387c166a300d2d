//! Files an installation puts on a machine, and the receipt that says which these are.
//!
//! A file of settings belongs to the person from the moment it is there. It is replaced only if it is byte for byte what
//! an earlier installation put there; if the person changed it *and* our own text is another one since, ours goes
//! beside it as `<name>.new`. The receipt, `installed.json` in the state folder, keeps a checksum of what was put
//! where, so that removing takes away only that.
//!
//! Every write is a temporary file, flushed, then renamed: an installation that is cut off leaves old or new.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checks::below;

/// Where the receipt is, on the machine.
pub(super) const RECEIPT: &str = "/var/lib/vdvs/installed.json";

/// Whose text a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Ours: replaced by any other version.
    Program,
    /// The person's, once it is there.
    Settings,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    Created,
    Updated,
    Unchanged,
    /// The person changed it and ours is the same as ever.
    Kept,
    /// The person changed it; the new one lies beside it.
    KeptNewBeside,
}

/// What became of a file that was to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Removed,
    Absent,
    /// Changed since it was installed.
    Kept,
}

/// What was put where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// Of the plugin that installed.
    pub(super) version: String,
    /// Path on the machine → what it held when we wrote it.
    files: BTreeMap<PathBuf, String>,
}

/// A machine's files, or those of an image below a folder.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) root: PathBuf,
    /// Only says what it would do.
    pub(super) dry: bool,
    pub(super) receipt: Receipt,
}

impl Machine {
    /// Reads the receipt, if there is one.
    ///
    /// # Errors
    /// It cannot be read. One that is damaged counts as none: then everything that differs is the person's.
    pub(super) fn open(root: &Path, dry: bool) -> io::Result<Self> {
        let path = below(root, Path::new(RECEIPT));
        let receipt = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::NotFound => Receipt::default(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            root: root.to_owned(),
            dry,
            receipt,
        })
    }

    /// A path on the machine as a path here.
    pub(super) fn at(&self, path: &Path) -> PathBuf {
        below(&self.root, path)
    }

    /// Puts a file there, as its kind allows.
    pub(super) fn put(
        &mut self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        kind: Kind,
    ) -> io::Result<Put> {
        let here = self.at(path);
        let (sum, recorded) = (checksum(bytes), self.receipt.files.get(path).cloned());
        let present = match fs::read(&here) {
            Ok(present) => Some(present),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let verdict = match present.as_deref().map(checksum) {
            None => Put::Created,
            // Not ours by that: somebody else may have put the same there.
            Some(found) if found == sum => return Ok(Put::Unchanged),
            Some(_) if kind == Kind::Program => Put::Updated,
            Some(found) if recorded.as_ref() == Some(&found) => Put::Updated,
            Some(_) if recorded.as_ref() == Some(&sum) => return Ok(Put::Kept),
            Some(_) => Put::KeptNewBeside,
        };
        if verdict == Put::KeptNewBeside {
            self.write(&beside(path), bytes, mode)?;
        } else {
            self.write(path, bytes, mode)?;
        }
        self.receipt.files.insert(path.to_owned(), sum);
        Ok(verdict)
    }

    /// Removes a file that is as we put it, or any that we put if `all`.
    pub(super) fn take(&mut self, path: &Path, all: bool) -> io::Result<Taken> {
        let here = self.at(path);
        let present = match fs::read(&here) {
            Ok(present) => checksum(&present),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.receipt.files.remove(path);
                return Ok(Taken::Absent);
            }
            Err(error) => return Err(error),
        };
        let ours = self.receipt.files.get(path);
        if ours.is_none() || (!all && ours != Some(&present)) {
            return Ok(Taken::Kept);
        }
        self.receipt.files.remove(path);
        self.delete(path)?;
        self.delete(&beside(path))?;
        Ok(Taken::Removed)
    }

    /// Everything on the receipt.
    pub(super) fn installed(&self) -> Vec<PathBuf> {
        self.receipt.files.keys().cloned().collect()
    }

    /// Writes the receipt, or removes it when nothing is on it.
    pub(super) fn close(&self) -> io::Result<()> {
        if self.receipt.files.is_empty() {
            return self.delete(Path::new(RECEIPT));
        }
        let bytes = serde_json::to_vec_pretty(&self.receipt).map_err(io::Error::other)?;
        self.write(Path::new(RECEIPT), &bytes, 0o600)
    }

    /// Makes a folder that only root may look into.
    pub(super) fn private_folder(&self, path: &Path) -> io::Result<bool> {
        let here = self.at(path);
        if here.is_dir() {
            return Ok(false);
        }
        if !self.dry {
            DirBuilder::new().recursive(true).mode(0o700).create(here)?;
        }
        Ok(true)
    }

    /// Removes a file; not there is fine.
    pub(super) fn delete(&self, path: &Path) -> io::Result<()> {
        if self.dry {
            return Ok(());
        }
        match fs::remove_file(self.at(path)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        if self.dry {
            return Ok(());
        }
        let here = self.at(path);
        let folder = here.parent().ok_or(ErrorKind::InvalidInput)?;
        fs::create_dir_all(folder)?;
        let temp = beside(&here).with_extension("vdvs-temporary");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temp)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        rename(&temp, &here)?;
        File::open(folder)?.sync_all()
    }
}

/// `<name>.new`
pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

/// Tells our own texts from changed ones; nobody is to be kept from forging it.
fn checksum(bytes: &[u8]) -> String {
    format!("{:08x}-{}", crc32fast::hash(bytes), bytes.len())
}

#[expect(
    clippy::disallowed_methods,
    reason = "the installer's crash-safe write"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/etc/x.conf";

    fn put(root: &Path, text: &str) -> Put {
        let mut machine = Machine::open(root, false).unwrap();
        let put = machine
            .put(Path::new(FILE), text.as_bytes(), 0o644, Kind::Settings)
            .unwrap();
        machine.close().unwrap();
        put
    }

    #[test]
    fn settings_belong_to_the_person_once_they_are_changed() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().join("etc/x.conf");
        assert_eq!(put(dir.path(), "one"), Put::Created);
        assert_eq!(put(dir.path(), "one"), Put::Unchanged);
        assert_eq!(put(dir.path(), "two"), Put::Updated);
        fs::write(&here, "mine").unwrap();
        // Our text is the same as before: nothing to tell the person.
        assert_eq!(put(dir.path(), "two"), Put::Kept);
        assert!(!beside(&here).exists());
        assert_eq!(put(dir.path(), "three"), Put::KeptNewBeside);
        assert_eq!(fs::read_to_string(&here).unwrap(), "mine");
        assert_eq!(fs::read_to_string(beside(&here)).unwrap(), "three");
        assert_eq!(put(dir.path(), "three"), Put::Kept);

        let mut machine = Machine::open(dir.path(), false).unwrap();
        assert_eq!(machine.take(Path::new(FILE), false).unwrap(), Taken::Kept);
        assert_eq!(machine.take(Path::new(FILE), true).unwrap(), Taken::Removed);
        machine.close().unwrap();
        assert!(!here.exists() && !beside(&here).exists());
        assert!(!below(dir.path(), Path::new(RECEIPT)).exists());
    }

    #[test]
    fn what_somebody_else_put_there_is_never_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/x.conf"), "one").unwrap();
        assert_eq!(put(dir.path(), "one"), Put::Unchanged);
        let mut machine = Machine::open(dir.path(), false).unwrap();
        assert_eq!(machine.take(Path::new(FILE), true).unwrap(), Taken::Kept);
    }

    #[test]
    fn a_dry_run_says_the_same_and_writes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut machine = Machine::open(dir.path(), true).unwrap();
        let put = machine
            .put(Path::new(FILE), b"one", 0o644, Kind::Settings)
            .unwrap();
        machine.close().unwrap();
        assert_eq!(put, Put::Created);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
