//! Mount: find out which volume is meant, wait until it is mounted, count.

use std::path::PathBuf;
use std::slice;

use tokio::time::{Duration, Instant, sleep, timeout_at};
use tracing::{debug, info, warn};
use vdvs_blockdev::Health;
use vdvs_blockdev::mountinfo::topmost;
use vdvs_domain::{ErrorKind, VolumeAddress, VolumeId};

use super::job::{Again, Claim, Kind, Stopped};
use super::{Failure, Volumes};
use crate::agent::{AgentError, Volume};
use crate::journal::Stage;

/// Longest mount ID taken. dockerd's have 64 digits.
const MAX_ID_BYTES: usize = 256;

/// Between two tries of something that passes.
const PAUSE: Duration = Duration::from_millis(500);

/// How long passing failures, and an agent that is away, are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Mount that was counted and not answered yet: taken back when its caller goes away.
struct Counted<'a> {
    volumes: &'a Volumes,
    volume: VolumeId,
    id: &'a str,
    answered: bool,
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.volumes.book().uncount(self.volume, self.id);
            // The claim, dropped after this, settles what is left.
        }
    }
}

impl Volumes {
    /// Makes the volume's data available, and counts one use under `id`. Returns where the data is.
    ///
    /// Dropping the future means that the caller has gone: what was done for it alone is undone.
    ///
    /// # Errors
    /// [`Failure::Said`]; nothing is counted then.
    pub async fn mount(&self, name: &str, id: &str) -> Result<PathBuf, Failure> {
        let begun = Instant::now();
        let deadline = begun + self.limits().mount_budget;
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return Err(Failure::Said(format!(
                "Mount of volume {name} without a usable ID; Docker gives each mount one of 64 digits"
            )));
        }
        let address = VolumeAddress::parse(name).map_err(|e| Failure::Said(e.to_string()))?;
        let here = {
            let book = self.book();
            let mut named = book.held_named(&address);
            named.retain(|v| {
                book.held
                    .get(v)
                    .is_some_and(|held| held.stage == Stage::Mounted)
            });
            match named.as_slice() {
                [one] => Some(*one),
                _ => None,
            }
        };
        // What is mounted here cannot have been removed or replaced, so the agent need not be asked.
        let (volume, described) = match here {
            Some(volume) => (volume, None),
            None => {
                let found = self.look_up_for_mount(&address, begun).await?;
                (found.id, Some(found))
            }
        };
        let claim = Claim::new(self, volume);
        let path = self
            .mount_claimed(&address, volume, described, id, begun, deadline)
            .await;
        drop(claim);
        if path.is_ok() {
            // What a failover costs on our side is read from this line.
            let took_ms = begun.elapsed().as_millis();
            info!(volume = %address, took_ms, id, "mounted");
        }
        path
    }

    async fn look_up_for_mount(
        &self,
        address: &VolumeAddress,
        begun: Instant,
    ) -> Result<Volume, Failure> {
        let patience = begun + PATIENCE.min(self.limits().wait());
        loop {
            match self.agent().get(&address.to_string(), patience).await {
                Ok(volume) => {
                    let short = address.datastore.is_none().then_some(volume.id);
                    self.learn(slice::from_ref(&volume), short).await;
                    return Ok(volume);
                }
                Err(e) if passes(&e) && Instant::now() + PAUSE < patience => sleep(PAUSE).await,
                Err(e) => {
                    if e.kind() == Some(ErrorKind::NotFound) {
                        self.forget_name(address).await;
                    }
                    return Err(Failure::Said(advise(address, &e)));
                }
            }
        }
    }

    async fn mount_claimed(
        &self,
        address: &VolumeAddress,
        volume: VolumeId,
        mut described: Option<Volume>,
        id: &str,
        begun: Instant,
        deadline: Instant,
    ) -> Result<PathBuf, Failure> {
        let wait_until = begun + self.limits().wait();
        let reply_by = deadline
            .checked_sub(Duration::from_secs(1))
            .unwrap_or(deadline);
        loop {
            if let Some(path) = self.count_if_mounted(volume, id).await? {
                return Ok(path);
            }
            let job = match self.running(volume) {
                Some(job) => job,
                None => {
                    let wanted = match described.take() {
                        Some(wanted) => wanted,
                        None => self.look_up_for_mount(address, begun).await?,
                    };
                    if wanted.id != volume {
                        return Err(Failure::Said(format!(
                            "Volume {address} was replaced by another one of that name while it was being mounted; try again"
                        )));
                    }
                    self.bring_up(wanted, wait_until)
                }
            };
            let kind = job.kind;
            let Ok(ended) = timeout_at(reply_by, job.ended()).await else {
                return Err(Failure::Said(format!(
                    "Volume {address} is not mounted after {} s; the work goes on, and the next Mount joins it. Try again",
                    begun.elapsed().as_secs()
                )));
            };
            match ended {
                Err(stopped) if kind == Kind::BringUp => {
                    self.stop_or_go_on(address, stopped, begun, wait_until)
                        .await?;
                }
                _ => {}
            }
        }
    }

    /// After a bring-up that failed: waits and lets the caller try again, or ends the request.
    async fn stop_or_go_on(
        &self,
        address: &VolumeAddress,
        stopped: Stopped,
        begun: Instant,
        wait_until: Instant,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        let go_on = match stopped.again {
            Again::AtOnce => now < wait_until,
            Again::AfterWaitUntil(until) => until + PAUSE < wait_until && now < wait_until,
            Again::Soon => now + PAUSE < (begun + PATIENCE).min(wait_until),
            Again::No => false,
        };
        if !go_on {
            warn!(volume = %address, why = %stopped.text, "mount failed");
            return Err(Failure::Said(stopped.text));
        }
        debug!(volume = %address, why = %stopped.text, "mount goes on");
        if stopped.again != Again::AtOnce {
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// A disk that was taken away is lost now, so that this Mount attaches it anew. One whose file system stopped is
    /// of no use to a container.
    async fn refuse_if_damaged(&self, volume: VolumeId) -> Result<(), Failure> {
        let Some(held) = self.book().held.get(&volume).cloned() else {
            return Ok(());
        };
        if let Health::Damaged(why) = self.is_dead(&held).await {
            return Err(Failure::Said(format!(
                "Volume {}: {why}. Stop its containers on this node: the next mount then checks and repairs it",
                held.name
            )));
        }
        Ok(())
    }

    /// Counts if the volume is mounted in truth, not only in our book, and no job is changing that.
    async fn count_if_mounted(
        &self,
        volume: VolumeId,
        id: &str,
    ) -> Result<Option<PathBuf>, Failure> {
        let mounted = |volumes: &Self| {
            let book = volumes.book();
            let held = book.held.get(&volume)?;
            let idle = book.work.get(&volume).is_none_or(|w| w.job.is_none());
            (idle && held.stage == Stage::Mounted).then(|| (held.layout, held.name.clone()))
        };
        if mounted(self).is_none() {
            return Ok(None);
        }
        let table = self
            .devices()
            .mounts()
            .await
            .map_err(|e| Failure::Said(e.to_string()))?;
        let target = self.target(volume);
        self.refuse_if_damaged(volume).await?;
        let Some((layout, name)) = mounted(self) else {
            return Ok(None);
        };
        if topmost(&table, &target).is_none() {
            // Or the table is older than the mount.
            drop(self.put_right(volume).ended().await);
            if mounted(self).is_none() {
                warn!(volume = %name, "the mount is gone without us; mounting again");
            }
            return Ok(None);
        }
        let now = self.inner.ports.clock.now();
        {
            let mut book = self.book();
            // Nothing awaited since the last look, but other threads run.
            let still = book.work.get(&volume).is_none_or(|w| w.job.is_none())
                && book
                    .held
                    .get(&volume)
                    .is_some_and(|held| held.stage == Stage::Mounted);
            if !still {
                return Ok(None);
            }
            if !book.count(volume, id, now) {
                return Err(Failure::Said(format!(
                    "Volume {name} is mounted under too many IDs; nothing was mounted"
                )));
            }
        }
        let mut counted = Counted {
            volumes: self,
            volume,
            id,
            answered: false,
        };
        self.persist().await?;
        counted.answered = true;
        Ok(Some(self.mountpoint(volume, layout)))
    }
}

/// Whether the same question may be answered differently in a moment.
fn passes(error: &AgentError) -> bool {
    matches!(
        error.kind(),
        Some(ErrorKind::Unavailable | ErrorKind::Overloaded | ErrorKind::HostFailed)
    )
}

/// The agent's words; for silence, what to look at.
pub(super) fn advise(address: &VolumeAddress, error: &AgentError) -> String {
    match error {
        AgentError::Said { text, .. } => text.clone(),
        AgentError::Away(silence) => {
            format!("Volume {address}: {silence}: {}", silence.advice())
        }
    }
}
