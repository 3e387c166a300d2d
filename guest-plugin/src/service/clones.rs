//! A clone before its mount: its file system came with its source's UUID, and with its source's marker.
//!
//! ```text
//!   writable:   probe ─► UUID where the kernel needs it ─► mount ─► marker
//!   read-only:  the same once, attached writable, in a private place; then detached and attached read-only
//! ```
//! Every step looks first and changes nothing that is done, so a cut anywhere is repeated by the next mount, on any
//! node. Nothing here formats. What the clone holds, `data` and its owner included, is the source's.

use tracing::{info, warn};
use vdvs_blockdev::{Device, DeviceError, MountOptions, clone_uuid};
use vdvs_domain::filesystem::Probed;

use super::Volumes;
use super::bring_up::{Ask, failed, stop_if_unwanted};
use super::job::Stopped;
use crate::agent::{Attached, Volume};

impl Volumes {
    /// Gives the clone its own identity where that is needed; returns how it is attached then.
    pub(super) async fn own_clone(
        &self,
        ask: &Ask<'_>,
        attached: Attached,
        device: Device,
        probed: &Probed,
    ) -> Result<(Attached, Device), Stopped> {
        // As this attachment describes it: what the disk holds is known by now.
        let volume = &attached.volume.clone();
        if !volume.read_only() {
            if has_own_uuid(volume, probed) {
                return Ok((attached, device));
            }
            self.give_identity(volume, &device).await?;
            return Ok((attached, device));
        }
        if self.is_own(volume, &device, probed).await? {
            return Ok((attached, device));
        }
        stop_if_unwanted(ask.cancel)?;
        self.detach_to_reattach(&attached, &device).await?;
        let attached = self
            .attach(volume, false, ask.wait_until, ask.cancel)
            .await?;
        let device = self.find_device(&attached).await?;
        if let Err(e) = self.own_in_private(volume, &device).await {
            // It can be read as it is, unless the mount says otherwise.
            warn!(volume = %volume.full_name(), error = %e, "a read-only clone keeps its source's identity");
        }
        self.detach_to_reattach(&attached, &device).await?;
        let attached = self
            .attach(volume, true, ask.wait_until, ask.cancel)
            .await?;
        let device = self.find_device(&attached).await?;
        Ok((attached, device))
    }

    async fn give_identity(&self, volume: &Volume, device: &Device) -> Result<(), Stopped> {
        let fstype = &volume.filesystem.fstype;
        let staging = self.staging(volume.id);
        let given = self
            .devices()
            .give_identity(device, fstype, volume.id, &staging)
            .await
            .map_err(|e| failed(volume, &e))?;
        if given {
            info!(volume = %volume.full_name(), uuid = %clone_uuid(volume.id), "the clone has a file-system UUID of its own");
        }
        Ok(())
    }

    /// Whether a clone that is attached read-only needs nothing more. Leaves it unmounted.
    async fn is_own(
        &self,
        volume: &Volume,
        device: &Device,
        probed: &Probed,
    ) -> Result<bool, Stopped> {
        let fstype = &volume.filesystem.fstype;
        // The kernel takes two btrfs of one UUID for one: not even looked at.
        if fstype.as_str() == "btrfs" && !has_own_uuid(volume, probed) {
            return Ok(false);
        }
        let devices = self.devices();
        let staging = self.staging(volume.id);
        let options = MountOptions::read_only(true);
        // A journal that has to be replayed needs a writable mount.
        if devices
            .mount(device, fstype, &staging, &options)
            .await
            .is_err()
        {
            return Ok(false);
        }
        let marked = devices
            .verify_layout(&staging, volume.id, volume.layout)
            .await
            .is_ok();
        let unmounted = devices.unmount(&staging).await;
        unmounted.map_err(|e| failed(volume, &e))?;
        Ok(marked)
    }

    /// On a disk attached writable: UUID, journal and marker.
    async fn own_in_private(&self, volume: &Volume, device: &Device) -> Result<(), DeviceError> {
        let devices = self.devices();
        let fstype = &volume.filesystem.fstype;
        let staging = self.staging(volume.id);
        devices
            .give_identity(device, fstype, volume.id, &staging)
            .await?;
        let options = MountOptions::default();
        devices.mount(device, fstype, &staging, &options).await?;
        let claimed = devices
            .claim_layout(&staging, volume.id, volume.layout)
            .await;
        let unmounted = devices.unmount(&staging).await;
        claimed.and(unmounted)
    }
}

fn has_own_uuid(volume: &Volume, probed: &Probed) -> bool {
    matches!(probed, Probed::Holds { uuid: Some(uuid), .. } if *uuid == clone_uuid(volume.id))
}
