//! Files that commands read and write: read whole up to a bound, written only where nothing is yet.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use vdvs_domain::ErrorKind;

use crate::failure::Failure;

/// Largest file that is sent to the agent. Databases of the original have some hundred kilobytes; a message of the
/// protocol holds 4 MiB.
const LARGEST: u64 = 3 << 20;

/// The file's bytes.
///
/// # Errors
/// [`Failure`]: it cannot be read, or is too large for what it should be.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let failed = |e: io::Error| {
        Failure::new(
            ErrorKind::InvalidArgument,
            format!("cannot read {shown}: {e}"),
        )
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(Failure::new(
            ErrorKind::InvalidArgument,
            format!("{shown} is larger than 3 MiB; no configuration is that large"),
        ));
    }
    Ok(bytes)
}

/// A file that is made for an answer, for its owner alone. It is taken away again when there is no answer.
#[derive(Debug)]
pub(super) struct New {
    path: PathBuf,
    file: Option<File>,
}

impl New {
    /// Makes it, before the agent is asked.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Ok(file) => Ok(Self {
                path: path.to_owned(),
                file: Some(file),
            }),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Failure::new(
                ErrorKind::AlreadyExists,
                format!(
                    "{} exists already; name another file, or remove that one",
                    path.display()
                ),
            )),
            Err(e) => Err(Failure::new(
                ErrorKind::InvalidArgument,
                format!("cannot make {}: {e}", path.display()),
            )),
        }
    }

    /// Writes the answer, and makes sure that it is on the disk.
    pub(super) fn write(mut self, text: &str) -> Result<(), Failure> {
        let Some(mut file) = self.file.take() else {
            return Ok(());
        };
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all());
        written.map_err(|e| {
            remove_file(&self.path).ok();
            Failure::new(
                ErrorKind::NoSpace,
                format!("cannot write {}: {e}", self.path.display()),
            )
        })
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            remove_file(&self.path).ok();
        }
    }
}
