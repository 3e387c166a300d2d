//! `host.json`: who a lab host is and where its datastores lie.
//!
//! A file `<host_dir>/isolated/<datastore>` cuts the host off from that datastore, as a dead storage path does: neither
//! its hypervisor nor its agent reaches the folder while the file is there. Everybody else on the machine still does.

use std::fs::{Metadata, metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    /// How long a lock of this host outlives it, on datastores that do not say it themselves.
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
    /// How long a lock on it outlives its host: an NFS lock about 35 s, a VMFS lock about 16 s, 0: not at all.
    #[serde(default, alias = "lapse_ms", skip_serializing_if = "Option::is_none")]
    pub lock_lapse_ms: Option<u64>,
    /// Hosts that contribute storage to a vSAN, which decides what policies it can satisfy; not said: three.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_hosts: Option<u32>,
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
    /// Reads and checks `<host_dir>/host.json`. A datastore that the host is cut off from has a path at which there is
    /// nothing and can be nothing.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn load(host_dir: &Path) -> Result<Self, ConfigError> {
        let mut config = Self::declared(host_dir)?;
        config.isolate(host_dir);
        Ok(config)
    }

    /// Puts the datastores out of reach that the host is cut off from.
    fn isolate(&mut self, host_dir: &Path) {
        for ds in &mut self.datastores {
            let flag = isolation_flag(host_dir, &ds.name);
            if flag.exists() {
                ds.path = flag.join("unreachable");
            }
        }
    }

    /// As [`HostConfig::load`], with all paths as the file has them.
    pub(crate) fn declared(host_dir: &Path) -> Result<Self, ConfigError> {
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

    /// How long a lock of this host on the datastore outlives it.
    #[must_use]
    pub fn lapse(&self, datastore: &DatastoreConfig) -> Duration {
        Duration::from_millis(datastore.lock_lapse_ms.unwrap_or(self.lock_lapse_ms))
    }

    /// How many hosts contribute storage to a vSAN; none when that datastore is no vSAN.
    #[must_use]
    pub fn storage_hosts(&self, datastore: &str) -> Option<u32> {
        let found = self.datastores.iter().find(|d| d.name == datastore)?;
        (found.kind == Kind::Vsan).then(|| found.storage_hosts.unwrap_or(STORAGE_HOSTS))
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

/// Hosts that contribute storage to a vSAN that does not say how many do: the least that a vSAN is built of.
const STORAGE_HOSTS: u32 = 3;

/// Folder of the files that cut a host off from datastores.
const ISOLATED: &str = "isolated";

/// The file that cuts a host off from a datastore.
#[must_use]
pub fn isolation_flag(host_dir: &Path, datastore: &str) -> PathBuf {
    host_dir.join(ISOLATED).join(datastore)
}

/// What tells one content of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// Coarsest time stamp of a file system in use. A file that changed less than this ago may change again without its
/// stamp showing it.
const TICK: Duration = Duration::from_millis(100);

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            inode: found.ino(),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// `host.json`, read again when it or the folder of what cuts the host off changed.
#[derive(Debug)]
pub(crate) struct Watched {
    host_dir: PathBuf,
    last: Mutex<Option<(Stamps, Arc<HostConfig>)>>,
}

/// Of the file, and of the folder if it is there.
type Stamps = (Stamp, Option<Stamp>);

impl Watched {
    /// The configuration in this folder.
    pub(crate) fn load(host_dir: &Path) -> Result<Self, ConfigError> {
        let watched = Self {
            host_dir: host_dir.to_owned(),
            last: Mutex::default(),
        };
        watched.now().map(|_| watched)
    }

    /// The configuration now.
    pub(crate) fn now(&self) -> Result<Arc<HostConfig>, ConfigError> {
        let path = self.host_dir.join("host.json");
        let file = metadata(&path).map_err(|e| ConfigError::Read(path, e))?;
        let isolated = metadata(self.host_dir.join(ISOLATED)).ok();
        let stamps = (Stamp::of(&file), isolated.as_ref().map(Stamp::of));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, config)) = &*last
            && *known == stamps
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(HostConfig::load(&self.host_dir)?);
        let settled = is_settled(&file) && isolated.as_ref().is_none_or(is_settled);
        *last = settled.then(|| (stamps, Arc::clone(&config)));
        Ok(config)
    }
}

/// Whether any later change shows in the time stamp.
pub(crate) fn is_settled(found: &Metadata) -> bool {
    found
        .modified()
        .ok()
        .and_then(|at| at.elapsed().ok())
        .is_some_and(|age| age > TICK)
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, write};
    use std::thread::sleep;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_change_of_the_file_is_seen_at_once_however_soon_it_comes() {
        let dir = tempdir().unwrap();
        let put = |name: &str| {
            let text = format!(
                r#"{{"name":"{name}","host_id":"{}","datastores":[]}}"#,
                Uuid::nil()
            );
            write(dir.path().join("host.json"), text).unwrap();
        };
        put("esx01");
        let watched = Watched::load(dir.path()).unwrap();
        for round in 0..20 {
            let name = format!("esx{round:02}");
            put(&name);
            assert_eq!(watched.now().unwrap().name, name);
        }
        sleep(2 * TICK);
        let kept = watched.now().unwrap();
        assert!(
            Arc::ptr_eq(&kept, &watched.now().unwrap()),
            "it is read once"
        );
        put("esx99");
        assert_eq!(watched.now().unwrap().name, "esx99");
        sleep(2 * TICK);
        let kept = watched.now().unwrap();
        create_dir(dir.path().join(ISOLATED)).unwrap();
        assert!(
            !Arc::ptr_eq(&kept, &watched.now().unwrap()),
            "a flag may be in it"
        );
    }
}
