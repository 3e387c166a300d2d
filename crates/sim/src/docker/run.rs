//! What dockerd's commands make of requests.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use super::calls::Reply;
use super::container::Process;
use super::{Container, Daemon};

/// What a container needs for its end after SIGTERM, in milliseconds.
const GRACE: (u64, u64) = (0, 2000);

/// Whose a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Local,
}

impl Daemon {
    pub(super) async fn run(
        &self,
        task: &str,
        volumes: &[String],
        driver_named: bool,
    ) -> Result<(), String> {
        {
            let mut state = self.guest.state();
            if state.docker.containers.contains_key(task) {
                return Err(format!(
                    "Conflict. The container name \"/{task}\" is in use"
                ));
            }
            let container = Container {
                mounts: Vec::new(),
                process: None,
            };
            state.docker.containers.insert(task.to_owned(), container);
        }
        let started = self.start_container(task, volumes, driver_named).await;
        if let Err(why) = &started {
            self.guest
                .note(format_args!("{task} does not start: {why}"));
            self.guest.state().docker.containers.remove(task);
        }
        started
    }

    async fn start_container(
        &self,
        task: &str,
        volumes: &[String],
        driver_named: bool,
    ) -> Result<(), String> {
        let mut ours = Vec::new();
        for volume in volumes {
            if self.whose(volume, driver_named).await? == Whose::Ours {
                ours.push(volume.clone());
                drop(self.get(volume).await);
            }
        }
        // An image's content is copied into an empty volume: looked at whether or not there is any.
        if self.guest.dice().once_in(2) {
            for volume in &ours {
                let id = self.fresh_id();
                self.mount(volume, &id)
                    .await
                    .map_err(|why| format!("failed to populate volume: {why}"))?;
                self.unmount(volume, &id).await;
            }
        }
        let mut mounts = Vec::new();
        let mut paths = Vec::new();
        for volume in &ours {
            drop(self.get(volume).await);
            let id = self.fresh_id();
            match self.mount(volume, &id).await {
                Ok(path) => {
                    mounts.push((volume.clone(), id));
                    paths.push(PathBuf::from(path));
                }
                Err(why) => {
                    self.unmount_all(&mounts).await;
                    return Err(why);
                }
            }
        }
        match Process::start(&self.guest, &self.machine, task, &paths) {
            Some(process) => {
                self.began(task, mounts, process);
                Ok(())
            }
            None => {
                self.unmount_all(&mounts).await;
                Err("no such file or directory: a mount point is not there".to_owned())
            }
        }
    }

    fn began(&self, task: &str, mounts: Vec<(String, String)>, process: Process) {
        {
            let mut state = self.guest.state();
            let container = Container {
                mounts: mounts.clone(),
                process: Some(process.clone()),
            };
            state.docker.containers.insert(task.to_owned(), container);
        }
        let (daemon, task) = (self.clone(), task.to_owned());
        self.guest.spawn(&self.life, async move {
            process.ended().await;
            daemon.unmount_all(&mounts).await;
            daemon.guest.state().docker.containers.remove(&task);
            daemon.machine.life.step().await;
        });
    }

    async fn unmount_all(&self, mounts: &[(String, String)]) {
        for (volume, id) in mounts {
            self.unmount(volume, id).await;
        }
    }

    /// Whose a name is; makes the volume where dockerd would.
    async fn whose(&self, name: &str, driver_named: bool) -> Result<Whose, String> {
        // One look-up of a name at a time.
        let lock = self.guest.name_lock(name);
        let _alone = lock.lock().await;
        let known = {
            let state = self.guest.state();
            if state.docker.twins.contains(name) {
                return Ok(Whose::Local);
            }
            state.docker.ours.contains(name)
        };
        // What the plugin learns while it is asked comes too late for this answer.
        let checker = &self.guest.inner.checker;
        let (knew, asked) = (checker.has_seen(self.guest.vm(), name), checker.asks());
        match self.get(name).await {
            Reply::Ok(..) => Ok(self.ours(name)),
            Reply::Err(_) if driver_named => {
                self.ask_to_create(name, &BTreeMap::new()).await?;
                match self.get(name).await {
                    Reply::Ok(..) => Ok(self.ours(name)),
                    Reply::Err(text) => Err(format!("no such volume: {text}")),
                    Reply::Nothing { .. } => {
                        Err("error while checking if volume exists".to_owned())
                    }
                }
            }
            Reply::Nothing { .. } if driver_named || known => {
                Err("error while checking if volume exists".to_owned())
            }
            reply => {
                self.guest.note(format_args!("makes a local volume {name}"));
                // What no plugin can prevent is documented, and found by its doctor.
                if knew && !matches!(reply, Reply::Nothing { refused: false }) {
                    checker.local_twin(self.guest.vm(), name, asked);
                }
                let mut state = self.guest.state();
                state.docker.ours.remove(name);
                state.docker.twins.insert(name.to_owned());
                Ok(Whose::Local)
            }
        }
    }

    fn ours(&self, name: &str) -> Whose {
        self.guest.state().docker.ours.insert(name.to_owned());
        Whose::Ours
    }

    async fn ask_to_create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let options = match options.is_empty() {
            true => Value::Null,
            false => json!(options),
        };
        let body = json!({ "Name": name, "Opts": options });
        match self.call("/VolumeDriver.Create", &body).await {
            Reply::Ok(_, memory) => {
                self.learns(name, &memory);
                self.ours(name);
                Ok(())
            }
            Reply::Err(text) => Err(format!("create {name}: {text}")),
            Reply::Nothing { .. } => Err(format!("create {name}: no answer")),
        }
    }

    pub(super) async fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        if let Reply::Ok(..) = self.get(name).await {
            self.ours(name);
            return Ok(());
        }
        let created = self.ask_to_create(name, options).await;
        self.guest.note(format_args!("create {name}: {created:?}"));
        created
    }

    pub(super) async fn remove(&self, name: &str) -> Result<(), String> {
        let in_use = {
            let state = self.guest.state();
            let mut containers = state.docker.containers.values();
            containers.any(|c| c.mounts.iter().any(|(volume, _)| volume == name))
        };
        match self.get(name).await {
            Reply::Ok(..) if in_use => return Err(format!("remove {name}: volume is in use")),
            Reply::Ok(..) => drop(self.get(name).await),
            Reply::Err(text) => return Err(format!("get {name}: no such volume ({text})")),
            Reply::Nothing { .. } => return Err(format!("get {name}: no answer")),
        }
        let reply = self
            .call("/VolumeDriver.Remove", &json!({ "Name": name }))
            .await;
        let removed = match reply {
            Reply::Ok(..) => {
                self.guest.state().docker.ours.remove(name);
                Ok(())
            }
            Reply::Err(text) => Err(format!("remove {name}: {text}")),
            Reply::Nothing { .. } => Err(format!("remove {name}: no answer")),
        };
        self.guest.note(format_args!("remove {name}: {removed:?}"));
        removed
    }

    pub(super) async fn list(&self) -> Result<Vec<String>, String> {
        let (answer, memory) = match self.call("/VolumeDriver.List", &json!({})).await {
            Reply::Ok(answer, memory) => (answer, memory),
            Reply::Err(text) => return Err(text),
            Reply::Nothing { .. } => return Err("no answer".to_owned()),
        };
        let volumes = answer.get("Volumes").and_then(Value::as_array);
        let names = volumes.into_iter().flatten();
        let names = names.filter_map(|volume| volume.get("Name").and_then(Value::as_str));
        let names: Vec<String> = names.map(str::to_owned).collect();
        for name in &names {
            self.learns(name, &memory);
        }
        Ok(names)
    }

    pub(super) async fn stop(&self, task: &str) {
        // One that is being started is stopped when it runs.
        let mut pause = Duration::from_millis(10);
        let process = loop {
            let (there, process) = {
                let state = self.guest.state();
                let container = state.docker.containers.get(task);
                let process = container.and_then(|container| container.process.clone());
                (container.is_some(), process)
            };
            match process {
                Some(process) => break process,
                None if !there => return,
                None => sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_secs(1));
        };
        let grace = self.guest.dice().millis(GRACE.0, GRACE.1);
        sleep(grace).await;
        process.end();
        process.ended().await;
        // Its Unmounts are sent by whoever watches it.
        let mut pause = Duration::from_millis(10);
        while self.guest.state().docker.containers.contains_key(task) {
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// The same ID is mounted and unmounted once more under a running container.
    pub(super) async fn copy_from(&self, task: &str) {
        let mounts = {
            let state = self.guest.state();
            let container = state.docker.containers.get(task);
            container.map(|c| c.mounts.clone()).unwrap_or_default()
        };
        for (volume, id) in &mounts {
            drop(self.get(volume).await);
            if self.mount(volume, id).await.is_ok() {
                self.unmount(volume, id).await;
            }
        }
    }
}
