//! Mounts and disks against the journal.

use std::fs;
use std::io;
use std::thread::sleep;
use std::time::Duration;

use tokio::runtime::Builder;
use vdvs_blockdev::{Device, Devices, Health, LinuxDevices};

use super::{Finding, Level};
use crate::checks;
use crate::journal::{Held, Stage, peek};
use crate::service::stale_mounts;
use crate::settings::Settings;

/// A mount under way takes less; what differs before and after is not that.
const LOOK_TWICE: Duration = Duration::from_secs(1);

pub(super) fn mounts(settings: &Settings, held: &[Held]) -> Vec<Finding> {
    let root = fs::canonicalize(&settings.mount_root).unwrap_or(settings.mount_root.clone());
    let look =
        |held: &[Held]| checks::mounted(&root).map(|table| stale_mounts(held, &table, &root));
    let again = |first: Vec<String>| {
        if first.is_empty() {
            return Ok(first);
        }
        sleep(LOOK_TWICE);
        let held = peek(&settings.state)?;
        let second = look(&held)?;
        Ok::<_, io::Error>(
            first
                .into_iter()
                .filter(|one| second.contains(one))
                .collect(),
        )
    };
    match look(held).and_then(again) {
        Ok(stale) if stale.is_empty() => {
            let mounted = held.iter().filter(|h| h.stage == Stage::Mounted).count();
            vec![Finding::fine(
                "mounts",
                format!("{mounted} volumes mounted, as the journal says"),
            )]
        }
        Ok(stale) => {
            let text = format!("mounts and journal differ: {}", stale.join(", "));
            let act = "the running plugin puts this right within a minute; if it stays: systemctl restart vdvs-plugin";
            vec![Finding::bad("mounts", Level::Attention, text, act)]
        }
        Err(error) => {
            let text = format!("mounts were not compared: {error}");
            vec![Finding::bad(
                "mounts",
                Level::Attention,
                text,
                "cat /proc/self/mountinfo",
            )]
        }
    }
}

pub(super) fn disks(settings: &Settings, held: &[Held]) -> Vec<Finding> {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let text = format!("disks were not asked: {error}");
            return vec![Finding::bad("disks", Level::Attention, text, "try again")];
        }
    };
    let devices = LinuxDevices::new();
    let mut all = Vec::new();
    for one in held {
        let restart = format!("restart the containers that use {}", one.name);
        let bad = |level, text| Finding::bad("disks", level, text, restart.clone());
        if one.stage == Stage::Lost {
            let text = format!(
                "{} was taken away from this VM; its containers see I/O errors",
                one.name
            );
            all.push(bad(Level::Attention, text));
        }
        let device = one.device.as_ref().map(Device::from);
        let Some(device) = device.filter(|_| one.stage == Stage::Mounted) else {
            continue;
        };
        let at = settings.mount_root.join(one.volume.to_string());
        match runtime.block_on(devices.healthy(&at, &device)) {
            Health::Alive => {}
            Health::Lost(why) | Health::Damaged(why) => {
                all.push(bad(Level::Broken, format!("{}: {why}", one.name)));
            }
            Health::Unknown(why) => {
                all.push(bad(Level::Attention, format!("{}: {why}", one.name)));
            }
        }
    }
    // A disk that hangs must not keep this program.
    runtime.shutdown_background();
    if all.is_empty() {
        all.push(Finding::fine("disks", "all mounted disks answer"));
    }
    all
}
