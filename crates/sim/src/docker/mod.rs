//! dockerd as measured, and containers that write, flush, and read everything back.
//!
//! | what was measured | here |
//! |---|---|
//! | no answer: four more tries after 1, 2, 4, 8 s, and once a request was read its repeats have an empty body | `calls` |
//! | a Mount is given up after 120 s, anything else after 60 s, and nothing follows | `calls` |
//! | Get comes before everything; twice before a container is made | `run` |
//! | every error of a Get means "no such volume": without a named driver a local volume takes its place | `run` |
//! | copy-up: a Mount and Unmount with an ID of their own, when the container is made | `run` |
//! | the Unmount's errors are ignored, and it is never repeated | `run` |
//! | `docker cp` mounts and unmounts with the ID of the running container | `run` |
//! | dockerd killed: containers run on; started again it ends them, and no Unmount follows | [`Daemon::start`] |
//! | machine lost: no Unmount for what ran, ever | [`Remembered::machine_ended`] |
//!
//! A container is a process of the machine, not of dockerd. It keeps the file systems it uses busy until it ends.

mod calls;
mod container;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use crate::guest::{Guest, Machine, PartOfGuest};
use container::Process;

/// What dockerd has on the guest's own disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remembered {
    /// Volumes it knows as its driver's.
    ours: BTreeSet<String>,
    /// Local volumes it made because it was told that there is no other.
    twins: BTreeSet<String>,
    /// Its containers, by name.
    containers: BTreeMap<String, Container>,
    /// So many Unmounts to come are lost.
    lose_unmounts: u32,
    /// The next Unmount leaves so late.
    late_unmount: Option<Duration>,
}

/// A container as dockerd knows it.
#[derive(Debug, Clone)]
struct Container {
    /// Its volumes of our driver, with the IDs they are mounted under.
    mounts: Vec<(String, String)>,
    process: Option<Process>,
}

impl Remembered {
    /// No Unmount is lost or late any more.
    pub(crate) fn mend(&mut self) {
        self.lose_unmounts = 0;
        self.late_unmount = None;
    }

    /// The machine ended, and every container with it.
    pub(crate) fn machine_ended(&mut self) {
        self.containers.clear();
    }
}

/// A running dockerd.
#[derive(Debug, Clone)]
pub(crate) struct Daemon {
    pub(crate) life: PartOfGuest,
    pub(crate) guest: Guest,
    pub(crate) machine: Machine,
}

impl Daemon {
    /// Starts; what survived its predecessor is ended, without a word to the plugin.
    pub(crate) fn start(guest: &Guest, machine: Machine, life: PartOfGuest) {
        let survivors: Vec<Process> = {
            let mut state = guest.state();
            let containers = mem::take(&mut state.docker.containers);
            containers.into_values().filter_map(|c| c.process).collect()
        };
        for survivor in survivors {
            survivor.end();
        }
        let listing = Self {
            life: life.clone(),
            guest: guest.clone(),
            machine,
        };
        // What swarm needs to see the driver.
        guest.spawn(&life, async move { drop(listing.list().await) });
    }
}

impl Guest {
    /// Whether dockerd answers.
    #[must_use]
    pub fn docker_answers(&self) -> bool {
        self.is_running() && self.daemon().is_some()
    }

    /// `docker run -d --name TASK -v VOLUME:/N ...`, with the driver named or not. Returns when the container runs.
    ///
    /// # Errors
    /// What dockerd says.
    pub async fn run(
        &self,
        task: &str,
        volumes: &[String],
        driver_named: bool,
    ) -> Result<(), String> {
        let (task, volumes) = (task.to_owned(), volumes.to_vec());
        self.ask(move |daemon| async move { daemon.run(&task, &volumes, driver_named).await })
            .await
    }

    /// `docker stop` and `docker rm`. Returns when the container has ended and its Unmounts were sent.
    pub async fn stop(&self, task: &str) {
        let task = task.to_owned();
        let stopped = self.ask(move |daemon| async move {
            daemon.stop(&task).await;
            Ok(())
        });
        // Without a dockerd there is nobody to stop it.
        drop(stopped.await);
    }

    /// `docker cp` from a running container.
    pub async fn copy_from(&self, task: &str) {
        let task = task.to_owned();
        let copied = self.ask(move |daemon| async move {
            daemon.copy_from(&task).await;
            Ok(())
        });
        drop(copied.await);
    }

    /// Whether a container runs, for dockerd or on its own.
    #[must_use]
    pub fn runs(&self, task: &str) -> bool {
        let state = self.state();
        let container = state.docker.containers.get(task);
        let process = container.and_then(|container| container.process.as_ref());
        process.is_some_and(|process| !process.has_ended())
    }

    /// Volumes of our driver that running containers use, by container.
    #[must_use]
    pub fn holds(&self) -> Vec<(String, Vec<String>)> {
        let state = self.state();
        let containers = state.docker.containers.iter();
        let running =
            containers.filter(|(_, c)| c.process.as_ref().is_some_and(|p| !p.has_ended()));
        let named = running.map(|(task, container)| {
            let volumes = container.mounts.iter().map(|(volume, _)| volume.clone());
            (task.clone(), volumes.collect())
        });
        named.collect()
    }

    /// `docker volume create -d vdvs --name NAME -o ...`
    ///
    /// # Errors
    /// What dockerd says.
    pub async fn create(&self, name: &str, options: &[(&str, &str)]) -> Result<(), String> {
        let name = name.to_owned();
        let options = options.iter();
        let options = options.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let options: BTreeMap<String, String> = options.collect();
        self.ask(move |daemon| async move { daemon.create(&name, &options).await })
            .await
    }

    /// `docker volume rm NAME`
    ///
    /// # Errors
    /// What dockerd says.
    pub async fn remove(&self, name: &str) -> Result<(), String> {
        let name = name.to_owned();
        self.ask(move |daemon| async move { daemon.remove(&name).await })
            .await
    }

    /// `docker volume ls`, our driver's.
    ///
    /// # Errors
    /// What dockerd says.
    pub async fn list(&self) -> Result<Vec<String>, String> {
        self.ask(move |daemon| async move { daemon.list().await })
            .await
    }

    /// dockerd loses so many of its next Unmounts.
    pub fn lose_unmounts(&self, times: u32) {
        self.state().docker.lose_unmounts += times;
    }

    /// The next Unmount leaves so late.
    pub fn delay_unmount(&self, by: Duration) {
        self.state().docker.late_unmount = Some(by);
    }

    /// Local volumes that dockerd made under the names of ours, or for names it was told do not exist.
    #[must_use]
    pub fn twins(&self) -> Vec<String> {
        self.state().docker.twins.iter().cloned().collect()
    }
}
