//! From a disk's name to the file that is opened, and who on this machine has it open.

use std::error::Error;
use std::path::{Path, PathBuf};

use vdvs_engine::ports::DsPath;
use vdvs_vmdk::{DiskFiles, Error as VmdkError, Finding};

use crate::config::HostConfig;
use crate::protocol::{Disk, LabError, LabErrorKind};
use crate::sys::{self, LoopState};

/// The disk's files. Links in the folder's path are followed, so two names of one disk give one extent.
pub(crate) fn locate(config: &HostConfig, disk: &Disk) -> Result<DiskFiles, LabError> {
    let missing = |why: &str| {
        LabError::new(
            LabErrorKind::NoSuchDisk,
            format!("disk '{disk}' does not exist: {why}"),
        )
    };
    let path =
        DsPath::new(&disk.path).map_err(|e| LabError::new(LabErrorKind::Invalid, e.to_string()))?;
    let root = config
        .folder(&disk.datastore)
        .ok_or_else(|| missing("this host has no such datastore"))?
        .canonicalize()
        .map_err(|e| {
            io(format!(
                "datastore '{}' cannot be read: {e}",
                disk.datastore
            ))
        })?;
    let full = root.join(path.as_str());
    let folder = full.parent().unwrap_or(&root);
    let folder = folder.canonicalize().map_err(|e| missing(&e.to_string()))?;
    if !folder.starts_with(&root) {
        return Err(LabError::new(
            LabErrorKind::Invalid,
            format!("disk '{disk}' lies outside its datastore"),
        ));
    }
    DiskFiles::new(&folder.join(path.file_name()))
        .map_err(|e| LabError::new(LabErrorKind::Invalid, e.to_string()))
}

/// The extent of a sound disk.
pub(crate) fn sound(config: &HostConfig, disk: &Disk) -> Result<PathBuf, LabError> {
    let files = locate(config, disk)?;
    let findings = files
        .check()
        .map_err(|e| io(format!("disk '{disk}': {}", chain(&e))))?;
    if findings.is_empty() || matches!(findings.as_slice(), [Finding::LeftOver(_)]) {
        return Ok(files.extent().to_owned());
    }
    match files.read() {
        Err(VmdkError::NotFound(_)) => Err(LabError::new(
            LabErrorKind::NoSuchDisk,
            format!("disk '{disk}' does not exist"),
        )),
        _ => Err(io(format!("disk '{disk}' is damaged: {findings:?}"))),
    }
}

/// The extent by name alone, for a disk in a configuration whose datastore may be unreadable now.
pub(crate) fn extent_of(config: &HostConfig, disk: &Disk) -> PathBuf {
    locate(config, disk).map_or_else(
        |_| {
            let root = config.folder(&disk.datastore).unwrap_or(Path::new("/"));
            let path = root.join(&disk.path);
            DiskFiles::new(&path).map_or(path, |f| f.extent().to_owned())
        },
        |files| files.extent().to_owned(),
    )
}

/// The lock, as the machine itself tells it: loop devices on this extent that were not cut off, whoever
/// made them. This is the place of a
/// lock that other machines see; on one machine the kernel's own list is the truth.
pub(crate) fn openers(extent: &Path) -> Result<Vec<LoopState>, LabError> {
    let loops = sys::loops().map_err(|e| io(format!("cannot list loop devices: {e}")))?;
    let open = |l: &LoopState| l.backing == extent && !l.is_cut();
    Ok(loops.into_iter().filter(open).collect())
}

pub(crate) fn io(text: String) -> LabError {
    LabError::new(LabErrorKind::Io, text)
}

/// An error with its causes, for an answer that has one text only.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}
