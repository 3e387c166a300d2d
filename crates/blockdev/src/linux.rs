//! [`Devices`] on a Linux kernel.
//!
//! System calls on a device may hang for as long as the storage does, so each runs on a thread of its own with a
//! limit; when it passes, the caller is told and the thread stays with its call. Work for one volume never waits for
//! another's.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use nix::libc::{O_DIRECT, O_EXCL, O_NONBLOCK};
use nix::sys::statvfs::statvfs;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use vdvs_domain::{FsType, Layout, VolumeId};

use crate::error::{DeviceError, Os, is_gone};
use crate::find::{self, Roots};
use crate::mountinfo::{MountEntry, topmost};
use crate::mounting::patiently;
use crate::probe::{self, Scan};
use crate::{Content, Device, Devices, Health, Probe, Wanted, layout, mkfs, mounting};

/// Opening, reading a few MiB, a small file: milliseconds on storage that works. Above any multipath failover.
const QUICK: Duration = Duration::from_secs(40);
/// Mounting replays a journal, unmounting writes back what is cached.
const SLOW: Duration = Duration::from_secs(300);
/// Long enough for a loaded disk, short enough for a watcher that looks at every volume.
const PULSE: Duration = Duration::from_secs(5);
/// One block of any device.
const BLOCK: usize = 4096;

type Formatting = (Uuid, watch::Receiver<Option<Result<(), DeviceError>>>);

/// The kernel's devices.
#[derive(Debug, Clone, Default)]
pub struct LinuxDevices {
    roots: Roots,
    /// Running `mkfs` by device, so that a retry joins instead of starting a second one.
    formats: Arc<Mutex<HashMap<(u32, u32), Formatting>>>,
    tasks: TaskTracker,
}

impl LinuxDevices {
    /// The devices below `/sys` and `/dev`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits until no `mkfs` runs any more; for an orderly end. It survives the process otherwise.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Runs a system call that may hang.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    path: &Path,
    limit: Duration,
    call: impl FnOnce() -> Result<T, DeviceError> + Send + 'static,
) -> Result<T, DeviceError> {
    match timeout(limit, spawn_blocking(call)).await {
        Ok(Ok(result)) => result,
        // The call panicked or the runtime ends.
        Ok(Err(_join)) => Err(DeviceError::Io {
            doing,
            path: path.to_owned(),
            os: Os(Errno::ECANCELED),
        }),
        Err(_elapsed) => Err(DeviceError::TimedOut {
            doing,
            path: path.to_owned(),
            limit,
        }),
    }
}

/// Opens the node and makes sure it is still the device that was found.
fn open(device: &Device, flags: i32) -> Result<File, DeviceError> {
    let failed = |error: io::Error| match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EBUSY) => DeviceError::Busy {
            path: device.path.clone(),
        },
        // The node went with the device.
        Some(errno @ Errno::ENOENT) => DeviceError::Gone {
            path: device.path.clone(),
            os: Os(errno),
        },
        _ => DeviceError::on_device("opening", device.path.clone(), error),
    };
    let file = File::options()
        .read(true)
        // Never wait for a medium.
        .custom_flags(O_NONBLOCK | flags)
        .open(&device.path)
        .map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let number = find::device_number(meta.rdev());
    if !meta.file_type().is_block_device() || number != Some(device.major_minor) {
        return Err(DeviceError::WrongDevice {
            path: device.path.clone(),
            why: "its node belongs to another device by now".to_owned(),
        });
    }
    Ok(file)
}

fn scan(device: &Device) -> Scan {
    let scanned = open(device, 0).and_then(|mut file| {
        let size = find::end_of(&mut file)
            .map_err(|error| DeviceError::on_device("sizing", device.path.clone(), error))?;
        Ok(probe::scan(&file, size))
    });
    scanned.unwrap_or_else(|error| Scan::Failed(error.to_string()))
}

/// Removes what an interrupted format of ours left: `mkfs.btrfs` refuses a UUID that it still finds on the device.
fn forget_own_attempt(device: &Device) -> Result<(), DeviceError> {
    let failed = |error: io::Error| DeviceError::on_device("clearing", device.path.clone(), error);
    let mut looked = open(device, 0)?;
    let size = find::end_of(&mut looked).map_err(failed)?;
    // Exclusive, like mkfs itself: nobody mounts it meanwhile.
    let file = File::options()
        .write(true)
        .custom_flags(O_EXCL)
        .open(&device.path)
        .map_err(failed)?;
    for (start, end) in probe::regions(size) {
        let len = usize::try_from(end - start).unwrap_or(BLOCK);
        file.write_all_at(&vec![0; len], start).map_err(failed)?;
    }
    file.sync_all().map_err(failed)
}

impl LinuxDevices {
    /// The one place that overwrites a device.
    async fn format_now(
        self,
        device: Device,
        fs: FsType,
        fs_uuid: Uuid,
        label: String,
    ) -> Result<(), DeviceError> {
        let program = mkfs::require(&fs)?;
        if !self.exclusively_unused(&device).await? {
            return Err(DeviceError::Busy { path: device.path });
        }
        let seen = self.probe(&device).await;
        seen.permits_format(fs_uuid)
            .map_err(|why| DeviceError::FormatRefused {
                path: device.path.clone(),
                why,
            })?;
        if seen != Probe::Blank {
            let copy = device.clone();
            blocking("clearing", &device.path, SLOW, move || {
                forget_own_attempt(&copy)
            })
            .await?;
        }
        mkfs::run(&program, &fs, fs_uuid, &label, &device.path).await?;
        // The record will say "ready" next: what it speaks of must be on the disk and be what was ordered.
        let copy = device.clone();
        blocking("flushing", &device.path, SLOW, move || {
            open(&copy, 0)?
                .sync_all()
                .map_err(|error| DeviceError::on_device("flushing", copy.path, error))
        })
        .await?;
        self.confirm(&device, &fs, fs_uuid).await
    }

    async fn confirm(&self, device: &Device, fs: &FsType, id: Uuid) -> Result<(), DeviceError> {
        let expected = id.hyphenated().to_string();
        match self.probe(device).await {
            Probe::Holds(Content {
                fstype: Some(found),
                uuid: Some(uuid),
                ..
            }) if found == *fs && uuid == expected => Ok(()),
            other => Err(DeviceError::Mkfs {
                path: device.path.clone(),
                status: "it reported success".to_owned(),
                output: format!("expected {fs} with UUID {expected}, found {other:?}"),
            }),
        }
    }

    /// The running format of this device, or a new one.
    fn join_or_start(
        &self,
        device: &Device,
        fs: &FsType,
        fs_uuid: Uuid,
        label: &str,
    ) -> Result<Formatting, DeviceError> {
        let mut formats = self.formats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = formats.get(&device.major_minor) {
            if running.0 == fs_uuid {
                return Ok(running.clone());
            }
            return Err(DeviceError::Busy {
                path: device.path.clone(),
            });
        }
        let (done, result) = watch::channel(None);
        let entry = (fs_uuid, result);
        formats.insert(device.major_minor, entry.clone());
        let (me, device) = (self.clone(), device.clone());
        let (fs, label) = (fs.clone(), label.to_owned());
        self.tasks.spawn(async move {
            let (key, table) = (device.major_minor, Arc::clone(&me.formats));
            let result = me.format_now(device, fs, fs_uuid, label).await;
            table
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key);
            done.send_replace(Some(result));
        });
        Ok(entry)
    }
}

#[async_trait]
impl Devices for LinuxDevices {
    async fn find(&self, wanted: &Wanted, deadline: Instant) -> Result<Device, DeviceError> {
        find::wait_for(&self.roots, wanted, deadline).await
    }

    async fn probe(&self, device: &Device) -> Probe {
        let copy = device.clone();
        let scanned = blocking("reading", &device.path, QUICK, move || Ok(scan(&copy))).await;
        let scan = match scanned {
            Ok(scan) => scan,
            Err(error) => return Probe::Unknown(error.to_string()),
        };
        let blkid = match &scan {
            Scan::Known(_) | Scan::Failed(_) => probe::Blkid::NotInstalled,
            _ => probe::blkid(&device.path).await,
        };
        probe::conclude(scan, blkid)
    }

    async fn format(
        &self,
        device: &Device,
        fs: &FsType,
        fs_uuid: Uuid,
        label: &str,
        budget: Duration,
    ) -> Result<(), DeviceError> {
        let (_, mut result) = self.join_or_start(device, fs, fs_uuid, label)?;
        let finished = timeout(budget, result.wait_for(Option::is_some)).await;
        match finished {
            Ok(Ok(value)) => value.clone().unwrap_or(Ok(())),
            // The task went away with its runtime.
            Ok(Err(_closed)) => Err(DeviceError::Io {
                doing: "formatting",
                path: device.path.clone(),
                os: Os(Errno::ECANCELED),
            }),
            Err(_elapsed) => Err(DeviceError::StillFormatting {
                path: device.path.clone(),
                budget,
            }),
        }
    }

    async fn exclusively_unused(&self, device: &Device) -> Result<bool, DeviceError> {
        let copy = device.clone();
        // Reading is enough to claim the device, and works for read-only disks too.
        blocking("opening", &device.path, QUICK, move || {
            let busy = |result: &Result<File, DeviceError>| {
                matches!(result, Err(DeviceError::Busy { .. }))
            };
            match patiently(|| open(&copy, O_EXCL), busy) {
                Ok(_closed_at_once) => Ok(true),
                Err(DeviceError::Busy { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    async fn mount(
        &self,
        device: &Device,
        fs: &FsType,
        at: &Path,
        read_only: bool,
    ) -> Result<(), DeviceError> {
        let (device, fs, at) = (device.clone(), fs.clone(), at.to_owned());
        let path = device.path.clone();
        blocking("mounting", &path, SLOW, move || {
            drop(open(&device, 0)?);
            mounting::mount(&device, &fs, &at, read_only)
        })
        .await
    }

    async fn unmount(&self, at: &Path) -> Result<(), DeviceError> {
        let copy = at.to_owned();
        blocking("unmounting", at, SLOW, move || {
            mounting::unmount(&copy, false)
        })
        .await
    }

    async fn unmount_lazy(&self, at: &Path) -> Result<(), DeviceError> {
        let copy = at.to_owned();
        blocking("unmounting", at, QUICK, move || {
            mounting::unmount(&copy, true)
        })
        .await
    }

    async fn mounts(&self) -> Result<Vec<MountEntry>, DeviceError> {
        let path = PathBuf::from("/proc/self/mountinfo");
        blocking("reading", &path, QUICK, mounting::table).await
    }

    async fn prepare_data_dir(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError> {
        let copy = at.to_owned();
        blocking("preparing", at, QUICK, move || {
            layout::prepare(&copy, id, layout)
        })
        .await
    }

    async fn verify_layout(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError> {
        let copy = at.to_owned();
        blocking("checking", at, QUICK, move || {
            layout::verify(&copy, id, layout)
        })
        .await
    }

    fn filesystems(&self) -> Vec<FsType> {
        mkfs::supported()
    }

    async fn healthy(&self, at: &Path, device: &Device) -> Health {
        let (copy, here) = (device.clone(), at.to_owned());
        let pulse = blocking("reading", &device.path, PULSE, move || {
            Ok(pulse(&copy).unwrap_or_else(|| filesystem_health(&here)))
        });
        pulse
            .await
            .unwrap_or_else(|error| Health::Unknown(error.to_string()))
    }
}

/// `None` when the device itself answers: it has a size and its first block can be read past the page cache.
fn pulse(device: &Device) -> Option<Health> {
    let lost = |what: &str| Some(Health::Lost(format!("{}: {what}", device.path.display())));
    let mut file = match open(device, O_DIRECT) {
        Ok(file) => file,
        Err(error @ (DeviceError::Gone { .. } | DeviceError::WrongDevice { .. })) => {
            return Some(Health::Lost(error.to_string()));
        }
        Err(error) => return Some(Health::Unknown(error.to_string())),
    };
    match find::end_of(&mut file) {
        Ok(0) => return lost("its capacity is gone"),
        Ok(_) => {}
        Err(error) => return lost(&Os::from(error).to_string()),
    }
    let mut memory = vec![0_u8; 2 * BLOCK];
    // Reading past the cache needs an aligned place in memory.
    let start = memory.as_ptr().align_offset(BLOCK);
    let block = memory.get_mut(start..start.saturating_add(BLOCK))?;
    match file.read_at(block, 0) {
        Ok(read) if read > 0 => None,
        Ok(_) => lost("it ends before its first block"),
        Err(error) => {
            let os = Os::from(error);
            if is_gone(os.0) {
                lost(&os.to_string())
            } else {
                Some(Health::Unknown(os.to_string()))
            }
        }
    }
}

/// The device answers; does the file system on it still take writes?
fn filesystem_health(at: &Path) -> Health {
    let stopped = |why: &str| Health::Damaged(format!("{}: {why}", at.display()));
    // xfs that shut down answers EIO to everything; ext4 turns read-only below a writable mount.
    let asked = statvfs(at).and_then(|_| match fs::read_dir(at) {
        Ok(_) => Ok(()),
        Err(error) => Err(Os::from(error).0),
    });
    match asked {
        Err(errno) if is_gone(errno) => return stopped(&Os(errno).to_string()),
        Err(errno) => return Health::Unknown(Os(errno).to_string()),
        Ok(()) => {}
    }
    match mounting::table() {
        Ok(table) => match topmost(&table, at) {
            Some(entry) if entry.super_read_only() && !entry.read_only() => {
                stopped("the file system turned read-only after an error")
            }
            Some(_) => Health::Alive,
            None => Health::Unknown(format!("nothing is mounted at {}", at.display())),
        },
        Err(error) => Health::Unknown(error.to_string()),
    }
}
