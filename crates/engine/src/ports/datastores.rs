//! Datastores: folders that several hosts share, with small files and virtual disks in them.
//!
//! What an implementation must give, because *swap* stands on it: [`Datastores::create_new`] is exclusive among all
//! hosts, and a look-up after it, of a folder or of a single name, sees every file created before it by anybody. Where
//! `--probe` cannot show that, a datastore serves one host only.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use uuid::Uuid;
use vdvs_domain::policy::PolicyExpression;
use vdvs_domain::{Capacity, DatastoreName, DiskFormat};

use super::host::DiskPath;
use super::progress::Progress;

/// A relative path below a datastore: components joined by `/`, none empty, `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DsPath(String);

/// Not a path below a datastore.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a path below a datastore")]
pub struct DsPathError(String);

impl DsPath {
    /// Checks a relative path.
    ///
    /// # Errors
    /// [`DsPathError`] when it is empty, absolute or has an empty, `.` or `..` component, or a NUL.
    pub fn new(path: &str) -> Result<Self, DsPathError> {
        let good = |c: &str| !c.is_empty() && c != "." && c != ".." && !c.contains('\0');
        if path.split('/').all(good) {
            Ok(Self(path.to_owned()))
        } else {
            Err(DsPathError(path.chars().take(80).collect()))
        }
    }

    /// This path with one more component.
    ///
    /// # Errors
    /// [`DsPathError`] when `component` is not one component.
    pub fn join(&self, component: &str) -> Result<Self, DsPathError> {
        if component.contains('/') {
            return Err(DsPathError(component.chars().take(80).collect()));
        }
        Self::new(&format!("{}/{component}", self.0))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(&self.0, |(_, last)| last)
    }
}

impl fmt::Display for DsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Kind of a datastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatastoreKind {
    /// VMFS
    Vmfs,
    /// NFS
    Nfs,
    /// vSAN
    Vsan,
    /// Virtual volumes
    Vvol,
}

impl fmt::Display for DatastoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmfs => "vmfs",
            Self::Nfs => "nfs",
            Self::Vsan => "vsan",
            Self::Vvol => "vvol",
        })
    }
}

/// A datastore this host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatastoreInfo {
    /// Name.
    pub name: DatastoreName,
    /// Kind.
    pub kind: DatastoreKind,
    /// Whether it can be read now; false: anything may be on it.
    pub accessible: bool,
    /// Size in bytes.
    pub capacity_bytes: u64,
    /// Free bytes.
    pub free_bytes: u64,
}

/// Something in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Last component. Entries whose names are not UTF-8 are left out.
    pub name: String,
    /// A folder.
    pub is_dir: bool,
}

/// Tells one state of a folder's entries from the next. Says nothing about what is in its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderStamp {
    /// The folder.
    pub inode: u64,
    /// When an entry came or went last: seconds and nanoseconds.
    pub changed: (i64, i64),
}

/// A disk to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSpec {
    /// Size.
    pub capacity: Capacity,
    /// Allocation.
    pub format: DiskFormat,
    /// `ddb.uuid` of the descriptor.
    pub uuid: Uuid,
}

/// A disk as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskStat {
    /// Size.
    pub capacity: Capacity,
    /// Bytes it occupies on the datastore.
    pub allocated_bytes: u64,
}

/// A storage call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// File, folder, disk or datastore is not there (the datastore itself answered).
    #[error("{0} does not exist")]
    NotFound(String),
    /// It is there already.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// No room.
    #[error("no space left")]
    NoSpace,
    /// The file is larger than the reader allows.
    #[error("{0} is too large")]
    TooLarge(String),
    /// Somebody has the disk open.
    #[error("in use by {0}")]
    Busy(String),
    /// The datastore cannot give a disk the policy that was asked for; the disk keeps what it had.
    #[error("{0}")]
    PolicyRefused(String),
    /// [`Progress::stop`] was called.
    #[error("stopped")]
    Stopped,
    /// Anything else: the datastore cannot answer, or did not in time. The effect of a change is unknown.
    #[error("{0}")]
    Io(String),
}

/// Datastores of this host.
#[async_trait]
pub trait Datastores: Send + Sync + fmt::Debug {
    /// All datastores this host knows, also those it cannot read now.
    async fn list(&self) -> Result<Vec<DatastoreInfo>, StorageError>;

    /// Entries of a folder, fresh, in no particular order. [`StorageError::NotFound`] when the folder is not there.
    async fn read_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<Vec<Entry>, StorageError>;

    /// The entries of a folder whose names start so.
    async fn read_dir_starting(
        &self,
        ds: &DatastoreName,
        dir: &DsPath,
        start: &str,
    ) -> Result<Vec<Entry>, StorageError> {
        let mut entries = self.read_dir(ds, dir).await?;
        entries.retain(|e| e.name.starts_with(start));
        Ok(entries)
    }

    /// What tells a folder's entries now from its entries after any later change. `None`: this host cannot say, or an
    /// entry changed too short a time ago, or the folder is not there.
    async fn folder_stamp(
        &self,
        ds: &DatastoreName,
        dir: &DsPath,
    ) -> Result<Option<FolderStamp>, StorageError> {
        let _ = (ds, dir);
        Ok(None)
    }

    /// Reads files of at most `max` bytes each; `None` for one that is not there.
    async fn read_each(
        &self,
        ds: &DatastoreName,
        files: &[DsPath],
        max: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let mut found = Vec::with_capacity(files.len());
        for file in files {
            found.push(match self.read(ds, file, max).await {
                Ok(bytes) => Some(bytes),
                Err(StorageError::NotFound(_)) => None,
                Err(why) => return Err(why),
            });
        }
        Ok(found)
    }

    /// Makes a folder and its parents, durably; success when it is there already.
    async fn make_dir(&self, ds: &DatastoreName, dir: &DsPath) -> Result<(), StorageError>;

    /// Creates an empty file, exclusively among all hosts. [`StorageError::AlreadyExists`] when it is there.
    async fn create_new(&self, ds: &DatastoreName, file: &DsPath) -> Result<(), StorageError>;

    /// Writes the whole content of an existing file and makes it and its name durable.
    async fn write(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        bytes: &[u8],
    ) -> Result<(), StorageError>;

    /// Reads a file of at most `max` bytes. [`StorageError::TooLarge`] when it is larger.
    async fn read(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        max: usize,
    ) -> Result<Vec<u8>, StorageError>;

    /// Reads `file` unless `newer` is there, which is looked at **first**: `None` when it is. One question for whoever
    /// has read `file` before and wants to know whether anything came after it. [`StorageError::NotFound`]: neither is
    /// there.
    async fn read_unless(
        &self,
        ds: &DatastoreName,
        newer: &DsPath,
        file: &DsPath,
        max: usize,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        match self.read(ds, newer, max).await {
            Err(StorageError::NotFound(_)) => self.read(ds, file, max).await.map(Some),
            Ok(_) | Err(StorageError::TooLarge(_)) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// Removes a file of which it does not matter if it comes back after a crash. Not durable by itself.
    async fn discard(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        self.remove(ds, file).await
    }

    /// Removes a file. `false`: it was not there.
    async fn remove(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError>;

    /// Makes a virtual disk whose descriptor is `file`. [`StorageError::AlreadyExists`] when the descriptor is there.
    /// Takes as long as it takes: tells `progress`, and ends early with [`StorageError::Stopped`] when that says so.
    /// A failure leaves nothing that [`Datastores::stat_disk`] would show; leftovers go with
    /// [`Datastores::delete_disk`].
    async fn create_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
    ) -> Result<(), StorageError>;

    /// Makes a virtual disk with the content of `source`, which is as large or smaller; otherwise as
    /// [`Datastores::create_disk`]. What `source` never held takes no room in a thin disk. [`StorageError::Busy`] when
    /// somebody has the source open, or had while it was copied.
    async fn clone_disk(
        &self,
        source: &DiskPath,
        target: &DiskPath,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
    ) -> Result<(), StorageError>;

    /// Removes a virtual disk, descriptor and extents, also a half-made one. `false`: nothing was there.
    async fn delete_disk(&self, ds: &DatastoreName, file: &DsPath) -> Result<bool, StorageError>;

    /// Gives a disk a vSAN policy; it may be open, and may have this one already. [`StorageError::PolicyRefused`] when the
    /// datastore cannot satisfy it, or has none.
    async fn set_policy(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        policy: &PolicyExpression,
    ) -> Result<(), StorageError> {
        let _ = (file, policy);
        Err(StorageError::PolicyRefused(format!(
            "this host cannot change the policy of a disk on {ds}"
        )))
    }

    /// The policy a disk was given. `None`: none, or this host cannot say.
    async fn policy(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<PolicyExpression>, StorageError> {
        let _ = (ds, file);
        Ok(None)
    }

    /// The disk as it is; none when there is no descriptor.
    async fn stat_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<Option<DiskStat>, StorageError>;

    /// Bytes each disk occupies; 0 for one that cannot be looked at. For lists, so the cheapest look that is true.
    async fn allocated_each(
        &self,
        ds: &DatastoreName,
        files: &[DsPath],
    ) -> Result<Vec<u64>, StorageError> {
        let mut found = Vec::with_capacity(files.len());
        for file in files {
            let stat = self.stat_disk(ds, file).await.ok().flatten();
            found.push(stat.map_or(0, |s| s.allocated_bytes));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_its_datastore() {
        for bad in ["", "/a", "a//b", "a/..", "../a", ".", "a/", "a\0b"] {
            assert!(DsPath::new(bad).is_err(), "{bad:?}");
        }
        let path = DsPath::new("dockvols/x").unwrap();
        assert_eq!(path.join("v.vmdk").unwrap().as_str(), "dockvols/x/v.vmdk");
        assert!(path.join("../y").is_err() && path.join("..").is_err());
        assert_eq!(path.join("v.vmdk").unwrap().file_name(), "v.vmdk");
    }
}
