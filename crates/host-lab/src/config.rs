//! `host.json`: who a lab host is and where its datastores lie.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use vdvs_domain::DatastoreName;
use vdvs_engine::ports::DatastoreKind;

use crate::files;

/// A lab host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostConfig {
    /// Name for people.
    pub name: String,
    /// Identity that survives restarts.
    pub host_id: Uuid,
    /// Its datastores.
    pub datastores: Vec<DatastoreConfig>,
    /// How long a lock of this host outlives it.
    #[serde(default)]
    pub lock_lapse_ms: u64,
}

/// A datastore: a folder with a name and a declared type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatastoreConfig {
    /// Name.
    pub name: String,
    /// `vmfs`, `nfs`, `vsan` or `vvol`.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Folder.
    pub path: PathBuf,
}

/// Declared type of a datastore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// VMFS
    Vmfs,
    /// NFS
    Nfs,
    /// vSAN
    Vsan,
    /// Virtual volumes
    Vvol,
}

impl From<Kind> for DatastoreKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Vmfs => Self::Vmfs,
            Kind::Nfs => Self::Nfs,
            Kind::Vsan => Self::Vsan,
            Kind::Vvol => Self::Vvol,
        }
    }
}

/// `host.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not readable.
    #[error("cannot read '{0}'")]
    Read(PathBuf, #[source] io::Error),
    /// Not of the documented form.
    #[error("'{0}' is not a host's configuration")]
    Parse(PathBuf, #[source] serde_json::Error),
    /// A datastore's name or folder is impossible.
    #[error("'{path}': datastore '{name}': {why}")]
    Datastore {
        /// The file.
        path: PathBuf,
        /// The datastore.
        name: String,
        /// What is wrong.
        why: String,
    },
}

impl HostConfig {
    /// Reads and checks `<host_dir>/host.json`.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load(host_dir: &Path) -> Result<Self, ConfigError> {
        let path = host_dir.join("host.json");
        let text = files::read_text(&path).map_err(|e| ConfigError::Read(path.clone(), e))?;
        let config: Self =
            serde_json::from_str(&text).map_err(|e| ConfigError::Parse(path.clone(), e))?;
        for (i, ds) in config.datastores.iter().enumerate() {
            let bad = |why: String| ConfigError::Datastore {
                path: path.clone(),
                name: ds.name.clone(),
                why,
            };
            DatastoreName::new(&ds.name).map_err(|e| bad(e.to_string()))?;
            if !ds.path.is_absolute() {
                return Err(bad("its path is not absolute".to_owned()));
            }
            if config
                .datastores
                .iter()
                .take(i)
                .any(|other| other.name == ds.name)
            {
                return Err(bad("named twice".to_owned()));
            }
        }
        Ok(config)
    }

    /// A datastore's folder.
    #[must_use]
    pub fn folder(&self, datastore: &str) -> Option<&Path> {
        self.datastores
            .iter()
            .find(|d| d.name == datastore)
            .map(|d| d.path.as_path())
    }
}
