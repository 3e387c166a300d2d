//! What lies at the root of a volume's file system.
//!
//! ```text
//!   /          lost+found and the like: the file system's own
//!   /.vdvs     {"magic":"vdvs-volume","version":1,"volume":"<id>","layout":"data"}
//!   /data      what containers see: root:root 0755 at birth, or as the volume was ordered; theirs from then on
//! ```
//! Made once, between `mkfs` and the moment the record says *ready*: first the folder, then the marker, each durable
//! before the next, so a marker proves a folder. On a ready volume both are only ever checked; a missing `data` means
//! that something is wrong with the disk, and an empty new one would hide it. A clone comes with its source's marker,
//! which is replaced at its first mount; everything else is as the source had it.
//! In layout `root` (adopted volumes of the original) the whole file system belongs to the containers: nothing is
//! written, and a file of that name would be theirs and is not believed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;

use nix::errno::Errno;
use nix::libc::O_NOFOLLOW;
use serde::{Deserialize, Serialize};
use vdvs_domain::{Layout, VolumeId};

use crate::error::DeviceError;
use crate::mounting::require_mounted;
use crate::{Birth, DATA_DIR, MARKER};

const MAGIC: &str = "vdvs-volume";
const VERSION: u32 = 1;
/// A marker has some 120 bytes; more is not one of ours.
const MARKER_CAP: u64 = 4096;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Marker {
    magic: String,
    version: u32,
    volume: VolumeId,
    layout: Layout,
}

/// Makes folder and marker where they are missing; refuses a marker of another volume.
pub(crate) fn prepare(
    at: &Path,
    id: VolumeId,
    layout: Layout,
    birth: Birth,
) -> Result<(), DeviceError> {
    require_mounted(at)?;
    if layout == Layout::Root {
        return Ok(());
    }
    match read_marker(at)? {
        Some(marker) => return check(at, &marker, id, layout).and_then(|()| check_data(at)),
        None => make(at, id, layout, birth).map_err(|error| {
            DeviceError::on_device("preparing the file system at", at.to_owned(), error)
        })?,
    }
    Ok(())
}

/// Checks a ready volume.
pub(crate) fn verify(at: &Path, id: VolumeId, layout: Layout) -> Result<(), DeviceError> {
    require_mounted(at)?;
    if layout == Layout::Root {
        return Ok(());
    }
    let marker =
        read_marker(at)?.ok_or_else(|| foreign(at, format!("it has no marker file {MARKER}")))?;
    check(at, &marker, id, layout)?;
    check_data(at)
}

/// In a clone: the source's marker becomes this volume's. On a file system that cannot be written it stays.
pub(crate) fn claim(at: &Path, id: VolumeId, layout: Layout) -> Result<(), DeviceError> {
    require_mounted(at)?;
    if layout == Layout::Root {
        return Ok(());
    }
    let marker =
        read_marker(at)?.ok_or_else(|| foreign(at, format!("it has no marker file {MARKER}")))?;
    check(at, &marker, marker.volume, layout)?;
    check_data(at)?;
    if marker.volume == id {
        return Ok(());
    }
    match write_marker(at, id, layout) {
        Err(error) if error.raw_os_error() == Some(Errno::EROFS as i32) => Ok(()),
        other => other.map_err(|error| {
            DeviceError::on_device("preparing the file system at", at.to_owned(), error)
        }),
    }
}

fn make(at: &Path, id: VolumeId, layout: Layout, birth: Birth) -> io::Result<()> {
    let data = at.join(DATA_DIR);
    match DirBuilder::new().mode(0o755).create(&data) {
        // An earlier try was interrupted before its marker; nobody has mounted since.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        other => other?,
    }
    let folder = File::options()
        .read(true)
        .custom_flags(O_NOFOLLOW)
        .open(&data)?;
    if !folder.metadata()?.is_dir() {
        return Err(Errno::ENOTDIR.into());
    }
    // Changing the owner takes set-id bits away, and the process's umask may have taken others: so mode comes last.
    chown(&data, Some(birth.uid), Some(birth.gid))?;
    folder.set_permissions(PermissionsExt::from_mode(birth.mode))?;
    folder.sync_all()?;
    write_marker(at, id, layout)
}

fn write_marker(at: &Path, id: VolumeId, layout: Layout) -> io::Result<()> {
    let marker = Marker {
        magic: MAGIC.to_owned(),
        version: VERSION,
        volume: id,
        layout,
    };
    let mut text = serde_json::to_vec(&marker)?;
    text.push(b'\n');
    write_durably(at, MARKER, &text)
}

/// The crash-safe write: temporary file, fsync, rename, fsync of the folder. The folder's fsync also makes `data`
/// itself durable.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the crash-safe write helper"
)]
fn write_durably(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(O_NOFOLLOW)
        .open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()
}

fn read_marker(at: &Path) -> Result<Option<Marker>, DeviceError> {
    let path = at.join(MARKER);
    let opened = File::options()
        .read(true)
        .custom_flags(O_NOFOLLOW)
        .open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DeviceError::on_device("reading", path, error)),
    };
    let mut text = Vec::new();
    file.take(MARKER_CAP)
        .read_to_end(&mut text)
        .map_err(|error| DeviceError::on_device("reading", path, error))?;
    let marker: Marker = serde_json::from_slice(&text)
        .map_err(|error| foreign(at, format!("its marker file {MARKER} is damaged ({error})")))?;
    Ok(Some(marker))
}

fn check(at: &Path, marker: &Marker, id: VolumeId, layout: Layout) -> Result<(), DeviceError> {
    let why = if marker.magic != MAGIC {
        format!("its marker file {MARKER} is not ours")
    } else if marker.version != VERSION {
        format!(
            "its marker has version {}, this program knows {VERSION}; upgrade the plugin",
            marker.version
        )
    } else if marker.volume != id {
        format!("it belongs to volume {}, expected {id}", marker.volume)
    } else if marker.layout != layout {
        format!("its layout is {}, expected {layout}", marker.layout)
    } else {
        return Ok(());
    };
    Err(foreign(at, why))
}

fn check_data(at: &Path) -> Result<(), DeviceError> {
    let path = at.join(DATA_DIR);
    match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(_) => Err(foreign(at, format!("'{DATA_DIR}' is not a folder"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(foreign(
            at,
            format!("its folder '{DATA_DIR}' is missing although the volume is formatted"),
        )),
        Err(error) => Err(DeviceError::on_device("looking at", path, error)),
    }
}

fn foreign(at: &Path, why: String) -> DeviceError {
    DeviceError::Layout {
        at: at.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use uuid::Uuid;

    use super::*;

    const ID: VolumeId = VolumeId::new(Uuid::from_u128(7));
    const OTHER: VolumeId = VolumeId::new(Uuid::from_u128(8));

    fn marked(id: VolumeId) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let marker = Marker {
            magic: MAGIC.into(),
            version: VERSION,
            volume: id,
            layout: Layout::Data,
        };
        let text = serde_json::to_vec(&marker).unwrap();
        write_durably(dir.path(), MARKER, &text).unwrap();
        dir
    }

    #[test]
    fn a_marker_is_read_back_and_belongs_to_one_volume_and_layout() {
        let dir = marked(ID);
        let marker = read_marker(dir.path()).unwrap().unwrap();
        assert!(check(dir.path(), &marker, ID, Layout::Data).is_ok());
        let other = check(dir.path(), &marker, OTHER, Layout::Data).unwrap_err();
        assert!(
            other.to_string().contains("it belongs to volume"),
            "{other}"
        );
        assert!(check(dir.path(), &marker, ID, Layout::Root).is_err());
        assert!(!dir.path().join(".vdvs.new").exists());
    }

    #[test]
    fn a_missing_data_folder_is_an_error_and_a_link_does_not_count() {
        let dir = marked(ID);
        assert!(
            check_data(dir.path())
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
        symlink("/", dir.path().join(DATA_DIR)).unwrap();
        assert!(check_data(dir.path()).is_err());
    }

    #[test]
    fn a_damaged_marker_is_told_apart_from_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_marker(dir.path()).unwrap(), None);
        fs::write(dir.path().join(MARKER), "{").unwrap();
        assert!(read_marker(dir.path()).is_err());
    }
}
