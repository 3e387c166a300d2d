//! [`Devices`] on a Linux kernel.
//!
//! System calls on a device may hang for as long as the storage does, so each runs on a thread of its own with a
//! limit; when it passes, the caller is told and the thread stays with its call. Work for one volume never waits for
//! another's.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use nix::libc::{O_EXCL, O_NONBLOCK};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use vdvs_domain::{FsType, Layout, VolumeId};

use crate::error::{DeviceError, Os};
use crate::find::{self, Roots};
use crate::health::{filesystem_health, pulse};
use crate::mkfs::Ground;
use crate::mountinfo::MountEntry;
use crate::mounting::patiently;
use crate::probe::{self, Scan};
use crate::{
    Birth, Content, Device, Devices, Health, MountOptions, Probe, Wanted, begun, clone_uuid, fsck,
    identity, layout, mkfs, mounting,
};

/// Opening, reading a few MiB, a small file: milliseconds on storage that works. Above any multipath failover.
const QUICK: Duration = Duration::from_secs(40);
/// Mounting replays a journal, unmounting writes back what is cached.
const SLOW: Duration = Duration::from_secs(300);
/// Long enough for a loaded disk, short enough for a watcher that looks at every volume.
const PULSE: Duration = Duration::from_secs(5);
/// Written at a time.
const CHUNK: usize = 1024 * 1024;

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
pub(crate) fn open(device: &Device, flags: i32) -> Result<File, DeviceError> {
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

/// Opens for writing what nobody uses.
fn open_to_write(device: &Device) -> io::Result<(File, u64)> {
    let mut looked = open(device, 0).map_err(io::Error::other)?;
    let size = find::end_of(&mut looked)?;
    // Exclusive, like mkfs itself: nobody mounts it meanwhile.
    let mut options = File::options();
    options
        .read(true)
        .write(true)
        .custom_flags(O_EXCL | O_NONBLOCK);
    let busy = |opened: &io::Result<File>| matches!(opened, Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32));
    let file = patiently(|| options.open(&device.path), busy)?;
    Ok((file, size))
}

/// Marks the disk: from here on what lies there is ours. Then removes what an interrupted format of ours left:
/// `mkfs.btrfs` refuses a UUID that it still finds on the device.
fn begin_format(device: &Device, uuid: Uuid, ground: Ground) -> io::Result<()> {
    let (file, size) = open_to_write(device)?;
    if let Some(at) = begun::place(size) {
        file.write_all_at(&begun::block(uuid), at)?;
        file.sync_all()?;
    }
    if ground == Ground::Blank {
        return Ok(());
    }
    let zeros = vec![0; CHUNK];
    for (start, end) in begun::spared(probe::regions(size), size) {
        let mut at = start;
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
            at += len as u64;
        }
    }
    file.sync_all()
}

/// Takes the mark away where it still is, and makes everything durable: the record will say "ready" next.
fn end_format(device: &Device, uuid: Uuid) -> io::Result<()> {
    let (file, size) = open_to_write(device)?;
    if let Some(at) = begun::place(size) {
        let mut block = vec![0; begun::LEN];
        file.read_exact_at(&mut block, at)?;
        if begun::read(&block) == Some(uuid) {
            file.write_all_at(&vec![0; begun::LEN], at)?;
        }
    }
    file.sync_all()
}

/// The first bytes of the device.
fn read_head(device: &Device, len: usize) -> Result<Vec<u8>, DeviceError> {
    let file = open(device, 0)?;
    let mut head = vec![0; len];
    file.read_exact_at(&mut head, 0)
        .map_err(|error| DeviceError::on_device("reading", device.path.clone(), error))?;
    Ok(head)
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
        let ground = if seen == Probe::Blank {
            Ground::Blank
        } else {
            Ground::Used
        };
        let copy = device.clone();
        blocking("preparing", &device.path, SLOW, move || {
            begin_format(&copy, fs_uuid, ground)
                .map_err(|error| DeviceError::on_device("preparing", copy.path, error))
        })
        .await?;
        mkfs::run(&program, &fs, fs_uuid, &label, ground, &device.path).await?;
        let copy = device.clone();
        blocking("flushing", &device.path, SLOW, move || {
            end_format(&copy, fs_uuid)
                .map_err(|error| DeviceError::on_device("flushing", copy.path, error))
        })
        .await?;
        // What the record will speak of must be what was ordered.
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
        options: &MountOptions,
    ) -> Result<(), DeviceError> {
        let path = device.path.clone();
        if !options.read_only {
            let (device, at) = (device.clone(), at.to_owned());
            let asks = blocking("reading", &path, QUICK, move || {
                let here = mounting::is_mounted(&device, &at, false)?;
                Ok(!here && fsck::asks(&read_head(&device, fsck::HEAD)?))
            });
            if asks.await? {
                fsck::run(&path).await?;
            }
        }
        let (device, fs, at) = (device.clone(), fs.clone(), at.to_owned());
        let options = options.clone();
        blocking("mounting", &path, SLOW, move || {
            drop(open(&device, 0)?);
            mounting::mount(&device, &fs, &at, &options)
        })
        .await
    }

    async fn give_identity(
        &self,
        device: &Device,
        fs: &FsType,
        id: VolumeId,
        staging: &Path,
    ) -> Result<bool, DeviceError> {
        let uuid = clone_uuid(id);
        let own = uuid.hyphenated().to_string();
        if matches!(self.probe(device).await, Probe::Holds(content) if content.uuid.as_deref() == Some(&own))
        {
            return Ok(false);
        }
        let kind = fs.as_str();
        let len = if kind == "btrfs" {
            identity::HEAD
        } else {
            fsck::HEAD
        };
        let look = async || {
            let copy = device.clone();
            blocking("reading", &device.path, QUICK, move || {
                read_head(&copy, len)
            })
            .await
        };
        let mut head = look().await?;
        if identity::must_replay(kind, &head) {
            let options = MountOptions::default();
            self.mount(device, fs, staging, &options).await?;
            self.unmount(staging).await?;
            head = look().await?;
            if identity::must_replay(kind, &head) {
                return Err(DeviceError::Identity {
                    path: device.path.clone(),
                    program: "mount",
                    status: "its log is still there after a mount".to_owned(),
                    output: String::new(),
                });
            }
        }
        let Some((program, args)) = identity::change(kind, &head, uuid) else {
            return Ok(false);
        };
        if !self.exclusively_unused(device).await? {
            return Err(DeviceError::Busy {
                path: device.path.clone(),
            });
        }
        identity::run(&device.path, program, args).await?;
        Ok(true)
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
        birth: Birth,
    ) -> Result<(), DeviceError> {
        let copy = at.to_owned();
        blocking("preparing", at, QUICK, move || {
            layout::prepare(&copy, id, layout, birth)
        })
        .await
    }

    async fn claim_layout(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError> {
        let copy = at.to_owned();
        blocking("preparing", at, QUICK, move || {
            layout::claim(&copy, id, layout)
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

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
