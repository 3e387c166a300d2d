//! dockerd's requests to the plugin: retries with empty bodies, time limits.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::select;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::Daemon;
use crate::guest::{Guest, PartOfGuest};

/// Waits before the second and later tries.
const WAITS: [u64; 4] = [1, 2, 4, 8];
/// When dockerd gives a request up.
const MOUNT_LIMIT: Duration = Duration::from_secs(120);
const LIMIT: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// Success, and how long the plugin must know what it says.
    Ok(Value, Memory),
    /// An error with its text.
    Err(String),
    /// No answer.
    Nothing {
        /// The plugin was there, read the request and kept its answer to itself. Otherwise it was away, or died with the
        /// request, whose repeats say nothing: then it could not have answered.
        refused: bool,
    },
}

/// How long a plugin must know a name that it answered with.
#[derive(Debug, Clone)]
pub(super) enum Memory {
    /// It had room to write it down before it answered.
    Kept,
    /// Its disk was full for some of the time: as long as this process lives.
    Process(PartOfGuest),
}

impl Daemon {
    /// One request, as often as dockerd repeats it.
    pub(super) async fn call(&self, path: &str, body: &Value) -> Reply {
        let limit = match path {
            "/VolumeDriver.Mount" => MOUNT_LIMIT,
            _ => LIMIT,
        };
        let tries = Box::pin(self.tries(path, body));
        let late = Reply::Nothing { refused: true };
        self.life.within(limit, tries).await.unwrap_or(late)
    }

    async fn tries(&self, path: &str, body: &Value) -> Reply {
        let mut bytes = format!("{body}\n").into_bytes();
        let mut waits = WAITS.iter();
        let mut refused = false;
        loop {
            self.life.step().await;
            if let Some(plugin) = self.guest.listening() {
                let room = self.guest.room();
                let answer = select! {
                    biased;
                    () = plugin.life.over() => None,
                    answer = Box::pin(plugin.server.handle(path, &bytes)) => {
                        refused |= !bytes.is_empty() && answer.is_err();
                        answer.ok()
                    }
                };
                let memory = match room.is_some() && room == self.guest.room() {
                    true => Memory::Kept,
                    false => Memory::Process(plugin.life.clone()),
                };
                self.life.step().await;
                if let Some(answer) = answer {
                    return read(answer.status.is_success(), &answer.body, memory);
                }
                // The reader is spent.
                bytes.clear();
            }
            match waits.next() {
                Some(seconds) => sleep(Duration::from_secs(*seconds)).await,
                None => return Reply::Nothing { refused },
            }
        }
    }

    /// The plugin knows this name from now on.
    pub(super) fn learns(&self, name: &str, memory: &Memory) {
        let (checker, vm) = (&self.guest.inner.checker, self.guest.vm());
        match memory {
            Memory::Kept => checker.seen(vm, name),
            Memory::Process(life) => checker.heard(vm, name, life.dead()),
        }
    }

    /// Get: whether the driver has the volume.
    pub(super) async fn get(&self, name: &str) -> Reply {
        let checker = &self.guest.inner.checker;
        let asked = checker.asks();
        let reply = self
            .call("/VolumeDriver.Get", &json!({ "Name": name }))
            .await;
        match &reply {
            Reply::Ok(_, memory) => self.learns(name, memory),
            Reply::Err(_) => checker.told_not_found(self.guest.vm(), name, asked),
            Reply::Nothing { .. } => {}
        }
        reply
    }

    /// Mount: where the data is.
    pub(super) async fn mount(&self, name: &str, id: &str) -> Result<String, String> {
        let body = json!({ "Name": name, "ID": id });
        let reply = self.call("/VolumeDriver.Mount", &body).await;
        let said = match reply {
            Reply::Ok(answer, memory) => {
                self.learns(name, &memory);
                let path = answer.get("Mountpoint").and_then(Value::as_str);
                path.map(str::to_owned)
                    .ok_or_else(|| "no mount point in the answer".to_owned())
            }
            Reply::Err(text) => Err(format!("error while mounting volume '': {text}")),
            Reply::Nothing { .. } => Err("error while mounting volume '': no answer".to_owned()),
        };
        match &said {
            Ok(_) => self
                .guest
                .note(format_args!("mounted {name} {}", short(id))),
            Err(why) => self
                .guest
                .note(format_args!("not mounted {name} {}: {why}", short(id))),
        }
        said
    }

    /// Unmount: its errors are ignored, and it may be lost.
    pub(super) async fn unmount(&self, name: &str, id: &str) {
        drop(self.get(name).await);
        let (lost, late) = {
            let mut state = self.guest.state();
            let docker = &mut state.docker;
            let lost = docker.lose_unmounts > 0;
            docker.lose_unmounts = docker.lose_unmounts.saturating_sub(1);
            (lost, docker.late_unmount.take())
        };
        if lost {
            self.guest.note(format_args!("loses the Unmount of {name}"));
            return;
        }
        if let Some(late) = late {
            sleep(late).await;
        }
        let body = json!({ "Name": name, "ID": id });
        drop(self.call("/VolumeDriver.Unmount", &body).await);
        self.guest
            .note(format_args!("unmounted {name} {}", short(id)));
    }

    /// A mount's ID: new for each use.
    pub(super) fn fresh_id(&self) -> String {
        let number = self.guest.number();
        let vm = self.guest.vm().instance_uuid.simple();
        format!("{number:032x}{vm}")
    }
}

/// The part of an ID that tells it from others of the same guest.
fn short(id: &str) -> &str {
    id.get(26..32).unwrap_or(id)
}

fn read(success: bool, body: &[u8], memory: Memory) -> Reply {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Reply::Err(String::from_utf8_lossy(body).into_owned());
    };
    match answer.get("Err").and_then(Value::as_str) {
        Some("") | None if success => Reply::Ok(answer, memory),
        Some(text) => Reply::Err(text.to_owned()),
        None => Reply::Err("an error without a text".to_owned()),
    }
}

impl Guest {
    /// A command of a person or an orchestrator: it goes on in dockerd when they have gone.
    pub(super) async fn ask<T, Run>(&self, command: impl FnOnce(Daemon) -> Run) -> Result<T, String>
    where
        T: Send + 'static,
        Run: Future<Output = Result<T, String>> + Send + 'static,
    {
        let away = || "Cannot connect to the Docker daemon".to_owned();
        let daemon = self.daemon().ok_or_else(away)?;
        let life = daemon.life.clone();
        let (tell, told) = oneshot::channel();
        let run = Box::pin(command(daemon));
        self.spawn(&life, async move {
            // The caller may have gone.
            drop(tell.send(run.await));
        });
        told.await.unwrap_or_else(|_| Err(away()))
    }
}
