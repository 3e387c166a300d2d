//! The service's own initiative: what it finds at its start, what the host tells, and what it looks at from time to
//! time.
//!
//! The journal is a hint. At the start the kernel's mount table says what is mounted, and when the agent is there its
//! inventory says what is attached. Absence from either releases nothing that could be in use: the only way out is
//! the take-down job, which asks the kernel first.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::stat::{major, minor};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use vdvs_blockdev::{Device, MountEntry};
use vdvs_domain::{FsType, Layout, VolumeId};

use super::bring_up::NO_EPOCH;
use super::{Book, Inner, Limits, Ports, Volumes, volume_at};
use crate::agent::{InventoryItem, Notice, Volume};
use crate::clock::age;
use crate::journal::{Held, Known, Loaded, Node, Stage, call};

/// How long a lost volume is shown as lost where its Unmounts do not come.
const LOST_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// An inventory under way: what leaves meanwhile is not taken over from its answer.
struct Awaited(Volumes);

impl Awaited {
    fn new(volumes: &Volumes) -> Self {
        volumes.book().asked();
        Self(volumes.clone())
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.book().answered();
    }
}

impl Volumes {
    /// Reads the journal and the mount table. Needs neither the agent nor dockerd.
    ///
    /// # Errors
    /// The journal's folder cannot be used, or the mount table not be read.
    pub async fn start_up(
        ports: Ports,
        mount_root: &Path,
        limits: Limits,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let loaded = call(&ports.journal, |journal| journal.load()).await?;
        for file in &loaded.set_aside {
            warn!(%file, "damaged; set aside, and rebuilt from the mount table and the agent");
        }
        let mounts = ports.devices.mounts().await.map_err(io::Error::other)?;
        let volumes = Self {
            inner: Arc::new(Inner {
                ports,
                mount_root: mount_root.to_owned(),
                limits,
                book: Mutex::new(Book::default()),
                written: AsyncMutex::new(0),
                names_behind: AsyncMutex::new(false),
                tracker: TaskTracker::new(),
                stop,
            }),
        };
        volumes.take_over(loaded, &mounts);
        volumes.put_mounts_right().await;
        volumes.persist_or_log().await;
        Ok(volumes)
    }

    /// Follows the agent and the clock until stopped.
    pub fn follow(&self) {
        let counted = self.book().counted_unmounted();
        for volume in counted {
            let recount = self.recount(volume);
            let volumes = self.clone();
            self.inner.spawn(async move {
                drop(recount.ended().await);
                volumes.settle(volume);
            });
        }
        let link = self.clone();
        self.inner.spawn(async move { link.follow_link().await });
        let timers = self.clone();
        self.inner.spawn(async move { timers.follow_clock().await });
        if let Some(notices) = self.agent().notices() {
            let told = self.clone();
            self.inner
                .spawn(async move { told.follow_notices(notices).await });
        }
    }

    /// Waits for the jobs under way; those that outlast the caller's patience are in the journal.
    pub async fn finish(&self) {
        self.inner.stop.cancel();
        self.inner.tracker.close();
        self.inner.tracker.wait().await;
    }

    /// Writes what is held, whatever is under way.
    pub async fn flush(&self) {
        self.persist_or_log().await;
    }

    fn take_over(&self, loaded: Loaded, mounts: &[MountEntry]) {
        let now = self.inner.ports.clock.now();
        let mut book = self.book();
        book.known = loaded
            .known
            .into_iter()
            .map(|known| (known.volume.id, known))
            .collect();
        let mut held: BTreeMap<VolumeId, Held> = loaded
            .held
            .into_iter()
            .map(|held| (held.volume, held))
            .collect();
        for entry in held.values_mut().filter(|h| h.stage == Stage::Mounted) {
            let target = self.target(entry.volume);
            if !mounts.iter().any(|mount| mount.at == target) {
                info!(volume = %entry.name, "no longer mounted (this VM was started anew, or somebody unmounted it)");
                // Whether the counts still mean anything is asked of the kernel: see `recount`.
                entry.stage = Stage::Attached;
                entry.device = None;
            }
        }
        for mount in mounts {
            let Some(volume) = volume_at(&self.inner.mount_root, &mount.at) else {
                continue;
            };
            let entry = held
                .entry(volume)
                .or_insert_with(|| found(volume, mount, book.known.get(&volume)));
            match entry.stage {
                Stage::Mounted | Stage::Lost => {}
                Stage::Attached => {
                    entry.stage = Stage::Mounted;
                    entry.since = now;
                }
            }
            if entry.device.is_none() {
                entry.device = device_of(mount).as_ref().map(Node::from);
            }
        }
        for entry in held.values() {
            info!(volume = %entry.name, stage = ?entry.stage, ids = entry.counts.len(), "taken over");
        }
        book.held = held;
        book.changed();
    }

    async fn follow_link(&self) {
        let mut link = self.agent().link();
        loop {
            if link.borrow_and_update().is_up() {
                self.inventory().await;
                self.refresh_quietly().await;
            }
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                changed = link.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn follow_clock(&self) {
        let limits = self.limits();
        let mut check = interval(limits.check_every);
        let mut refresh = interval(limits.refresh_every);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick of a refresh is the link's.
        refresh.tick().await;
        loop {
            tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                _ = check.tick() => {
                    // First: what seems to be left over may be mounted.
                    self.put_mounts_right().await;
                    if self.agent_is_up() {
                        self.inventory().await;
                    }
                    self.check_due().await;
                }
                _ = refresh.tick() => if self.agent_is_up() {
                    self.refresh_quietly().await;
                },
            }
        }
    }

    async fn follow_notices(&self, mut notices: mpsc::Receiver<Notice>) {
        loop {
            let notice = tokio::select! {
                biased;
                () = self.inner.stop.cancelled() => return,
                notice = notices.recv() => notice,
            };
            match notice {
                None => return,
                Some(notice) => {
                    // Each by itself: a disk that hangs keeps no other volume's notice waiting.
                    let volumes = self.clone();
                    self.inner.spawn(async move { volumes.heed(notice).await });
                }
            }
        }
    }

    async fn heed(&self, notice: Notice) {
        match notice {
            Notice::Wanted { volume, by_vm } => {
                info!(%volume, %by_vm, "another VM waits for a volume of this one");
                self.is_it_used(volume).await;
            }
            Notice::Superseded { volume, epoch } => {
                self.lose(volume, epoch, "the host gave it to another attachment")
                    .await;
            }
        }
    }

    async fn refresh_quietly(&self) {
        if let Err(e) = self.refresh(self.call_deadline()).await {
            debug!(error = %e, "known volumes not refreshed");
        }
    }

    /// An attach may have succeeded after its caller had gone.
    pub(super) fn look_for_strays(&self) {
        if self.agent_is_up() {
            let volumes = self.clone();
            self.inner.spawn(async move { volumes.inventory().await });
        }
    }

    /// Tells the host what we have and compares.
    pub(super) async fn inventory(&self) {
        let _awaited = Awaited::new(self);
        let items: Vec<InventoryItem> = self
            .book()
            .held
            .values()
            .filter(|held| held.stage != Stage::Lost && held.epoch != NO_EPOCH)
            .map(|held| InventoryItem {
                volume: held.volume,
                epoch: held.epoch,
                mounted: held.stage == Stage::Mounted,
            })
            .collect();
        let answer = self
            .agent()
            .report_inventory(&items, self.call_deadline())
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(e) => {
                debug!(error = %e, "no inventory");
                return;
            }
        };
        self.learn(&answer.attached, None).await;
        for volume in self.adopt(&answer.attached) {
            let volumes = self.clone();
            self.inner.spawn(async move {
                drop(volumes.check(volume).ended().await);
            });
        }
        for volume in answer.superseded {
            let epoch = items.iter().find(|i| i.volume == volume).map(|i| i.epoch);
            if let Some(epoch) = epoch {
                let volumes = self.clone();
                self.inner.spawn(async move {
                    let why = "the host says it is not this VM's any more";
                    volumes.lose(volume, epoch, why).await;
                });
            }
        }
        for volume in answer.wanted {
            let volumes = self.clone();
            self.inner
                .spawn(async move { volumes.is_it_used(volume).await });
        }
        self.persist_or_log().await;
        self.retry_leaving();
    }

    /// Takes over what the host says is attached here and nobody works on. Answers the lost ones among them whose
    /// counts are old enough to be doubted: their attachment stands, and only a check can end it.
    fn adopt(&self, attached: &[Volume]) -> Vec<VolumeId> {
        let now = self.inner.ports.clock.now();
        let mut book = self.book();
        book.not_after(now);
        for volume in attached {
            if !book.is_idle(volume.id) || book.is_over(volume.id, volume.epoch) {
                continue;
            }
            let name = volume.full_name().to_string();
            let locator = volume.attachment.as_ref().and_then(|a| a.locator.clone());
            if let Some(held) = book.held.get(&volume.id) {
                if held.epoch >= volume.epoch {
                    continue;
                }
                book.update(volume.id, |held| {
                    if held.stage == Stage::Lost {
                        // Another attachment than the one that was lost: its disk may be another node.
                        held.device = None;
                    }
                    held.epoch = volume.epoch;
                    held.name = name;
                    held.fstype = volume.filesystem.fstype.clone();
                    held.layout = volume.layout;
                    held.read_only = volume.read_only();
                    held.mount_options = volume.mount_options();
                    held.capacity = volume.capacity;
                    held.locator = locator.or_else(|| held.locator.take());
                });
                continue;
            }
            info!(volume = %name, epoch = %volume.epoch, "attached to this VM without our knowing; it goes unless it is in use");
            book.held.insert(
                volume.id,
                Held {
                    volume: volume.id,
                    name,
                    epoch: volume.epoch,
                    stage: Stage::Attached,
                    device: None,
                    locator,
                    capacity: volume.capacity,
                    fstype: volume.filesystem.fstype.clone(),
                    layout: volume.layout,
                    read_only: volume.read_only(),
                    mount_options: volume.mount_options(),
                    counts: BTreeMap::new(),
                    since: now,
                },
            );
            book.changed();
        }
        let here = |id: &VolumeId| attached.iter().any(|volume| volume.id == *id);
        let mut lost = book.lost_due(now, self.limits().believe);
        lost.retain(here);
        lost
    }

    /// Compares all counts that are old enough with reality, and retries what could not leave.
    pub(super) async fn check_due(&self) {
        self.lose_the_dead().await;
        let now = self.inner.ports.clock.now();
        let due = {
            let mut book = self.book();
            book.not_after(now);
            book.forget_lost(now, LOST_FOR);
            book.due(now, self.limits().believe)
        };
        // All at once: a disk that hangs keeps no other waiting. The answer is in the log; the next round looks again.
        let checks: Vec<_> = due.into_iter().map(|volume| self.check(volume)).collect();
        for check in checks {
            drop(check.ended().await);
        }
        self.retry_leaving();
    }

    /// Another VM waits: look at this one now, if its counts are old enough not to be believed blindly.
    async fn is_it_used(&self, volume: VolumeId) {
        let now = self.inner.ports.clock.now();
        let (due, unknown) = {
            let mut book = self.book();
            book.not_after(now);
            let unknown = !book.held.contains_key(&volume) && book.is_idle(volume);
            (book.due(now, self.limits().believe), unknown)
        };
        if unknown {
            // Attached without our knowing, for a request whose caller had gone. Who waits for it shall not have to wait
            // for the next inventory, or for a fence.
            self.look_for_strays();
        } else if due.contains(&volume) {
            drop(self.check(volume).ended().await);
        } else if self
            .book()
            .held
            .get(&volume)
            .is_some_and(|held| held.stage == Stage::Attached)
        {
            self.settle(volume);
        } else if self
            .book()
            .held
            .get(&volume)
            .is_some_and(|held| held.stage == Stage::Lost)
        {
            self.look_for_strays();
        } else if let Some(held) = self.book().held.get(&volume) {
            debug!(volume = %held.name, age_ms = age(held.since, now), "in use, or too young to tell");
        }
    }
}

/// A mount nobody remembers: the journal was lost.
pub(super) fn found(volume: VolumeId, mount: &MountEntry, known: Option<&Known>) -> Held {
    let fstype = FsType::new(&mount.fstype).unwrap_or_else(|_| FsType::ext4());
    Held {
        volume,
        name: known.map_or_else(
            || volume.to_string(),
            |known| known.volume.full_name().to_string(),
        ),
        epoch: NO_EPOCH,
        stage: Stage::Attached,
        device: None,
        locator: None,
        capacity: known.map_or(0, |known| known.volume.capacity),
        fstype,
        layout: known.map_or(Layout::Data, |known| known.volume.layout),
        read_only: mount.read_only(),
        mount_options: known.map_or_else(Vec::new, |known| known.volume.mount_options()),
        counts: BTreeMap::new(),
        since: Default::default(),
    }
}

/// The device below a mount. btrfs shows a number of its own there, which no node has: then the node is asked, since a
/// wrong number would make a disk in use look like one that is gone.
pub(super) fn device_of(mount: &MountEntry) -> Option<Device> {
    let major_minor = match mount.major_minor {
        (0, _) => {
            let node = fs::metadata(&mount.source).ok()?.rdev();
            let number = |n: u64| u32::try_from(n).ok();
            (number(major(node))?, number(minor(node))?)
        }
        real => real,
    };
    Some(Device {
        path: mount.source.clone(),
        major_minor,
    })
}
