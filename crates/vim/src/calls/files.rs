//! `FileManager`: folders, files, and who holds a file.

use tokio::time::Instant;

use crate::soap::{ApiVersion, Call, Repeat, localized};
use crate::xml::{Element, Writer};
use crate::{Client, Error, MoRef, ServiceContent, Task};

/// The path of a file or folder as the API takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePath {
    /// `[datastore] folder/file`, or `[] /vmfs/volumes/…`.
    pub path: String,
    /// The datacenter in which the datastore's name means something: on a vCenter needed, on a host none.
    pub datacenter: Option<MoRef>,
}

impl FilePath {
    /// A path on a host by itself.
    #[must_use]
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            datacenter: None,
        }
    }

    /// A path within a datacenter.
    #[must_use]
    pub fn within(datacenter: &MoRef, path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            datacenter: Some(datacenter.clone()),
        }
    }

    pub(crate) fn write(&self, w: &mut Writer, name: &'static str, datacenter: &'static str) {
        w.text(name, &self.path);
        if let Some(dc) = &self.datacenter {
            w.moref(datacenter, dc);
        }
    }
}

/// `[datastore] path`.
#[must_use]
pub fn datastore_path(datastore: &str, path: &str) -> String {
    if path.is_empty() {
        format!("[{datastore}]")
    } else {
        format!("[{datastore}] {path}")
    }
}

/// What `QueryFileLockInfo` says of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileLocks {
    /// Locks on the file. None: nobody holds it.
    pub locks: Vec<FileLock>,
}

/// One lock on a file. What the host leaves out is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileLock {
    /// The file.
    pub file_path: String,
    /// Name or address of the host that holds it.
    pub host: String,
    /// MAC address of that host.
    pub mac: String,
    /// Identity of the lock.
    pub id: String,
    /// Name of the process that holds it.
    pub world_name: String,
    /// Owner, in the file system's words.
    pub owner_id: Option<String>,
    /// Mode, as `exclusive` or `readOnly`; in the host's words.
    pub lock_mode: String,
    /// When it was taken.
    pub acquired: Option<String>,
    /// When it was renewed last.
    pub heartbeat: Option<String>,
    /// How often it is taken.
    pub ref_count: Option<i32>,
}

impl FileLock {
    fn read(element: &Element) -> Self {
        let text = |field: &str| element.some_text_of(field).unwrap_or_default();
        Self {
            file_path: text("filePath"),
            host: text("host"),
            mac: text("mac"),
            id: text("id"),
            world_name: text("worldName"),
            owner_id: element.some_text_of("ownerId"),
            lock_mode: text("lockMode"),
            acquired: element.some_text_of("acquired"),
            heartbeat: element.some_text_of("heartbeat"),
            ref_count: element.number_of("refCount"),
        }
    }
}

impl Client {
    /// `MakeDirectory`. With `parents`, folders on the way are made too. An existing folder: `FileAlreadyExists`.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn make_directory(
        &self,
        path: &FilePath,
        parents: bool,
        deadline: Instant,
    ) -> Result<(), Error> {
        const CALL: &str = "MakeDirectory";
        let this = self.file_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Never, &this, |w| {
            path.write(w, "name", "datacenter");
            w.flag("createParentDirectories", parents);
        });
        self.invoke(call, deadline).await.map(drop)
    }

    /// `DeleteDatastoreFile_Task`: deletes a file, or a folder with everything in it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn delete_datastore_file(
        &self,
        path: &FilePath,
        deadline: Instant,
    ) -> Result<Task, Error> {
        const CALL: &str = "DeleteDatastoreFile_Task";
        let this = self.file_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Never, &this, |w| {
            path.write(w, "name", "datacenter");
        });
        self.start(call, deadline).await
    }

    /// `QueryFileLockInfo`, since 8.0.2: who holds a file. Ask for the extent (`-flat.vmdk`), not for the descriptor.
    /// Older hosts: [`Error::Refused`] with [`crate::FaultKind::NotSupported`].
    ///
    /// # Errors
    /// [`Error`]
    pub async fn query_file_lock_info(
        &self,
        path: &str,
        host: Option<&MoRef>,
        deadline: Instant,
    ) -> Result<FileLocks, Error> {
        const CALL: &str = "QueryFileLockInfo";
        let this = self.file_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Safe, &this, |w| {
            w.text("path", path);
            if let Some(host) = host {
                w.moref("host", host);
            }
        })
        .since(ApiVersion::V8_0_2);
        let answer = self.invoke(call, deadline).await?;
        let result = answer.need("returnval")?;
        if let Some(fault) = result.child("fault") {
            return Err(Error::Refused {
                call: CALL,
                fault: Box::new(localized(fault)),
            });
        }
        Ok(FileLocks {
            locks: result.all("lockInfo").map(FileLock::read).collect(),
        })
    }

    async fn file_manager(&self, call: &'static str, deadline: Instant) -> Result<MoRef, Error> {
        let content = self.service_content(deadline).await?;
        ServiceContent::need(content.file_manager.as_ref(), "FileManager", call)
    }
}
