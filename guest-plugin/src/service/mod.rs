//! The volume service: what each request of Docker means for this guest's disks.
//!
//! ```text
//!            Mount: claim ──► bring up: attach ► find ► probe ► (format) ► mount ──► count ► journal ► reply
//!   nothing ◄────────────────────────────────────────────────────────────────────► Mounted
//!            Unmount of the last ID ──► take down: unmount ► O_EXCL ► detach
//!                                          busy ► stays Attached, retried          host took it ► Lost
//! ```
//! Invariants:
//! * **At most one job per volume** (bring up, take down, check, lose). Requests wait for a job, never under a lock,
//!   and jobs of different volumes do not know each other. Get, List and Unmount never wait for a bring-up.
//! * **A Mount request holds a claim while its caller waits.** A bring-up that ends with neither claims nor counts is
//!   taken down at once, since no Unmount follows a Mount that timed out.
//! * Nothing is detached that [`vdvs_blockdev::Devices::exclusively_unused`] did not find unused (P8), except what
//!   is not there.
//! * The journal is on disk before a Mount or Unmount is answered.
//! * `book` is a plain mutex and never held over an await.
//!
//! | module | concept |
//! |---|---|
//! | `book` | the state, and decisions about it without any effect |
//! | `mount`, `bring_up` | Mount and its job |
//! | `clones` | a clone's own identity, before its first mount |
//! | `take_down` | Unmount and its job; the check of a volume |
//! | `loss` | what the host took away |
//! | `lookup` | Get, List, Path: what is said while the agent is away |
//! | `change` | Create and Remove |
//! | `reality` | start, inventory, notices, timers |
//! | `stale` | mounts against the book |
//! | `status` | what `docker volume inspect` shows |

mod book;
mod bring_up;
mod change;
mod clones;
mod job;
mod lookup;
mod loss;
mod mount;
mod reality;
mod stale;
mod status;
mod take_down;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use uuid::Uuid;
use vdvs_blockdev::{DATA_DIR, Devices};
use vdvs_domain::{Layout, VolumeId};

pub use stale::stale_mounts;
pub(crate) use status::utf8;
pub use status::{Shown, VdvsStatus, View};

use crate::agent::{Agent, Volume};
use crate::clock::Clock;
use crate::journal::{JournalStore, Known, call};
use book::Book;

/// How long things may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A Mount or Create, answer included. dockerd gives up after 120 s, or 30 s for a managed plugin.
    pub mount_budget: Duration,
    /// Any other call. dockerd gives up after 60 s.
    pub call_budget: Duration,
    /// How long an unanswerable look-up of an unknown name waits for the agent before the connection is dropped.
    pub hold: Duration,
    /// How long a look-up of a known name waits for an agent that is known to be away.
    pub away: Duration,
    /// Counts younger than this are believed: dockerd was told the path and may not have used it yet.
    pub believe: Duration,
    /// Between two reality checks.
    pub check_every: Duration,
    /// Between two refreshes of the known volumes.
    pub refresh_every: Duration,
    /// For a disk to appear after the agent attached it.
    pub device: Duration,
}

impl Limits {
    /// The limits for a Mount budget.
    #[must_use]
    pub fn for_budget(mount_budget: Duration) -> Self {
        Self {
            mount_budget,
            call_budget: mount_budget.min(Duration::from_secs(50)),
            hold: Duration::from_secs(10),
            away: Duration::from_millis(500),
            believe: Duration::from_secs(120),
            check_every: Duration::from_secs(60),
            refresh_every: Duration::from_secs(30),
            device: Duration::from_secs(15),
        }
    }

    /// With another age at which counts are doubted; looked at twice as often as that.
    #[must_use]
    pub fn doubting_after(self, age: Duration) -> Self {
        Self {
            believe: age,
            check_every: age / 2,
            ..self
        }
    }

    /// The part of the Mount budget in which the agent may wait for another VM: what is left must do for finding
    /// and mounting the disk.
    fn wait(&self) -> Duration {
        self.mount_budget
            .saturating_sub(Duration::from_secs(10))
            .max(self.mount_budget / 2)
    }
}

impl Default for Limits {
    /// As a service.
    fn default() -> Self {
        Self::for_budget(Duration::from_secs(110))
    }
}

/// Why a request gets no ordinary answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// An answer: the text goes to the person.
    Said(String),
    /// The answer is not known. The connection is closed without one, because dockerd takes every error of a look-up
    /// for "does not exist" and then makes a local volume (promise P4).
    Unknown(String),
}

/// The ports the service works through.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The agent on the host.
    pub agent: Arc<dyn Agent>,
    /// This guest's disks.
    pub devices: Arc<dyn Devices>,
    /// What survives a restart.
    pub journal: Arc<dyn JournalStore>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct Inner {
    ports: Ports,
    mount_root: PathBuf,
    limits: Limits,
    book: Mutex<Book>,
    /// Version of the book on disk; the lock makes writers queue, so that one write serves all who wait.
    written: AsyncMutex<u64>,
    /// Whether names could not be written when it was last tried. The lock keeps the log in the order of the book.
    names_behind: AsyncMutex<bool>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// The volume service. Cloning is cheap and gives the same service.
#[derive(Debug, Clone)]
pub struct Volumes {
    inner: Arc<Inner>,
}

impl Volumes {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner
            .book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    fn agent(&self) -> &dyn Agent {
        self.inner.ports.agent.as_ref()
    }

    fn devices(&self) -> &dyn Devices {
        self.inner.ports.devices.as_ref()
    }

    fn agent_is_up(&self) -> bool {
        self.agent().link().borrow().is_up()
    }

    fn call_deadline(&self) -> Instant {
        Instant::now() + self.limits().call_budget
    }

    /// Where a volume's file system is mounted.
    fn target(&self, volume: VolumeId) -> PathBuf {
        self.inner.mount_root.join(volume.to_string())
    }

    /// What Docker is told: where the data is, mounted or not.
    fn mountpoint(&self, volume: VolumeId, layout: Layout) -> PathBuf {
        match layout {
            Layout::Data => self.target(volume).join(DATA_DIR),
            Layout::Root => self.target(volume),
        }
    }

    /// Writes what is held, unless a write that began later did it already.
    async fn persist(&self) -> Result<(), Failure> {
        let asked = self.book().version;
        let mut written = self.inner.written.lock().await;
        if *written >= asked {
            return Ok(());
        }
        let (version, held) = {
            let book = self.book();
            (
                book.version,
                book.held.values().cloned().collect::<Vec<_>>(),
            )
        };
        let journal = &self.inner.ports.journal;
        match call(journal, move |journal| journal.save_held(version, &held)).await {
            Ok(()) => {
                *written = version;
                Ok(())
            }
            Err(e) => Err(Failure::Said(format!(
                "The plugin's journal cannot be written ({e}); make room on the file system of its --state folder, then try again"
            ))),
        }
    }

    /// As [`Self::persist`], where there is nobody to tell.
    async fn persist_or_log(&self) {
        if let Err(Failure::Said(text) | Failure::Unknown(text)) = self.persist().await {
            error!(%text, "what this guest holds is remembered in memory only");
        }
    }

    /// Remembers what the agent told, on disk before anybody is told. `short`: this one was found by its short name.
    async fn learn(&self, volumes: &[Volume], short: Option<VolumeId>) {
        let now = self.inner.ports.clock.now();
        let unwritten = self.book().learn(volumes, short, now);
        if unwritten {
            self.write_known().await;
        }
    }

    /// Forgets volumes that a fresh answer said do not exist. What is held stays.
    async fn forget(&self, gone: &[VolumeId]) {
        let unwritten = self.book().forget(gone);
        if unwritten {
            self.write_known().await;
        }
    }

    /// Writes the names that are not on disk as they are known. What cannot be written now is tried again with the
    /// next one, and at each refresh: a plugin that starts anew would not know it.
    async fn write_known(&self) {
        let mut behind = self.inner.names_behind.lock().await;
        let changes = self.book().unwritten();
        if changes.is_empty() {
            return;
        }
        let journal = &self.inner.ports.journal;
        let written = call(journal, move |journal| {
            let lines = journal.append_known(&changes)?;
            Ok((lines, changes))
        });
        let (lines, changes) = match written.await {
            Ok(written) => written,
            Err(e) if *behind => {
                debug!(error = %e, "names of volumes are still remembered in memory only");
                return;
            }
            Err(e) => {
                warn!(
                    error = %e,
                    "names of volumes are remembered in memory only; make room on the file system of the --state folder, \
                     they are written then"
                );
                *behind = true;
                return;
            }
        };
        if *behind {
            info!("names of volumes are on disk again");
            *behind = false;
        }
        let known: Vec<Known> = {
            let mut book = self.book();
            book.written(&changes);
            if lines < book.known.len().saturating_mul(2).saturating_add(1000) {
                return;
            }
            book.known.values().cloned().collect()
        };
        let rewritten = call(journal, move |journal| journal.rewrite_known(&known)).await;
        if let Err(e) = rewritten {
            warn!(error = %e, "the log of known volumes was not shortened");
        }
    }
}

/// The volume that is mounted at a place, if the place is one of ours.
fn volume_at(root: &Path, at: &Path) -> Option<VolumeId> {
    if at.parent()? != root {
        return None;
    }
    let name = at.file_name()?.to_str()?;
    let uuid = Uuid::from_str(name).ok()?;
    // Only our own spelling: nothing else made the folder.
    (uuid.hyphenated().to_string() == name).then(|| VolumeId::new(uuid))
}
