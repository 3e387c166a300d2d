//! One guest: its agent, its disks and its journal's folder outlive its plugin.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vdvs_blockdev::fake::{FakeContent, FakeDevices};
use vdvs_blockdev::{Devices, Locator};
use vdvs_domain::{FilesystemState, VolumeId};
use vdvs_plugin::agent::Volume;
use vdvs_plugin::clock::ManualClock;
use vdvs_plugin::fake::{FakeAgent, HERE};
use vdvs_plugin::journal::{Held, Stage, peek};
use vdvs_plugin::service::{Failure, Limits, Ports, Volumes};

use super::gate::{Gate, GatedJournal};
use super::ports::{GatedAgent, GatedDevices};

pub(crate) const ROOT: &str = "/mnt/vdvs";

/// A life of the plugin.
#[derive(Clone)]
struct Life {
    gate: Arc<Gate>,
    volumes: Option<Volumes>,
    journal: Option<Arc<GatedJournal>>,
    stop: CancellationToken,
}

pub(crate) struct Guest {
    folder: TempDir,
    pub(crate) agent: Arc<FakeAgent>,
    pub(crate) devices: FakeDevices,
    clock: Arc<ManualClock>,
    life: RefCell<Life>,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let devices = FakeDevices::new();
        Self {
            folder: tempfile::tempdir().unwrap(),
            agent: FakeAgent::new(devices.clone()),
            devices,
            clock: Arc::new(ManualClock::at(1_700_000_000_000)),
            life: RefCell::new(Life {
                gate: Gate::new(),
                volumes: None,
                journal: None,
                stop: CancellationToken::new(),
            }),
        }
    }

    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.life.borrow().gate)
    }

    pub(crate) fn volumes(&self) -> Volumes {
        self.life.borrow().volumes.clone().expect("it runs")
    }

    /// The plugin ends without a word; what it had under way never goes on.
    pub(crate) fn kill(&self) {
        let mut life = self.life.borrow_mut();
        life.gate.kill();
        life.stop.cancel();
        life.volumes = None;
        if let Some(journal) = life.journal.take() {
            journal.close();
        }
    }

    /// A gate for the next life; its first call is not made yet.
    pub(crate) fn next_life(&self) -> Arc<Gate> {
        self.kill();
        let gate = Gate::new();
        *self.life.borrow_mut() = Life {
            gate: Arc::clone(&gate),
            volumes: None,
            journal: None,
            stop: CancellationToken::new(),
        };
        gate
    }

    /// The plugin of the present gate starts.
    pub(crate) async fn start(&self) -> io::Result<()> {
        let life = self.life.borrow().clone();
        let gate = life.gate;
        let journal = Arc::new(GatedJournal::open(&gate, self.folder.path())?);
        self.life.borrow_mut().journal = Some(Arc::clone(&journal));
        let ports = Ports {
            agent: Arc::new(GatedAgent {
                gate: Arc::clone(&gate),
                agent: Arc::clone(&self.agent),
            }),
            devices: Arc::new(GatedDevices {
                gate: Arc::clone(&gate),
                devices: self.devices.clone(),
            }),
            journal,
            clock: Arc::clone(&self.clock) as _,
        };
        let started = Volumes::start_up(ports, Path::new(ROOT), Limits::default(), life.stop);
        let volumes = started.await?;
        volumes.follow();
        self.life.borrow_mut().volumes = Some(volumes);
        Ok(())
    }

    pub(crate) async fn restart(&self) {
        self.next_life();
        self.start().await.unwrap();
    }

    /// Time passes on both clocks.
    pub(crate) async fn pass(&self, seconds: u64) {
        for _ in 0..seconds.div_ceil(10) {
            self.clock.advance(10_000);
            sleep(Duration::from_secs(10)).await;
        }
    }

    /// The journal's folder is empty, as on a disk that was replaced.
    pub(crate) fn forget_journal(&self) {
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    pub(crate) fn journal(&self) -> Vec<Held> {
        peek(self.folder.path()).unwrap()
    }

    pub(crate) fn volume(&self, name: &str) -> Volume {
        let found = self.agent.volume(name);
        found.unwrap_or_else(|| panic!("there is no volume {name}"))
    }

    pub(crate) fn is_here(&self, name: &str) -> bool {
        let attachment = self.agent.volume(name).and_then(|v| v.attachment);
        attachment.is_some_and(|a| a.vm == HERE)
    }

    /// A container's mount namespace uses the disk, or lets it go.
    pub(crate) fn use_disk(&self, name: &str, busy: bool) {
        let place = place(self.volume(name).id);
        self.devices.change(&place, |disk| disk.busy = busy);
    }

    pub(crate) async fn mounted(&self) -> Vec<PathBuf> {
        let table = self.devices.mounts().await.unwrap();
        table.into_iter().map(|mount| mount.at).collect()
    }

    /// The disk of an attached volume holds what its record says: nothing, or the one file system it was given.
    fn check_content(&self, volume: &Volume, text: &str) {
        let Some(disk) = self.devices.disk(&place(volume.id)) else {
            return;
        };
        match (&volume.filesystem.state, &disk.content) {
            (FilesystemState::Never, FakeContent::Blank)
            | (FilesystemState::Formatting { .. }, FakeContent::Blank)
            | (
                FilesystemState::Never | FilesystemState::Formatting { .. },
                FakeContent::Unreadable(_),
            ) => {}
            (FilesystemState::Formatting { uuid }, FakeContent::Formatted { uuid: has, .. }) => {
                assert_eq!(uuid, has, "{text}: {}", volume.name);
            }
            (
                FilesystemState::Ready { uuid },
                FakeContent::Formatted {
                    uuid: has, marker, ..
                },
            ) => {
                assert_eq!(uuid, has, "{text}: {}", volume.name);
                let whose = marker.as_ref().map(|(id, _)| *id);
                assert_eq!(whose, Some(volume.id), "{text}: {}", volume.name);
            }
            (state, content) => panic!("{text}: {}: {state:?} and {content:?}", volume.name),
        }
    }

    /// Panics unless journal, mounts, the agent and the disks agree on every volume of these names.
    pub(crate) async fn check(&self, names: &[&str], text: &str) {
        let held: BTreeMap<VolumeId, Held> =
            self.journal().into_iter().map(|h| (h.volume, h)).collect();
        let mut mounted = self.mounted().await;
        for name in names {
            let Some(volume) = self.agent.volume(name) else {
                continue;
            };
            let entry = held.get(&volume.id);
            let stage = entry.map(|h| h.stage);
            let target = Path::new(ROOT).join(volume.id.to_string());
            let at = mounted.iter().filter(|at| **at == target).count();
            assert!(at <= 1, "{text}: {name} is mounted {at} times");
            let is_mounted = stage == Some(Stage::Mounted);
            assert_eq!(
                at == 1,
                is_mounted,
                "{text}: {name} is {stage:?}, mounts: {at}"
            );
            let has = stage.is_some_and(|s| s != Stage::Lost);
            assert_eq!(self.is_here(name), has, "{text}: {name} is {stage:?}");
            if let Some(entry) = entry.filter(|e| e.stage == Stage::Mounted) {
                assert_eq!(entry.epoch, volume.epoch, "{text}: {name}");
            }
            self.check_content(&volume, text);
            mounted.retain(|at| *at != target);
        }
        assert!(mounted.is_empty(), "{text}: mounts of nothing: {mounted:?}");
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.kill();
    }
}

fn place(id: VolumeId) -> Locator {
    Locator::Path(format!("/dev/vdvs-{}", id.id8()).into())
}

pub(crate) fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

/// What a person reads.
pub(crate) fn said(failure: Failure) -> String {
    match failure {
        Failure::Said(text) => text,
        Failure::Unknown(why) => format!("no answer: {why}"),
    }
}
