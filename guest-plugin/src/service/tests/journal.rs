//! The journal on a disk that may be full, and what becomes of names then.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use tokio::time::{Duration, sleep};

use super::{Guest, none};
use crate::journal::{Change, FileJournal, Held, JournalStore, Known, Loaded};
use crate::service::Failure;

/// The real journal, where every write may fail.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) file: FileJournal,
    pub(super) full: Arc<AtomicBool>,
}

impl Journal {
    fn room(&self) -> io::Result<()> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(Errno::ENOSPC.into()),
            false => Ok(()),
        }
    }
}

impl JournalStore for Journal {
    fn load(&self) -> io::Result<Loaded> {
        self.file.load()
    }

    fn save_held(&self, version: u64, held: &[Held]) -> io::Result<()> {
        self.room()?;
        self.file.save_held(version, held)
    }

    fn append_known(&self, changes: &[Change]) -> io::Result<usize> {
        self.room()?;
        self.file.append_known(changes)
    }

    fn rewrite_known(&self, known: &[Known]) -> io::Result<()> {
        self.room()?;
        self.file.rewrite_known(known)
    }
}

/// The former plugin lets go of its lock when its last task has ended.
pub(super) async fn open(folder: &Path) -> FileJournal {
    for _ in 0..500 {
        if let Ok(journal) = FileJournal::open(folder) {
            return journal;
        }
        sleep(Duration::from_millis(10)).await;
    }
    FileJournal::open(folder).unwrap()
}

/// What the plugin says of a name without its agent.
async fn remembered(guest: &Guest, name: &str) -> bool {
    guest.agent.set_away(true);
    let answer = guest.volumes().get(name).await;
    guest.agent.set_away(false);
    match answer {
        Ok(view) => {
            assert_eq!(view.status.vdvs.answer, "stale");
            true
        }
        Err(Failure::Unknown(_)) => false,
        Err(Failure::Said(text)) => panic!("denied: {text}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_heard_while_the_disk_was_full_is_known_after_a_restart_once_there_was_room() {
    let mut guest = Guest::new().await;
    guest.volumes().follow();
    guest.set_full(true);
    guest.agent.add("v", &none());
    guest.volumes().get("v").await.unwrap();
    assert!(remembered(&guest, "v").await, "in memory");
    guest.set_full(false);
    // Nobody asks for it: the refresh writes it.
    guest.pass(31).await;
    guest.restart().await;
    assert!(remembered(&guest, "v").await);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_asked_for_again_is_on_disk_before_the_answer() {
    let mut guest = Guest::new().await;
    guest.set_full(true);
    guest.agent.add("v", &none());
    guest.volumes().get("v").await.unwrap();
    guest.set_full(false);
    guest.volumes().get("v").await.unwrap();
    guest.restart().await;
    assert!(remembered(&guest, "v").await);
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_went_while_the_disk_was_full_is_not_remembered_after_a_restart() {
    let mut guest = Guest::new().await;
    for name in ["gone", "stays"] {
        guest.volumes().create(name, &none()).await.unwrap();
    }
    guest.set_full(true);
    guest.volumes().remove("gone").await.unwrap();
    guest.set_full(false);
    guest.volumes().list().await.unwrap();
    guest.restart().await;
    assert!(!remembered(&guest, "gone").await);
    assert!(remembered(&guest, "stays").await);
}

/// Created and removed while nothing could be written: the last word counts, whatever the order of the attempts was.
#[tokio::test(start_paused = true)]
async fn what_is_written_late_is_how_things_are_by_then() {
    let mut guest = Guest::new().await;
    guest.set_full(true);
    guest.agent.add("short-lived", &none());
    guest.volumes().get("short-lived").await.unwrap();
    guest.agent.drop_volume("short-lived");
    guest.volumes().get("short-lived").await.unwrap_err();
    guest.agent.add("v", &none());
    guest.volumes().get("v").await.unwrap();
    guest.set_full(false);
    guest.volumes().list().await.unwrap();
    guest.restart().await;
    assert!(!remembered(&guest, "short-lived").await);
    assert!(remembered(&guest, "v").await);
}
