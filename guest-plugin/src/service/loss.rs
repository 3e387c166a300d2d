//! A volume that the host took away while it was here: fenced, given to another VM, or its disk is dead.
//!
//! ```text
//!   notice Superseded{epoch} ─┐
//!   inventory: not yours ─────┼─► lazy unmount ─► Lost, in the journal ─► one WARN: by whom, and why
//!   the disk answers EIO ─────┘        later Unmounts: acknowledged here; a new Mount: attached anew, new epoch
//! ```
//! Its containers see I/O errors; nothing else in this guest is touched. What is said of an older attachment than the one
//! we have changes nothing, and the epoch is compared again when the job begins: a newer one may have come meanwhile.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use vdvs_blockdev::{Device, Health};
use vdvs_domain::{Epoch, VolumeId};

use super::Volumes;
use super::job::Kind;
use crate::agent::{Link, Volume};
use crate::journal::{Held, Stage};

/// For the agent to say who has the volume now. The line in the log waits for it, nothing else does.
const ASK: Duration = Duration::from_secs(2);

impl Volumes {
    /// The attachment of this epoch is over: out of sight with the mount, and later Unmounts are acknowledged here.
    pub(super) async fn lose(&self, volume: VolumeId, epoch: Epoch, why: &str) {
        while self.has(volume, epoch) {
            let why = why.to_owned();
            let job = self.start(volume, Kind::Lose, move |volumes, _| async move {
                // The job before this one may have brought a newer attachment.
                if volumes.has(volume, epoch) {
                    let target = volumes.target(volume);
                    if let Err(e) = volumes.devices().unmount_lazy(&target).await {
                        debug!(error = %e, "nothing to unmount");
                    }
                    volumes.mark_lost(volume, epoch, &why);
                    volumes.persist_or_log().await;
                }
                Ok(())
            });
            let kind = job.kind;
            drop(job.ended().await);
            if kind == Kind::Lose {
                return;
            }
        }
    }

    fn has(&self, volume: VolumeId, epoch: Epoch) -> bool {
        let book = self.book();
        let held = book.held.get(&volume);
        held.is_some_and(|held| held.epoch == epoch && held.stage != Stage::Lost)
    }

    /// Writes the loss down. Only inside a job of the volume.
    pub(super) fn mark_lost(&self, volume: VolumeId, epoch: Epoch, why: &str) {
        let now = self.inner.ports.clock.now();
        let held = {
            let mut book = self.book();
            let Some(held) = book.held.get(&volume).filter(|held| held.epoch == epoch) else {
                return;
            };
            let held = held.clone();
            if held.counts.is_empty() {
                book.held.remove(&volume);
                book.changed();
            } else {
                book.update(volume, |held| {
                    held.stage = Stage::Lost;
                    held.since = now;
                });
            }
            held
        };
        if held.stage == Stage::Attached && held.counts.is_empty() {
            // As after a restart of the VM, when another one took it meanwhile.
            info!(volume = %held.name, epoch = %held.epoch, why, "gone; nobody used it here");
            return;
        }
        let (volumes, why) = (self.clone(), why.to_owned());
        // A stop waits for this line, which waits for nobody for long.
        self.inner
            .tracker
            .spawn(async move { volumes.tell_loss(&held, &why).await });
    }

    /// The one line that a person reads about it.
    async fn tell_loss(&self, held: &Held, why: &str) {
        let by = self.who_has(held).await;
        let ids = held.counts.len();
        warn!(
            volume = %held.name, epoch = %held.epoch, why, by, mounts = ids,
            "volume is lost to this guest; its containers see I/O errors"
        );
    }

    async fn who_has(&self, held: &Held) -> String {
        if !self.agent_is_up() {
            return "not known, the agent is away".into();
        }
        match self.agent().get(&held.name, Instant::now() + ASK).await {
            Ok(now) if now.id != held.volume => "another volume has the name".into(),
            Ok(now) => self.holder(&now),
            Err(e) => format!("not known ({e})"),
        }
    }

    fn holder(&self, volume: &Volume) -> String {
        let failover = volume
            .options
            .get("failover")
            .map_or("wait", String::as_str);
        let Some(holder) = &volume.attachment else {
            return format!("nobody has it now (failover={failover})");
        };
        let here = match &*self.agent().link().borrow() {
            Link::Up { vm_uuid, .. } => *vm_uuid == holder.vm_uuid,
            Link::Down { .. } => false,
        };
        let who = if here {
            "this VM, attached anew as "
        } else {
            "VM "
        };
        format!("{who}{} (failover={failover})", holder.vm)
    }

    /// A disk that answers with errors only was taken away, whether or not the host could say so.
    pub(super) async fn lose_the_dead(&self) {
        let mounted: Vec<Held> = {
            let book = self.book();
            let idle = book.held.values().filter(|h| book.is_idle(h.volume));
            idle.filter(|held| held.stage == Stage::Mounted)
                .cloned()
                .collect()
        };
        // All at once: a disk that hangs keeps no other waiting.
        let looks = TaskTracker::new();
        for held in mounted {
            let volumes = self.clone();
            looks.spawn(async move { drop(volumes.is_dead(&held).await) });
        }
        looks.close();
        looks.wait().await;
    }

    /// Looks whether a mounted disk still answers; loses it if not. The answer is what is said of one that lives.
    pub(super) async fn is_dead(&self, held: &Held) -> Health {
        let Some(device) = held.device.as_ref().map(Device::from) else {
            return Health::Alive;
        };
        let health = self
            .devices()
            .healthy(&self.target(held.volume), &device)
            .await;
        if let Health::Lost(why) = &health {
            let why = format!("its disk answers with errors only: {why}");
            self.lose(held.volume, held.epoch, &why).await;
        }
        health
    }
}
