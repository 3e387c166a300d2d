//! Unmount, and the jobs that let go: take down, check.
//!
//! dockerd never repeats an Unmount and ignores its errors. So an Unmount is always acknowledged, and what could not
//! be done stays in the book as *Attached*, to be retried.

use tokio::time::{Duration, Instant, sleep, timeout};
use tracing::{debug, error, info, warn};
use vdvs_blockdev::{Device, DeviceError};
use vdvs_domain::{ErrorKind, VolumeAddress, VolumeId};

use super::book::Uncounted;
use super::bring_up::{NO_EPOCH, to_find};
use super::job::{Again, Ended, Job, Kind, Stopped};
use super::{Failure, Volumes};
use crate::agent::AgentError;
use crate::journal::{Held, Node, Stage};

/// How long an Unmount waits for the disk to leave before it is acknowledged; dockerd gives up after 60 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// A container's mount namespace may outlive its Unmount for a moment, and with it the use of the disk.
const LINGER: Duration = Duration::from_secs(5);

/// Between two looks at a disk that is still in use.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A disk that should be there shows up at once, or is not there.
const GLANCE: Duration = Duration::from_millis(200);

/// What became of the way out.
enum Left {
    /// Out of this guest.
    Gone,
    /// Somebody uses the device.
    Busy,
    /// The agent could not be told; later.
    Later(String),
}

impl Volumes {
    /// Takes back one use under `id`. The last one unmounts and detaches. Anything unknown is acknowledged.
    ///
    /// # Errors
    /// None that would help: dockerd drops them and never repeats the request.
    pub async fn unmount(&self, name: &str, id: &str) -> Result<(), Failure> {
        let Ok(address) = VolumeAddress::parse(name) else {
            return Ok(());
        };
        let (volume, effect) = {
            let mut book = self.book();
            let named = book.held_named(&address);
            let counted = named.iter().copied().find(|volume| {
                book.held
                    .get(volume)
                    .is_some_and(|held| held.counts.contains_key(id))
            });
            match counted {
                Some(volume) => (volume, book.uncount(volume, id)),
                None => {
                    drop(book);
                    info!(
                        volume = name,
                        id, "nothing is mounted under this ID; acknowledged"
                    );
                    return Ok(());
                }
            }
        };
        debug!(volume = name, id, ?effect, "unmounted");
        if effect == Uncounted::LastGone && self.book().claims(volume) == 0 {
            let leave = async {
                if let Some(job) = self.running(volume) {
                    drop(job.ended().await);
                }
                if self.book().is_unwanted(volume) {
                    return self.take_down(volume).ended().await;
                }
                Ok(())
            };
            if let Ok(Err(stopped)) = timeout(PATIENCE, leave).await {
                debug!(volume = name, why = %stopped.text, "let go later");
            }
        }
        self.persist_or_log().await;
        Ok(())
    }

    /// Starts to let go of a volume that nobody wants, or joins the job under way.
    pub(super) fn take_down(&self, volume: VolumeId) -> Job {
        self.start(volume, Kind::TakeDown, move |volumes, _| async move {
            let ended = volumes.take_down_steps(volume).await;
            volumes.persist_or_log().await;
            ended
        })
    }

    async fn take_down_steps(&self, volume: VolumeId) -> Ended {
        let Some(held) = self.book().held.get(&volume).cloned() else {
            return Ok(());
        };
        if !held.counts.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + LINGER;
        if held.stage == Stage::Mounted {
            self.unmount_here(&held, until).await?;
        }
        let left = loop {
            if self.book().claims(volume) > 0 {
                return Ok(());
            }
            match self.leave(&held).await? {
                Left::Busy if Instant::now() < until => sleep(LOOK_AGAIN).await,
                left => break left,
            }
        };
        match left {
            Left::Gone => {
                info!(volume = %held.name, epoch = %held.epoch, "volume has left");
                Ok(())
            }
            Left::Busy => {
                warn!(volume = %held.name, "somebody still uses the device; it stays attached until that ends");
                Err(Stopped::final_("in use"))
            }
            Left::Later(why) => {
                info!(volume = %held.name, %why, "to be detached later");
                Err(Stopped::final_(why))
            }
        }
    }

    /// Unmounts; whoever still has a file open there may be on its way out and is waited for until `until`.
    async fn unmount_here(&self, held: &Held, until: Instant) -> Ended {
        loop {
            let now = self.inner.ports.clock.now();
            let Err(e) = self.devices().unmount(&self.target(held.volume)).await else {
                self.book().update(held.volume, |held| {
                    held.stage = Stage::Attached;
                    held.since = now;
                });
                return Ok(());
            };
            if e.is_gone()
                && self
                    .devices()
                    .unmount_lazy(&self.target(held.volume))
                    .await
                    .is_ok()
            {
                info!(volume = %held.name, error = %e, "the disk is gone; unmounted without it");
                continue;
            }
            if self.book().claims(held.volume) > 0 {
                return Err(Stopped::cancelled());
            }
            if Instant::now() >= until {
                warn!(volume = %held.name, error = %e, "stays mounted");
                return Err(Stopped::final_(e.to_string()));
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// From unmounted to detached. Nothing leaves that is in use (P8).
    async fn leave(&self, held: &Held) -> Result<Left, Stopped> {
        if let Some(device) = self.device_of(held).await {
            match self.devices().exclusively_unused(&device).await {
                Ok(true) => {}
                Ok(false) => return Ok(Left::Busy),
                Err(DeviceError::Gone { .. } | DeviceError::WrongDevice { .. }) => {
                    info!(volume = %held.name, "the disk is no longer in this guest");
                }
                Err(e) => return Err(Stopped::final_(e.to_string())),
            }
        }
        if held.epoch == NO_EPOCH {
            return Ok(Left::Later("its epoch is not known yet".into()));
        }
        if !self.agent_is_up() {
            return Ok(Left::Later("the agent is away".into()));
        }
        let answer = self
            .agent()
            .detach(held.volume, held.epoch, self.call_deadline())
            .await;
        let over = match answer {
            Ok(changed) => {
                if !changed {
                    debug!(volume = %held.name, "the attachment was over already");
                }
                true
            }
            Err(AgentError::Away(silence)) => return Ok(Left::Later(silence.to_string())),
            Err(AgentError::Said { kind, text }) => {
                if !matches!(kind, ErrorKind::Superseded | ErrorKind::NotFound) {
                    warn!(volume = %held.name, %text, "the host did not detach the disk; tried again");
                    return Ok(Left::Later(text));
                }
                true
            }
        };
        if over {
            let mut book = self.book();
            // A newer attachment is not ours to forget.
            if book
                .held
                .get(&held.volume)
                .is_some_and(|now| now.epoch == held.epoch)
            {
                book.left(held.volume);
            }
        }
        Ok(Left::Gone)
    }

    /// The device in this guest; none: it is not here.
    async fn device_of(&self, held: &Held) -> Option<Device> {
        if let Some(node) = &held.device {
            return Some(Device::from(node));
        }
        let wanted = to_find(held.locator.as_ref()?, held.capacity, None).ok()?;
        let found = self.devices().find(&wanted, Instant::now() + GLANCE).await;
        match found {
            Ok(device) => Some(device),
            Err(e) => {
                debug!(volume = %held.name, error = %e, "no device");
                None
            }
        }
    }

    /// Compares old counts with reality: unmounts, asks the kernel, and mounts again what is in use.
    pub(super) fn check(&self, volume: VolumeId) -> Job {
        self.start(volume, Kind::Check, move |volumes, _| async move {
            let ended = volumes.check_steps(volume).await;
            volumes.persist_or_log().await;
            ended
        })
    }

    async fn check_steps(&self, volume: VolumeId) -> Ended {
        let Some(held) = self.book().held.get(&volume).cloned() else {
            return Ok(());
        };
        if held.stage == Stage::Lost {
            return self.release_lost(&held).await;
        }
        let Some(node) = &held.device else {
            return Ok(());
        };
        let device = Device::from(node);
        let target = self.target(volume);
        // Where our mount is gone already, only the question is left.
        if held.stage == Stage::Mounted
            && let Err(e) = self.devices().unmount(&target).await
        {
            debug!(volume = %held.name, error = %e, "in use here");
            return Ok(());
        }
        let unused = self.devices().exclusively_unused(&device).await;
        // What became known meanwhile counts: a caller waits, or somebody mounted.
        let wanted = self.book().claims(volume) > 0;
        match unused {
            Ok(true) if !wanted => self.release_leaked(&held).await,
            Err(DeviceError::Gone { os, .. }) => {
                self.mark_lost(
                    volume,
                    held.epoch,
                    &format!("its disk answers with errors only: {os}"),
                );
                Ok(())
            }
            Ok(_) | Err(_) => self.mount_again(&held, &device).await,
        }
    }

    /// At the start, of a volume that the journal counts as mounted and that is not: mounts again what is in use, and
    /// forgets the counts of what is not. The plugin died while it looked whether a volume is used, and the containers
    /// that use it go on; or the VM was started anew, and there are none.
    pub(super) fn recount(&self, volume: VolumeId) -> Job {
        self.start(volume, Kind::Check, move |volumes, _| async move {
            let ended = volumes.recount_steps(volume).await;
            volumes.persist_or_log().await;
            ended
        })
    }

    async fn recount_steps(&self, volume: VolumeId) -> Ended {
        let counted = self.book().counted_unmounted();
        let held = self.book().held.get(&volume).cloned();
        let Some(held) = held.filter(|_| counted.contains(&volume)) else {
            return Ok(());
        };
        if let Some(device) = self.device_of(&held).await
            && let Ok(false) = self.devices().exclusively_unused(&device).await
        {
            info!(volume = %held.name, ids = held.counts.len(), "containers use it; it is mounted again");
            let node = Node::from(&device);
            self.book().update(volume, |held| held.device = Some(node));
            return self.mount_again(&held, &device).await;
        }
        self.book().update(volume, |held| held.counts.clear());
        Ok(())
    }

    /// A lost volume whose attachment the host says still stands: its disk died, or the host could not reach it. It has
    /// no mount of ours any more. Where no container uses it either, its Unmounts were lost, and it goes.
    async fn release_lost(&self, held: &Held) -> Ended {
        if self.book().claims(held.volume) > 0 {
            return Ok(());
        }
        // Where the host says the disk is comes first: since it was lost, this VM may have been started anew, and its
        // node be another disk's.
        let by_locator = Held {
            device: None,
            ..held.clone()
        };
        let found = self.device_of(&by_locator).await;
        let held = &Held {
            device: found
                .as_ref()
                .map(Node::from)
                .or_else(|| held.device.clone()),
            ..by_locator
        };
        match self.leave(held).await? {
            Left::Gone => {
                warn!(
                    volume = %held.name,
                    ids = held.counts.len(),
                    "nobody uses the lost volume although it is counted as mounted (dockerd lost the Unmount): released"
                );
                Ok(())
            }
            Left::Busy => {
                debug!(volume = %held.name, "lost, and containers still use it: it stays attached");
                Ok(())
            }
            Left::Later(why) => Err(Stopped::final_(why)),
        }
    }

    async fn release_leaked(&self, held: &Held) -> Ended {
        let now = self.inner.ports.clock.now();
        if !held.counts.is_empty() {
            warn!(
                volume = %held.name,
                ids = held.counts.len(),
                "nobody uses the volume although it is counted as mounted (dockerd lost the Unmount): released"
            );
        }
        self.book().update(held.volume, |held| {
            held.counts.clear();
            held.stage = Stage::Attached;
            held.since = now;
        });
        let held = Held {
            counts: Default::default(),
            ..held.clone()
        };
        match self.leave(&held).await? {
            Left::Gone => Ok(()),
            Left::Busy => Err(Stopped::final_("in use")),
            Left::Later(why) => Err(Stopped::final_(why)),
        }
    }

    async fn mount_again(&self, held: &Held, device: &Device) -> Ended {
        let target = self.target(held.volume);
        let mounted = self
            .devices()
            .mount(device, &held.fstype, &target, &held.options())
            .await;
        if let Err(e) = mounted {
            error!(volume = %held.name, error = %e, "in use and could not be mounted again; new containers cannot use it until it can");
            self.book()
                .update(held.volume, |held| held.stage = Stage::Attached);
            return Err(Stopped {
                text: e.to_string(),
                again: Again::No,
            });
        }
        if held.stage == Stage::Attached {
            let now = self.inner.ports.clock.now();
            self.book().update(held.volume, |held| {
                held.stage = Stage::Mounted;
                held.since = now;
            });
        }
        Ok(())
    }

    /// Tries again to let go of everything nobody wants.
    pub(super) fn retry_leaving(&self) {
        let unwanted: Vec<VolumeId> = {
            let book = self.book();
            let ids: Vec<VolumeId> = book.held.keys().copied().collect();
            ids.into_iter()
                .filter(|id| {
                    book.is_unwanted(*id)
                        && book
                            .held
                            .get(id)
                            .is_some_and(|held| held.stage == Stage::Attached)
                })
                .collect()
        };
        for volume in unwanted {
            drop(self.take_down(volume));
        }
    }
}
