//! `Datastore` and `HostDatastoreBrowser`.

use tokio::time::Instant;

use crate::soap::{Call, Repeat};
use crate::xml::Element;
use crate::{Client, Error, MoRef, ObjectContent, Properties, Task, TaskResult};

/// A datastore as the host shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datastore {
    /// The datastore.
    pub object: MoRef,
    /// `summary.name`
    pub name: String,
    /// `summary.url`: what identifies it, `/vmfs/volumes/<uuid>/`, `ds:///vmfs/volumes/…`.
    pub url: String,
    /// `summary.type`: `VMFS`, `NFS`, `NFS41`, `vsan`, `VVOL`, …
    pub kind: String,
    /// The type of `info`: `VmfsDatastoreInfo`, `NasDatastoreInfo`, …
    pub info_kind: String,
    /// `summary.accessible`
    pub accessible: bool,
    /// `summary.capacity`
    pub capacity_bytes: u64,
    /// `summary.freeSpace`
    pub free_bytes: u64,
    /// `summary.multipleHostAccess`
    pub multiple_hosts: Option<bool>,
    /// `summary.maintenanceMode`; a vCenter's word, a host does not know it.
    pub maintenance: Option<String>,
    /// `info.aliasOf`: another name of the same datastore.
    pub alias_of: Option<String>,
    /// `info.maxVirtualDiskCapacity`
    pub max_disk_bytes: Option<u64>,
    /// `browser`
    pub browser: Option<MoRef>,
    /// `capability`
    pub capability: Capability,
}

/// What a datastore can do. What the host does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capability {
    /// Plain folders at its top: false on vSAN and VVol.
    pub top_level_directories: Option<bool>,
    /// Folders within folders.
    pub directories: Option<bool>,
    /// Thin disks.
    pub thin: Option<bool>,
    /// Disks can be grown.
    pub expand: Option<bool>,
}

/// What a search found in one folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchResult {
    /// `[datastore] folder`.
    pub folder: String,
    /// Its entries.
    pub files: Vec<Found>,
}

/// An entry of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The entry's type: `FolderFileInfo`, `VmDiskFileInfo`, `FileInfo`, …
    pub kind: String,
    /// Its name within the folder.
    pub path: String,
    /// On vSAN and VVol the name people gave it.
    pub friendly_name: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
}

const PATHS: &[&str] = &["summary", "info", "capability", "browser"];

impl Datastore {
    /// Which properties [`Datastore::read`] reads.
    pub const PATHS: &'static [&'static str] = PATHS;

    /// Reads a datastore from its properties. `None` without a summary.
    #[must_use]
    pub fn read(object: &MoRef, properties: &Properties) -> Option<Self> {
        let summary = properties.get("summary")?;
        let empty = Element::default();
        let info = properties.get("info").unwrap_or(&empty);
        let capability = properties.get("capability").unwrap_or(&empty);
        Some(Self {
            object: object.clone(),
            name: summary.some_text_of("name")?,
            url: summary.some_text_of("url").unwrap_or_default(),
            kind: summary.some_text_of("type").unwrap_or_default(),
            info_kind: info.xsi_type().unwrap_or_default().to_owned(),
            accessible: summary.flag_of("accessible").unwrap_or(false),
            capacity_bytes: summary.number_of("capacity").unwrap_or_default(),
            free_bytes: summary.number_of("freeSpace").unwrap_or_default(),
            multiple_hosts: summary.flag_of("multipleHostAccess"),
            maintenance: summary.some_text_of("maintenanceMode"),
            alias_of: info.some_text_of("aliasOf"),
            max_disk_bytes: info.number_of("maxVirtualDiskCapacity"),
            browser: properties.get("browser").and_then(Element::moref),
            capability: Capability {
                top_level_directories: capability.flag_of("topLevelDirectoryCreateSupported"),
                directories: capability.flag_of("directoryHierarchySupported"),
                thin: capability.flag_of("perFileThinProvisioningSupported"),
                expand: capability.flag_of("vmdkExpandSupported"),
            },
        })
    }
}

impl SearchResult {
    fn read(element: &Element) -> Self {
        let one = |file: &Element| {
            Some(Found {
                kind: file.xsi_type().unwrap_or_default().to_owned(),
                path: file.some_text_of("path")?,
                friendly_name: file.some_text_of("friendlyName"),
                size: file.number_of("fileSize"),
            })
        };
        Self {
            folder: element.some_text_of("folderPath").unwrap_or_default(),
            files: element.all("file").filter_map(one).collect(),
        }
    }

    /// Reads what a search's task left: one folder, or an array of them.
    #[must_use]
    pub fn read_all(result: &TaskResult) -> Vec<Self> {
        let Some(value) = &result.value else {
            return Vec::new();
        };
        if value.child("folderPath").is_some() {
            return vec![Self::read(value)];
        }
        value.children().iter().map(Self::read).collect()
    }
}

impl Client {
    /// Every datastore of this host (or vCenter), also those that cannot be reached now.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn list_datastores(&self, deadline: Instant) -> Result<Vec<Datastore>, Error> {
        let read = |found: ObjectContent| Datastore::read(&found.object, &found.properties);
        let found = self.inventory("Datastore", PATHS, deadline).await?;
        Ok(found.into_iter().filter_map(read).collect())
    }

    /// One datastore. `None`: the host shows nothing of it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn datastore(
        &self,
        datastore: &MoRef,
        deadline: Instant,
    ) -> Result<Option<Datastore>, Error> {
        let properties = self.properties(datastore, PATHS, deadline).await?;
        Ok(Datastore::read(datastore, &properties))
    }

    /// `RefreshDatastore`: has the host look at size and state again.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn refresh_datastore(
        &self,
        datastore: &MoRef,
        deadline: Instant,
    ) -> Result<(), Error> {
        let call = Call::new("RefreshDatastore", Repeat::Safe, datastore, |_| ());
        self.invoke(call, deadline).await.map(drop)
    }

    /// `SearchDatastore_Task` in `folder` (`[datastore] folder`), with sub-folders if wanted; the task's result goes
    /// through [`SearchResult::read_all`]. `patterns`: `*.vmdk`, none for everything.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn search_datastore(
        &self,
        browser: &MoRef,
        folder: &str,
        patterns: &[&str],
        sub_folders: bool,
        deadline: Instant,
    ) -> Result<Task, Error> {
        let name = if sub_folders {
            "SearchDatastoreSubFolders_Task"
        } else {
            "SearchDatastore_Task"
        };
        // Twice means a search nobody waits for.
        let call = Call::new(name, Repeat::Safe, browser, |w| {
            w.text("datastorePath", folder);
            w.element("searchSpec", |w| {
                w.element("details", |w| {
                    w.flag("fileType", true);
                    w.flag("fileSize", true);
                    w.flag("modification", false);
                    w.flag("fileOwner", false);
                });
                for pattern in patterns {
                    w.text("matchPattern", pattern);
                }
            });
        });
        self.start(call, deadline).await
    }
}
