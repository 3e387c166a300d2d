//! The plugin's process: the real service and front end over the simulated ports, from a start to its end.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use vdvs_domain::Timestamp;
use vdvs_plugin::clock::Clock;
use vdvs_plugin::docker::Server;
use vdvs_plugin::service::{Limits, Ports, Volumes};

use super::agent::SimAgent;
use super::devices::SimDevices;
use super::journal::SimJournal;
use super::life::Life;
use super::link::Connection;
use super::{Guest, Machine};

/// Where the plugin mounts.
pub(crate) const MOUNT_ROOT: &str = "/mnt/vdvs";
/// What an orderly stop may take.
const LAST_WORDS: Duration = Duration::from_secs(7);
/// 2026-01-01 in milliseconds.
const EPOCH_MILLIS: i64 = 1_767_225_600_000;

/// A guest's wall clock. Cloning gives the same one.
#[derive(Debug, Clone)]
pub(crate) struct WallClock {
    begun: Instant,
    skew: Arc<AtomicI64>,
}

impl WallClock {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            skew: Arc::default(),
        }
    }

    pub(crate) fn jump(&self, millis: i64) {
        self.skew.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        let skew = self.skew.load(Ordering::SeqCst);
        let now = EPOCH_MILLIS.saturating_add(since).saturating_add(skew);
        Timestamp::from_millis(u64::try_from(now).unwrap_or(0))
    }
}

/// A running plugin.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) life: Life,
    pub(crate) server: Arc<Server>,
    volumes: Volumes,
    stop: CancellationToken,
}

impl Process {
    /// SIGKILL.
    pub(crate) fn kill(&self) {
        self.life.end();
        // Its tasks stand still for ever; those that watch for the end go.
        self.stop.cancel();
    }

    /// SIGTERM.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        drop(timeout(LAST_WORDS, self.volumes.finish()).await);
        self.volumes.flush().await;
        self.life.end();
    }
}

impl Guest {
    /// Starts the process in a machine that runs; it listens a moment later.
    pub(crate) async fn plugin(self, machine: Machine, life: Life) {
        let inner = &self.inner;
        let connection = Connection::new(&inner.vm, &inner.board, life.clone());
        let connection = Arc::new(connection);
        let agent = SimAgent {
            connection: Arc::clone(&connection),
            faults: inner.faults.clone(),
            kernel: Arc::clone(&machine.kernel),
            dice: Arc::clone(&inner.dice),
            requests: Arc::clone(&inner.requests),
            served: inner.served.clone(),
        };
        let ports = Ports {
            agent: Arc::new(agent),
            devices: Arc::new(SimDevices::new(Arc::clone(&machine.kernel), life.clone())),
            journal: Arc::new(SimJournal::new(
                inner.root.clone(),
                life.clone(),
                Arc::clone(&inner.dice),
            )),
            clock: Arc::new(inner.clock.clone()),
        };
        let stop = CancellationToken::new();
        life.step().await;
        let begun = Volumes::start_up(
            ports,
            Path::new(MOUNT_ROOT),
            Limits::default(),
            stop.clone(),
        );
        let volumes = match begun.await {
            Ok(volumes) => volumes,
            Err(e) => {
                self.note(format_args!("the plugin does not start: {e}"));
                life.end();
                return;
            }
        };
        let process = Process {
            life: life.clone(),
            server: Server::new(volumes.clone()),
            volumes: volumes.clone(),
            stop,
        };
        if life.is_over() {
            process.kill();
            return;
        }
        self.state().plugin = Some(process);
        self.note(format_args!("the plugin listens"));
        let keeping = life.clone();
        self.spawn(&keeping, async move { connection.keep().await });
        volumes.follow();
    }
}
