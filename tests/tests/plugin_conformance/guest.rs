//! A guest in this process: the real plugin on a real socket, with an agent and disks in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::getgid;
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use vdvs_blockdev::fake::FakeDevices;
use vdvs_blockdev::{Devices, Locator};
use vdvs_plugin::clock::ManualClock;
use vdvs_plugin::docker::{Server, bind};
use vdvs_plugin::fake::FakeAgent;
use vdvs_plugin::journal::FileJournal;
use vdvs_plugin::service::{Limits, Ports, Volumes};

use crate::wire::Wire;

/// The guest.
pub(crate) struct Guest {
    folder: TempDir,
    pub(crate) agent: Arc<FakeAgent>,
    pub(crate) devices: FakeDevices,
    pub(crate) clock: Arc<ManualClock>,
    plugin: Option<Plugin>,
    pub(crate) wire: Option<Wire>,
}

struct Plugin {
    volumes: Volumes,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

impl Guest {
    pub(crate) async fn start() -> Self {
        let guest = Self::start_away().await;
        guest.agent.set_away(false);
        guest
    }

    /// The agent is not there yet.
    pub(crate) async fn start_away() -> Self {
        let devices = FakeDevices::new();
        let agent = FakeAgent::new(devices.clone());
        agent.set_away(true);
        let mut guest = Self {
            folder: tempfile::tempdir().unwrap(),
            agent,
            devices,
            clock: Arc::new(ManualClock::at(1_700_000_000_000)),
            plugin: None,
            wire: None,
        };
        guest.begin().await;
        guest
    }

    async fn begin(&mut self) {
        let stop = CancellationToken::new();
        let ports = Ports {
            agent: Arc::clone(&self.agent) as _,
            devices: Arc::new(self.devices.clone()),
            journal: Arc::new(self.journal().await),
            clock: Arc::clone(&self.clock) as _,
        };
        let limits = Limits {
            hold: Duration::from_millis(300),
            away: Duration::from_millis(20),
            check_every: Duration::from_millis(20),
            ..Limits::default()
        };
        let volumes = Volumes::start_up(ports, Path::new("/mnt/vdvs"), limits, stop.clone());
        let volumes = volumes.await.unwrap();
        let group = getgid().as_raw();
        let listener = bind(&self.folder.path().join("vsphere.sock"), group).unwrap();
        let server = Server::new(volumes.clone());
        let serving = TaskTracker::new().spawn(server.serve(listener, stop.clone()));
        self.plugin = Some(Plugin {
            volumes,
            serving,
            stop,
        });
    }

    async fn journal(&self) -> FileJournal {
        let folder = self.folder.path().join("state");
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match FileJournal::open(&folder) {
                Ok(journal) => return journal,
                Err(e) => assert!(Instant::now() < end, "{e}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(&mut self) {
        let Some(plugin) = self.plugin.take() else {
            return;
        };
        plugin.stop.cancel();
        let finished = async {
            plugin.serving.await.unwrap();
            plugin.volumes.finish().await;
        };
        timeout(Duration::from_secs(8), finished).await.unwrap();
    }

    /// The plugin goes, without a word to dockerd, and stays away.
    pub(crate) async fn plugin_down(&mut self) {
        self.end().await;
        self.wire = None;
    }

    /// It comes back.
    pub(crate) async fn plugin_up(&mut self) {
        self.begin().await;
    }

    pub(crate) async fn stop(mut self) {
        self.end().await;
    }

    pub(crate) async fn connect(&self) -> Wire {
        let path = self.folder.path().join("vsphere.sock");
        Wire(UnixStream::connect(path).await.unwrap())
    }

    /// How many volumes are mounted.
    pub(crate) async fn mounted(&self) -> usize {
        self.devices.mounts().await.unwrap().len()
    }

    /// A container begins or ends to use the volume's disk in its own mount namespace.
    pub(crate) fn use_disk(&self, name: &str, busy: bool) {
        let id = self.agent.volume(name).unwrap().id;
        let place = Locator::Path(format!("/dev/vdvs-{}", id.id8()).into());
        self.devices.change(&place, |disk| disk.busy = busy);
    }
}
