//! A disk in a folder: `<name>.vmdk` (descriptor) and `<name>-flat.vmdk` (extent).
//!
//! # Crash order
//! **A descriptor never exists without its whole extent.** The extent alone means an unfinished create or delete.
//!
//! | step | after a crash here |
//! |---|---|
//! | create 1: extent by exclusive create, sized or zeroed, fsync | extent alone |
//! | create 2: descriptor written and synced under `<name>.vmdk.tmp`, linked to its name, folder synced | the disk |
//! | delete 1: descriptor unlinked, folder synced | extent alone |
//! | delete 2: extent unlinked, folder synced | nothing |
//!
//! [`DiskFiles::delete`] finishes any of these states and succeeds when there is nothing left to do, so recovery of an
//! interrupted create is delete, then create. A create that still goes on holds a lock on its extent, and delete refuses. A create that fails, or is cancelled, removes what it made.
//!
//! A descriptor that cannot be parsed, or that is not one raw extent of the conventional name (chains, split disks,
//! URLs), is never deleted: its meaning is unknown here.

use std::ffi::OsStr;
use std::fs::{File, Metadata, OpenOptions, metadata};
use std::io::{self, ErrorKind};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use vdvs_domain::Capacity;
use vdvs_domain::capacity::CapacityError;

use crate::descriptor::{self, Descriptor, ParseError};
use crate::files;
use crate::new::{DiskUuid, NewDisk, Provisioning};

/// Bytes written at once while zeroing; also how often progress is told and cancelling is possible.
pub(crate) const CHUNK: usize = 1024 * 1024;
/// Only the host's root reads volumes.
const MODE: u32 = 0o600;
/// Ends of names that the hypervisor gives to a disk's other files.
const SIDE_FILES: [&str; 5] = ["-flat", "-delta", "-ctk", "-digest", "-sesparse"];

/// Why a disk operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not `<name>.vmdk`, or a name that belongs to a disk's side files.
    #[error("'{0}' cannot be the name of a virtual disk's descriptor")]
    BadName(PathBuf),
    /// There is a disk, or the rest of one, under this name.
    #[error("'{0}' exists already")]
    Exists(PathBuf),
    /// No descriptor.
    #[error("there is no disk '{0}'")]
    NotFound(PathBuf),
    /// The file system is full.
    #[error("no space left for '{path}'")]
    NoSpace {
        /// What was being written.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The descriptor is not one.
    #[error("the descriptor '{path}' is damaged")]
    Damaged {
        /// The descriptor.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// A valid descriptor of a kind that is not ours to handle.
    #[error("'{path}' is not a single flat disk: {what}")]
    Unsupported {
        /// The descriptor.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// Another process is making this disk right now.
    #[error("'{0}' is being made by somebody else")]
    Busy(PathBuf),
    /// The progress callback said stop; nothing is left.
    #[error("creating '{0}' was cancelled")]
    Cancelled(PathBuf),
    /// Somebody wrote to a clone's source while it was read; nothing of the clone is left.
    #[error("'{0}' was written to while it was copied")]
    SourceChanged(PathBuf),
    /// Anything else the file system said.
    #[error("cannot {doing} '{path}'")]
    Io {
        /// A verb.
        doing: &'static str,
        /// Of what.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}

/// How far zeroing or copying has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the disk that are as they shall be, not yet necessarily durable.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What a disk is and what it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskStat {
    /// Its size.
    pub capacity: Capacity,
    /// Bytes of the datastore its extent occupies now.
    pub allocated: u64,
    /// Allocated as written, by its own statement.
    pub thin: bool,
    /// `ddb.uuid`, where present and well-formed.
    pub uuid: Option<DiskUuid>,
}

/// Something [`DiskFiles::check`] found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// No descriptor; with `extent`, the rest of an unfinished create or delete.
    NoDescriptor {
        /// An extent of the conventional name exists.
        extent: bool,
    },
    /// The descriptor cannot be parsed.
    Damaged(ParseError),
    /// The descriptor's size is not a possible disk's.
    BadCapacity(CapacityError),
    /// Not a single flat disk.
    Unsupported(String),
    /// The extent is missing. Never the result of a crash.
    NoExtent,
    /// The extent's length is not what the descriptor says.
    ExtentLength {
        /// By the descriptor.
        expected: u64,
        /// Of the file.
        found: u64,
    },
    /// The preparation of a descriptor, left by a crash. Harmless.
    LeftOver(PathBuf),
}

/// The files of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskFiles {
    descriptor: PathBuf,
    extent: PathBuf,
    extent_name: String,
}

impl DiskFiles {
    /// The disk whose descriptor is (or will be) at `descriptor`.
    ///
    /// # Errors
    /// [`Error::BadName`] unless the file name is UTF-8, ends in `.vmdk`, and is not a side file's.
    pub fn new(descriptor: &Path) -> Result<Self, Error> {
        let stem = descriptor
            .file_name()
            .and_then(OsStr::to_str)
            .and_then(|name| name.strip_suffix(".vmdk"))
            .filter(|stem| !stem.is_empty() && !SIDE_FILES.iter().any(|s| stem.ends_with(s)))
            // These would break out of the quotes or lines of the descriptor.
            .filter(|stem| !stem.contains(|c: char| c == '"' || c.is_control()))
            .ok_or_else(|| Error::BadName(descriptor.to_owned()))?;
        let extent_name = format!("{stem}-flat.vmdk");
        Ok(Self {
            descriptor: descriptor.to_owned(),
            extent: descriptor.with_file_name(&extent_name),
            extent_name,
        })
    }

    /// The descriptor's path.
    #[must_use]
    pub fn descriptor(&self) -> &Path {
        &self.descriptor
    }

    /// The extent's path: what an attach opens.
    #[must_use]
    pub fn extent(&self) -> &Path {
        &self.extent
    }

    /// Makes the disk. `progress` is called while zeros are written and may stop the work. The result is how the
    /// extent really is provisioned: where the file system cannot reserve blocks, `ZeroedThick` becomes `Thin`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoSpace`], [`Error::Cancelled`], [`Error::Busy`], [`Error::Io`]; in each case nothing
    /// new is left.
    pub fn create(
        &self,
        disk: &NewDisk,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Provisioning, Error> {
        self.make(disk, |file, real| match real {
            Provisioning::EagerZeroedThick => {
                self.zero(file, 0..disk.capacity.bytes(), disk, progress)
            }
            Provisioning::Thin | Provisioning::ZeroedThick => Ok(()),
        })
    }

    /// Makes the extent, sized and reserved as `disk` says, has it filled, and gives it its descriptor.
    pub(crate) fn make(
        &self,
        disk: &NewDisk,
        fill: impl FnOnce(&File, Provisioning) -> Result<(), Error>,
    ) -> Result<Provisioning, Error> {
        if self.descriptor.symlink_metadata().is_ok() {
            return Err(Error::Exists(self.descriptor.clone()));
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&self.extent)
            .map_err(|e| fault("create", &self.extent, e))?;
        // Nothing of the name is ours unless the lock is: a delete may have taken the extent for a left-over.
        self.own(&file)?;
        let made = self.fill(&file, disk, fill).and_then(|real| {
            let text = NewDisk {
                provisioning: real,
                ..*disk
            }
            .descriptor(&self.extent_name)
            .render();
            files::create_whole(&self.descriptor, text.as_bytes())
                .map_err(|e| fault("write", &self.descriptor, e))?;
            Ok(real)
        });
        if made.is_err() {
            self.withdraw();
        }
        made
    }

    /// Locks the extent, as whoever makes or removes one without a descriptor does, and sees that it still has its name.
    /// Processes of one machine see each other's locks; between machines the record's operation keeps order.
    fn own(&self, file: &File) -> Result<(), Error> {
        file.try_lock()
            .map_err(|_| Error::Busy(self.descriptor.clone()))?;
        let links = file
            .metadata()
            .map_err(|e| fault("look at", &self.extent, e))?
            .nlink();
        if links == 0 {
            Err(Error::Busy(self.descriptor.clone()))
        } else {
            Ok(())
        }
    }

    /// Sizes the extent and makes it durable.
    fn fill(
        &self,
        file: &File,
        disk: &NewDisk,
        fill: impl FnOnce(&File, Provisioning) -> Result<(), Error>,
    ) -> Result<Provisioning, Error> {
        let io = |doing| move |e| fault(doing, &self.extent, e);
        let total = disk.capacity.bytes();
        let reserved = disk.provisioning == Provisioning::Thin
            || reserve(file, total).map_err(io("reserve"))?;
        let real = match disk.provisioning {
            Provisioning::ZeroedThick if !reserved => Provisioning::Thin,
            wanted => wanted,
        };
        file.set_len(total).map_err(io("size"))?;
        fill(file, real)?;
        file.sync_all().map_err(io("sync"))?;
        Ok(real)
    }

    /// Writes zeros to a part of the extent.
    pub(crate) fn zero(
        &self,
        file: &File,
        part: Range<u64>,
        disk: &NewDisk,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let zeros = vec![0u8; CHUNK];
        let mut at = part.start;
        while at < part.end {
            let left = usize::try_from(part.end - at).unwrap_or(CHUNK).min(CHUNK);
            let chunk = zeros.get(..left).unwrap_or(&zeros);
            file.write_all_at(chunk, at)
                .map_err(|e| fault("zero", &self.extent, e))?;
            at = at.saturating_add(u64::try_from(left).unwrap_or(0));
            self.tell(at, disk, progress)?;
        }
        Ok(())
    }

    /// Says how far the work has come, and hears whether it shall go on.
    pub(crate) fn tell(
        &self,
        done: u64,
        disk: &NewDisk,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), Error> {
        let total = disk.capacity.bytes();
        match progress(Progress { done, total }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Cancelled(self.descriptor.clone())),
        }
    }

    /// Best effort after a failed create: the extent was made exclusively by us and no descriptor names it. What
    /// cannot be removed now is an extent alone, which delete finishes.
    fn withdraw(&self) {
        if self.descriptor.symlink_metadata().is_err() {
            files::remove_if_present(&self.extent).ok();
            files::sync_dir(files::parent(&self.extent)).ok();
        }
    }

    /// Removes the disk, or what an interrupted create or delete left of it. True if there was anything.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::Unsupported`] with everything still in place; [`Error::Busy`] while somebody
    /// makes the disk; [`Error::Io`].
    pub fn delete(&self) -> Result<bool, Error> {
        match self.read() {
            Ok(descriptor) => {
                self.own_extent(&descriptor)?;
            }
            Err(Error::NotFound(_)) => {}
            Err(other) => return Err(other),
        }
        // Held until the extent is gone.
        let _lock = self.lock_extent()?;
        let mut any = false;
        for path in [
            &files::temp_of(&self.descriptor),
            &self.descriptor,
            &self.extent,
        ] {
            if files::remove_if_present(path).map_err(|e| fault("delete", path, e))? {
                any = true;
                // Between the two: a crash must never bring back a descriptor whose extent is gone.
                files::sync_dir(files::parent(path)).map_err(|e| fault("sync", path, e))?;
            }
        }
        Ok(any)
    }

    /// The extent, locked; none when there is none.
    fn lock_extent(&self) -> Result<Option<File>, Error> {
        match File::open(&self.extent) {
            Ok(file) => self.own(&file).map(|()| Some(file)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(fault("open", &self.extent, e)),
        }
    }

    /// Reads the descriptor.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::Io`].
    pub fn read(&self) -> Result<Descriptor, Error> {
        let bytes = files::read_bounded(&self.descriptor, descriptor::MAX_BYTES)
            .map_err(|e| fault("read", &self.descriptor, e))?;
        Descriptor::parse(&bytes).map_err(|source| Error::Damaged {
            path: self.descriptor.clone(),
            source,
        })
    }

    /// What the disk is and uses.
    ///
    /// # Errors
    /// As [`DiskFiles::read`]; [`Error::Unsupported`] when it is not a single flat disk of ours; [`Error::Io`] when
    /// its extent cannot be looked at.
    pub fn stat(&self) -> Result<DiskStat, Error> {
        let descriptor = self.read()?;
        self.own_extent(&descriptor)?;
        let capacity = descriptor
            .capacity()
            .map_err(|e| self.unsupported(e.to_string()))?;
        let extent = metadata(&self.extent).map_err(|source| Error::Io {
            doing: "look at",
            path: self.extent.clone(),
            source,
        })?;
        Ok(DiskStat {
            capacity,
            // `st_blocks` counts 512 bytes whatever the file system's block size.
            allocated: extent.blocks().saturating_mul(512),
            thin: descriptor.ddb("thinProvisioned") == Some("1"),
            uuid: descriptor.ddb("uuid").and_then(DiskUuid::from_ddb),
        })
    }

    /// Bytes its extent takes on the datastore: one look, and the descriptor is not read.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Io`] when the extent cannot be looked at.
    pub fn allocated(&self) -> Result<u64, Error> {
        match look(&self.extent)? {
            Some(extent) => Ok(extent.blocks().saturating_mul(512)),
            None => Err(Error::NotFound(self.extent.clone())),
        }
    }

    /// Everything that is wrong with the disk; empty for a sound one. Repairs nothing.
    ///
    /// # Errors
    /// [`Error::Io`] when looking itself fails: then nothing is known.
    pub fn check(&self) -> Result<Vec<Finding>, Error> {
        let mut findings = Vec::new();
        let temp = files::temp_of(&self.descriptor);
        if look(&temp)?.is_some() {
            findings.push(Finding::LeftOver(temp));
        }
        let extent = look(&self.extent)?;
        match self.read() {
            Ok(descriptor) => findings.extend(self.judge(&descriptor, extent.as_ref())),
            Err(Error::NotFound(_)) => {
                findings.push(Finding::NoDescriptor {
                    extent: extent.is_some(),
                });
            }
            Err(Error::Damaged { source, .. }) => findings.push(Finding::Damaged(source)),
            Err(other) => return Err(other),
        }
        Ok(findings)
    }

    fn judge(&self, descriptor: &Descriptor, extent: Option<&Metadata>) -> Option<Finding> {
        if let Err(Error::Unsupported { what, .. }) = self.own_extent(descriptor) {
            return Some(Finding::Unsupported(what));
        }
        let expected = match descriptor.capacity() {
            Ok(capacity) => capacity.bytes(),
            Err(e) => return Some(Finding::BadCapacity(e)),
        };
        match extent.map(Metadata::len) {
            None => Some(Finding::NoExtent),
            Some(found) if found != expected => Some(Finding::ExtentLength { expected, found }),
            Some(_) => None,
        }
    }

    /// The descriptor names exactly the extent that its own name implies.
    fn own_extent(&self, descriptor: &Descriptor) -> Result<(), Error> {
        if let Some(parent) = descriptor.parent_cid() {
            return Err(self.unsupported(format!("a child of the disk with CID {parent:08x}")));
        }
        match descriptor.flat_extent() {
            Some(extent) if extent.name == self.extent_name => Ok(()),
            Some(extent) => Err(self.unsupported(format!("its extent is '{}'", extent.name))),
            None => Err(self.unsupported(format!("createType {}", descriptor.create_type()))),
        }
    }

    fn unsupported(&self, what: String) -> Error {
        Error::Unsupported {
            path: self.descriptor.clone(),
            what,
        }
    }
}

/// Reserves blocks. False where the file system cannot.
fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    loop {
        match fallocate(file, FallocateFlags::empty(), 0, length) {
            Ok(()) => return Ok(true),
            Err(Errno::EINTR) => {}
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(false),
            Err(e) => return Err(e.into()),
        }
    }
}

fn look(path: &Path) -> Result<Option<Metadata>, Error> {
    match path.symlink_metadata() {
        Ok(m) => Ok(Some(m)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            doing: "look at",
            path: path.to_owned(),
            source,
        }),
    }
}

pub(crate) fn fault(doing: &'static str, path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        ErrorKind::AlreadyExists => Error::Exists(path),
        ErrorKind::NotFound if doing == "read" => Error::NotFound(path),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Error::NoSpace { path, source },
        _ => Error::Io {
            doing,
            path,
            source,
        },
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
