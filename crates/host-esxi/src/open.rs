//! Opening a host: settings, identity, the waiter.
//!
//! The identity is the machine's, learnt from hostd once and kept in a file of this host. From then on the agent starts
//! without hostd.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use vdvs_domain::HostId;
use vdvs_engine::ports::HostIdentity;
use vdvs_vim::{ConfigError, Error};

use crate::config::EsxiConfig;
use crate::esx::Esx;
use crate::files;
use crate::host::EsxHost;
use crate::locks::Locks;
use crate::queues::Queues;
use crate::stores::{EsxDatastores, Stores};

/// For learning who we are, the first time.
const LEARN: Duration = Duration::from_secs(10);
/// Largest file of an identity read.
const MAX_FILE: u64 = 4096;

/// A host that was opened.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Its VMs.
    pub host: Arc<EsxHost>,
    /// Its datastores.
    pub datastores: Arc<EsxDatastores>,
}

/// A host cannot be opened. [`OpenError::may_pass`] tells whether trying again later may help.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings cannot be used.
    #[error("the settings for hostd cannot be used")]
    Settings(#[from] ConfigError),
    /// The file with our identity cannot be used.
    #[error("this host's identity in {0} cannot be used")]
    Identity(PathBuf, #[source] io::Error),
    /// hostd did not say who we are.
    #[error("hostd did not say which host this is")]
    Unreachable(#[from] Error),
    /// hostd has no identity for this machine.
    #[error("hostd names no UUID of this machine ('{0}')")]
    NoIdentity(String),
}

impl OpenError {
    /// Trying again later may help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// Our identity, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    id: Uuid,
    name: String,
}

impl EsxHost {
    /// Opens the host. hostd is asked for nothing but the identity, and that only the first time.
    ///
    /// # Errors
    /// [`OpenError`]
    pub async fn open(config: EsxiConfig) -> Result<Opened, OpenError> {
        let client = config.client()?;
        let esx = Arc::new(Esx::new(client, config.host.clone()));
        let identity = identity(&esx, &config.state).await?;
        let stores = Arc::new(Stores::new(Arc::clone(&esx)));
        let locks = Arc::new(Locks::new(Arc::clone(&esx), Arc::clone(&stores)));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (waiter, cancel) = (Arc::clone(&esx), stop.clone());
        tasks.spawn(async move { waiter.feed.listen(&waiter.client, &cancel).await });
        Ok(Opened {
            datastores: Arc::new(EsxDatastores {
                esx: Arc::clone(&esx),
                stores: Arc::clone(&stores),
                locks: Arc::clone(&locks),
            }),
            host: Arc::new(EsxHost {
                identity,
                esx,
                stores,
                locks,
                queues: Queues::default(),
                stop,
                tasks,
            }),
        })
    }
}

async fn identity(esx: &Esx, state: &Path) -> Result<HostIdentity, OpenError> {
    let file = state.join("host.json");
    let broken = |e: io::Error| OpenError::Identity(file.clone(), e);
    let kept: Option<Kept> = match files::read_small(&file, MAX_FILE).map_err(broken)? {
        Some(bytes) => Some(serde_json::from_slice(&bytes).map_err(|e| broken(e.into()))?),
        None => None,
    };
    let kept = match kept {
        Some(kept) => kept,
        None => {
            let me = esx.me(Instant::now() + LEARN).await?;
            let told = me.host.uuid.clone().unwrap_or_default();
            let id = told.parse().ok().filter(is_an_identity);
            let kept = Kept {
                id: id.ok_or(OpenError::NoIdentity(told))?,
                name: me.host.name.clone(),
            };
            let text = serde_json::to_vec_pretty(&kept).map_err(|e| broken(e.into()))?;
            files::replace(&file, &text).map_err(broken)?;
            kept
        }
    };
    Ok(HostIdentity {
        id: HostId::new(kept.id),
        name: kept.name,
        kind: "esxi",
    })
}

/// Some boards ship with a UUID of zeros or ones, all the same.
fn is_an_identity(id: &Uuid) -> bool {
    !id.is_nil() && !id.is_max()
}

#[cfg(test)]
mod tests {
    use std::fs::write;

    use tempfile::tempdir;

    use super::*;

    #[tokio::test]
    async fn a_host_that_knows_itself_opens_without_hostd() {
        let dir = tempdir().unwrap();
        let id = Uuid::from_u128(7);
        write(
            dir.path().join("host.json"),
            format!("{{\"id\":\"{id}\",\"name\":\"esx01\"}}"),
        )
        .unwrap();
        let mut config = EsxiConfig::local(dir.path().to_owned());
        config.url = "https://127.0.0.1:1/sdk".to_owned();
        let opened = EsxHost::open(config).await.unwrap();
        use vdvs_engine::ports::Host;
        let identity = opened.host.identity();
        assert_eq!(
            (identity.id, identity.name.as_str()),
            (HostId::new(id), "esx01")
        );
        opened.host.close().await;
    }

    #[tokio::test]
    async fn a_damaged_identity_is_said_and_never_replaced() {
        let dir = tempdir().unwrap();
        write(dir.path().join("host.json"), "{").unwrap();
        let refused = EsxHost::open(EsxiConfig::local(dir.path().to_owned()))
            .await
            .unwrap_err();
        assert!(
            !refused.may_pass() && refused.to_string().contains("host.json"),
            "{refused}"
        );
    }

    #[test]
    fn a_uuid_that_every_board_of_a_kind_has_is_no_identity() {
        assert!(!is_an_identity(&Uuid::nil()) && !is_an_identity(&Uuid::max()));
        assert!(is_an_identity(&Uuid::from_u128(1)));
    }
}
