//! The job that makes a volume mounted: attach, find, probe, format if it never was, mount.
//!
//! It is cancelled when the last caller has gone, up to the moment a format begins; a format is always finished, and
//! a retry joins it. Whatever it leaves behind is in the book, so that the settling after it takes it down.

use std::path::{Path, PathBuf};

use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vdvs_blockdev::{
    Birth, Device, DeviceError, Locator as Place, MountOptions, Probe, Wanted, label_for,
};
use vdvs_domain::filesystem::FormatPlan;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{Capacity, Epoch, ErrorKind, FilesystemState, VolumeAddress};

use super::job::{Again, Ended, Job, Kind, Stopped};
use super::mount::advise;
use super::{Failure, Volumes};
use crate::agent::{AgentError, Attached, Volume};
use crate::journal::{Held, Node, Stage};

/// One call of `mkfs` is joined again after this long; it has no end of its own.
const FORMAT_ROUND: Duration = Duration::from_secs(600);

/// How long a bring-up may wait for another VM, and whether anybody still wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) wait_until: Instant,
    pub(super) cancel: &'a CancellationToken,
}

impl Volumes {
    /// Starts the job, or joins the one under way.
    pub(super) fn bring_up(&self, wanted: Volume, wait_until: Instant) -> Job {
        self.start(wanted.id, Kind::BringUp, |volumes, cancel| async move {
            let result = volumes.bring_up_steps(&wanted, wait_until, &cancel).await;
            if result.is_err() {
                volumes.persist_or_log().await;
            }
            result
        })
    }

    async fn bring_up_steps(
        &self,
        wanted: &Volume,
        wait_until: Instant,
        cancel: &CancellationToken,
    ) -> Ended {
        let name = wanted.full_name();
        let never = matches!(
            wanted.filesystem.state,
            FilesystemState::Never | FilesystemState::Formatting { .. }
        );
        let read_only = wanted.read_only();
        let mut attached = self
            .attach(wanted, read_only && !never, wait_until, cancel)
            .await?;
        let mut device = self.find_device(&attached).await?;
        stop_if_unwanted(cancel)?;
        let probe = self.devices().probe(&device).await;
        self.believe_the_disk(&mut attached, &probe);
        let probed = probe.as_domain();
        match attached.volume.filesystem.state.plan(&probed) {
            FormatPlan::Refuse(why) => {
                return Err(Stopped::final_(format!(
                    "Volume {name} was not mounted: {why}"
                )));
            }
            FormatPlan::Mount if wanted.is_clone() => {
                let ask = Ask { wait_until, cancel };
                (attached, device) = self.own_clone(&ask, attached, device, &probed).await?;
            }
            FormatPlan::Mount => {}
            FormatPlan::Format => {
                self.format(&attached, &device).await?;
                if read_only {
                    stop_if_unwanted(cancel)?;
                    self.detach_to_reattach(&attached, &device).await?;
                    attached = self.attach(wanted, true, wait_until, cancel).await?;
                    device = self.find_device(&attached).await?;
                }
            }
        }
        stop_if_unwanted(cancel)?;
        self.mount_device(&attached, &device, read_only).await?;
        info!(volume = %name, device = %device.path.display(), epoch = %attached.epoch, "volume is here");
        Ok(())
    }

    /// A record that cannot say what is on the disk, as of a volume adopted from the original, may be wrong about its
    /// type too.
    fn believe_the_disk(&self, attached: &mut Attached, probe: &Probe) {
        let filesystem = &mut attached.volume.filesystem;
        if let (FilesystemState::Unknown, Probe::Holds(content)) = (filesystem.state, probe)
            && let Some(fstype) = &content.fstype
        {
            filesystem.fstype = fstype.clone();
            self.book()
                .update(attached.volume.id, |held| held.fstype = fstype.clone());
        }
    }

    pub(super) async fn attach(
        &self,
        wanted: &Volume,
        read_only: bool,
        wait_until: Instant,
        cancel: &CancellationToken,
    ) -> Result<Attached, Stopped> {
        let name = wanted.full_name();
        let wait = wait_until.saturating_duration_since(Instant::now());
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        // The agent's own work after the wait needs time too.
        let deadline = wait_until + Duration::from_secs(5);
        let text = name.to_string();
        let attached = tokio::select! {
            biased;
            answer = self.agent().attach(&text, read_only, wait_ms, deadline) => answer,
            () = cancel.cancelled() => {
                // The agent may have been past its point of no return: the inventory tells.
                self.look_for_strays();
                return Err(Stopped::cancelled());
            }
        };
        let attached = attached.map_err(|e| {
            if matches!(e, AgentError::Away(_)) {
                self.look_for_strays();
            }
            stopped_by(&name, &e, wait_until)
        })?;
        if attached.volume.id != wanted.id {
            self.give_back(&attached).await;
            return Err(Stopped {
                text: format!("Volume {name} was replaced by another one of that name; try again"),
                again: Again::No,
            });
        }
        let now = self.inner.ports.clock.now();
        {
            let mut book = self.book();
            // Counts of a lost attachment belong to a mount that is gone.
            book.held.insert(
                wanted.id,
                Held {
                    volume: wanted.id,
                    name: name.to_string(),
                    epoch: attached.epoch,
                    stage: Stage::Attached,
                    device: None,
                    locator: Some(attached.locator.clone()),
                    capacity: attached.volume.capacity,
                    fstype: attached.volume.filesystem.fstype.clone(),
                    layout: attached.volume.layout,
                    read_only,
                    mount_options: attached.volume.mount_options(),
                    counts: Default::default(),
                    since: now,
                },
            );
            book.changed();
        }
        self.persist().await.map_err(|failure| match failure {
            Failure::Said(text) | Failure::Unknown(text) => Stopped::final_(text),
        })?;
        Ok(attached)
    }

    async fn give_back(&self, attached: &Attached) {
        let answer = self
            .agent()
            .detach(attached.volume.id, attached.epoch, self.call_deadline())
            .await;
        if let Err(e) = answer {
            warn!(volume = %attached.volume.full_name(), error = %e, "an unwanted attachment stays until the inventory finds it");
        }
    }

    pub(super) async fn find_device(&self, attached: &Attached) -> Result<Device, Stopped> {
        let wanted = to_find(
            &attached.locator,
            attached.volume.capacity,
            attached.disk_uuid.clone(),
        )
        .map_err(Stopped::final_)?;
        let deadline = Instant::now() + self.limits().device;
        let device = self
            .devices()
            .find(&wanted, deadline)
            .await
            .map_err(|e| failed(&attached.volume, &e))?;
        self.book().update(attached.volume.id, |held| {
            held.device = Some(Node::from(&device));
        });
        Ok(device)
    }

    /// Formats with the UUID the agent stored, in a private place; nothing is mounted at the end.
    async fn format(&self, attached: &Attached, device: &Device) -> Ended {
        let volume = &attached.volume;
        let name = volume.full_name();
        let birth = volume
            .birth()
            .map_err(|why| Stopped::final_(format!("Volume {name} was not formatted: {why}")))?;
        let uuid = self
            .agent()
            .begin_format(volume.id, attached.epoch, self.call_deadline())
            .await
            .map_err(|e| stopped_by(&name, &e, Instant::now()))?;
        let fstype = &volume.filesystem.fstype;
        info!(volume = %name, %fstype, %uuid, device = %device.path.display(), "formatting");
        loop {
            let made = self
                .devices()
                .format(device, fstype, uuid, &label_for(volume.id), FORMAT_ROUND)
                .await;
            match made {
                Ok(()) => break,
                Err(DeviceError::StillFormatting { .. }) => {}
                Err(e) => return Err(failed(volume, &e)),
            }
        }
        let staging = self.staging(volume.id);
        self.lay_out(device, volume, &staging, birth)
            .await
            .map_err(|e| failed(volume, &e))?;
        self.agent()
            .finish_format(volume.id, attached.epoch, uuid, self.call_deadline())
            .await
            .map_err(|e| stopped_by(&name, &e, Instant::now()))
    }

    async fn lay_out(
        &self,
        device: &Device,
        volume: &Volume,
        staging: &Path,
        birth: Birth,
    ) -> Result<(), DeviceError> {
        let devices = self.devices();
        let options = MountOptions::default();
        devices
            .mount(device, &volume.filesystem.fstype, staging, &options)
            .await?;
        let laid_out = devices
            .prepare_data_dir(staging, volume.id, volume.layout, birth)
            .await;
        let unmounted = devices.unmount(staging).await;
        laid_out.and(unmounted)
    }

    /// A read-only volume was attached writable to be formatted; it goes on as the record wants it.
    pub(super) async fn detach_to_reattach(&self, attached: &Attached, device: &Device) -> Ended {
        let volume = &attached.volume;
        match self.devices().exclusively_unused(device).await {
            Ok(true) => {}
            Ok(false) => {
                return Err(failed(
                    volume,
                    &DeviceError::Busy {
                        path: device.path.clone(),
                    },
                ));
            }
            Err(e) => return Err(failed(volume, &e)),
        }
        self.agent()
            .detach(volume.id, attached.epoch, self.call_deadline())
            .await
            .map_err(|e| stopped_by(&volume.full_name(), &e, Instant::now()))?;
        self.book().left(volume.id);
        Ok(())
    }

    async fn mount_device(&self, attached: &Attached, device: &Device, read_only: bool) -> Ended {
        let volume = &attached.volume;
        let target = self.target(volume.id);
        let devices = self.devices();
        let options = MountOptions {
            read_only,
            extra: volume.mount_options(),
        };
        devices
            .mount(device, &volume.filesystem.fstype, &target, &options)
            .await
            .map_err(|e| failed(volume, &e))?;
        let now = self.inner.ports.clock.now();
        let ours = if volume.is_clone() {
            devices.claim_layout(&target, volume.id, volume.layout)
        } else {
            devices.verify_layout(&target, volume.id, volume.layout)
        };
        if let Err(e) = ours.await {
            if let Err(also) = devices.unmount(&target).await {
                warn!(volume = %volume.full_name(), error = %also, "a mount that nobody was told of stays");
            }
            return Err(failed(volume, &e));
        }
        let ours = self.book().update(volume.id, |held| {
            if held.epoch == attached.epoch && held.stage == Stage::Attached {
                held.stage = Stage::Mounted;
                held.since = now;
            }
        });
        if ours {
            Ok(())
        } else {
            Err(Stopped {
                text: format!(
                    "Volume {} was taken away while it was being mounted; try again",
                    volume.full_name()
                ),
                again: Again::Soon,
            })
        }
    }
}

/// What to look for, in the words of the device port.
pub(super) fn to_find(
    locator: &Locator,
    capacity: u64,
    disk_uuid: Option<String>,
) -> Result<Wanted, String> {
    Ok(Wanted {
        locator: match locator {
            Locator::Scsi {
                controller_pci_slot,
                target,
            } => Place::Scsi {
                pci_slot: *controller_pci_slot,
                target: *target,
            },
            Locator::Path(path) => Place::Path(PathBuf::from(path)),
        },
        size: Capacity::from_bytes(capacity).map_err(|e| e.to_string())?,
        disk_uuid,
    })
}

pub(super) fn stop_if_unwanted(cancel: &CancellationToken) -> Ended {
    if cancel.is_cancelled() {
        return Err(Stopped::cancelled());
    }
    Ok(())
}

pub(super) fn failed(volume: &Volume, error: &DeviceError) -> Stopped {
    // The original's words come first, so the volume is named at the end.
    Stopped::final_(format!("{error} (volume {})", volume.full_name()))
}

fn stopped_by(name: &VolumeAddress, error: &AgentError, wait_until: Instant) -> Stopped {
    let again = match error.kind() {
        Some(ErrorKind::Timeout | ErrorKind::InUse) => Again::AfterWaitUntil(wait_until),
        Some(
            ErrorKind::Unavailable
            | ErrorKind::Overloaded
            | ErrorKind::HostFailed
            | ErrorKind::Superseded,
        ) => Again::Soon,
        _ => Again::No,
    };
    Stopped {
        text: advise(name, error),
        again,
    }
}

/// The epoch that says "not known yet".
pub(super) const NO_EPOCH: Epoch = Epoch::new(0);
