//! [`Devices`] in memory, for tests and simulations: disks with controllable contents, users, failures and delays.
//!
//! It keeps the same promises as the real thing (P3 and P8 above all), so a caller that would harm a disk fails here
//! too. Every call is recorded as one line, and [`FakeDevices::fail_next`] makes the next call of a kind fail.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;
use vdvs_domain::{Capacity, FsType, Layout, VolumeId};

use crate::error::{DeviceError, Os};
use crate::{
    Birth, Content, Device, Devices, Health, Locator, MountEntry, MountOptions, Probe, Wanted,
    clone_uuid,
};

/// What a fake disk holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FakeContent {
    /// Zeros.
    Blank,
    /// A file system.
    Formatted {
        /// Its type.
        fstype: FsType,
        /// Its UUID.
        uuid: Uuid,
        /// Its marker, with `data` beside it.
        marker: Option<(VolumeId, Layout)>,
    },
    /// Somebody's data.
    Foreign(String),
    /// Cannot be read; the reason.
    Unreadable(String),
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeDisk {
    /// Its number.
    pub major_minor: (u32, u32),
    /// Its size.
    pub size: Capacity,
    /// Its UUID, if the guest can see it.
    pub disk_uuid: Option<String>,
    /// What it holds. Contents outlive detaching: take the disk out and plug it in again.
    pub content: FakeContent,
    /// In use by somebody else's mount namespace.
    pub busy: bool,
    /// Fenced: every request fails with EIO.
    pub lost: bool,
}

/// Kinds of calls, for failures and delays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`Devices::find`]
    Find,
    /// [`Devices::format`]
    Format,
    /// [`Devices::exclusively_unused`]
    ExclusivelyUnused,
    /// [`Devices::mount`]
    Mount,
    /// [`Devices::unmount`]
    Unmount,
    /// [`Devices::unmount_lazy`]
    UnmountLazy,
    /// [`Devices::mounts`]
    Mounts,
    /// [`Devices::prepare_data_dir`]
    Prepare,
    /// [`Devices::verify_layout`]
    Verify,
    /// [`Devices::give_identity`]
    Identity,
    /// [`Devices::claim_layout`]
    Claim,
}

#[derive(Debug, Default)]
struct State {
    disks: BTreeMap<PathBuf, FakeDisk>,
    mounts: Vec<(PathBuf, Device, FsType, bool)>,
    /// File systems that stopped, until they are mounted anew.
    damaged: HashMap<PathBuf, String>,
    failures: HashMap<Call, VecDeque<DeviceError>>,
    delays: HashMap<Call, Duration>,
    table_late: Duration,
    calls: Vec<String>,
    filesystems: Option<Vec<FsType>>,
    next_minor: u32,
}

/// The guest's devices, in memory. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct FakeDevices {
    state: Arc<Mutex<State>>,
    plugged: Arc<Notify>,
}

/// Where the fake shows the disk of a locator.
#[must_use]
pub fn node_of(locator: &Locator) -> PathBuf {
    match locator {
        Locator::Path(path) => path.clone(),
        Locator::Scsi { pci_slot, target } => format!("/dev/fake-{pci_slot}-{target}").into(),
    }
}

impl FakeDevices {
    /// A guest without disks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plugs in a disk at this place.
    pub fn plug(&self, locator: &Locator, size: Capacity, content: FakeContent) -> Device {
        let path = node_of(locator);
        let mut state = self.state();
        state.next_minor += 1;
        let major_minor = (259, state.next_minor);
        let disk = FakeDisk {
            major_minor,
            size,
            disk_uuid: None,
            content,
            busy: false,
            lost: false,
        };
        state.disks.insert(path.clone(), disk);
        drop(state);
        self.plugged.notify_waiters();
        Device { path, major_minor }
    }

    /// Pulls the disk out and returns it with its contents. Mounts of it stay, as they do in a real guest.
    #[must_use]
    pub fn pull(&self, locator: &Locator) -> Option<FakeDisk> {
        self.state().disks.remove(&node_of(locator))
    }

    /// Changes a disk in place; false if there is none.
    pub fn change(&self, locator: &Locator, how: impl FnOnce(&mut FakeDisk)) -> bool {
        self.state()
            .disks
            .get_mut(&node_of(locator))
            .map(how)
            .is_some()
    }

    /// The file system mounted from this disk stops accepting writes; the next mount repairs it.
    pub fn damage(&self, locator: &Locator, why: &str) {
        self.state()
            .damaged
            .insert(node_of(locator), why.to_owned());
    }

    /// The disk as it is now.
    #[must_use]
    pub fn disk(&self, locator: &Locator) -> Option<FakeDisk> {
        self.state().disks.get(&node_of(locator)).cloned()
    }

    /// The next call of this kind fails; repeated, the ones after it too.
    pub fn fail_next(&self, call: Call, error: DeviceError) {
        self.state()
            .failures
            .entry(call)
            .or_default()
            .push_back(error);
    }

    /// Every call of this kind takes this long.
    pub fn delay(&self, call: Call, by: Duration) {
        self.state().delays.insert(call, by);
    }

    /// The table of mounts is answered this long after it was read.
    pub fn late_table(&self, by: Duration) {
        self.state().table_late = by;
    }

    /// What [`Devices::filesystems`] offers instead of btrfs, ext4 and xfs.
    pub fn offer(&self, filesystems: Vec<FsType>) {
        self.state().filesystems = Some(filesystems);
    }

    /// Every call so far, one line each: `mount /dev/x at /y ext4 rw`.
    #[must_use]
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// What a restart of the guest leaves: disks, but no mounts.
    pub fn power_cut(&self) {
        self.state().mounts.clear();
    }

    async fn begin(&self, call: Call, line: String) -> Result<(), DeviceError> {
        let (delay, failure) = {
            let mut state = self.state();
            state.calls.push(line);
            let failure = state.failures.get_mut(&call).and_then(VecDeque::pop_front);
            (state.delays.get(&call).copied(), failure)
        };
        if let Some(delay) = delay {
            sleep(delay).await;
        }
        failure.map_or(Ok(()), Err)
    }

    fn look(&self, wanted: &Wanted) -> Option<Result<Device, DeviceError>> {
        let path = node_of(&wanted.locator);
        let disk = self.state().disks.get(&path).cloned()?;
        let wrong = |why: String| {
            Err(DeviceError::WrongDevice {
                path: path.clone(),
                why,
            })
        };
        if disk.size != wanted.size {
            let (has, expected) = (disk.size.bytes(), wanted.size.bytes());
            return Some(wrong(format!("it has {has} bytes, expected {expected}")));
        }
        if let (Some(has), Some(expected)) = (&disk.disk_uuid, &wanted.disk_uuid)
            && has != expected
        {
            return Some(wrong(format!("its UUID is {has}, expected {expected}")));
        }
        Some(Ok(Device {
            path,
            major_minor: disk.major_minor,
        }))
    }
}

impl State {
    /// The disk behind a device that was found earlier; a new one under the same node is another.
    fn alive(&mut self, device: &Device) -> Result<&mut FakeDisk, DeviceError> {
        let gone = |errno| DeviceError::Gone {
            path: device.path.clone(),
            os: Os(errno),
        };
        match self.disks.get_mut(&device.path) {
            Some(disk) if disk.major_minor == device.major_minor && !disk.lost => Ok(disk),
            Some(disk) if disk.lost => Err(gone(Errno::EIO)),
            _ => Err(gone(Errno::ENXIO)),
        }
    }

    fn probe(&mut self, device: &Device) -> Probe {
        match self.alive(device).map(|disk| disk.content.clone()) {
            Err(error) => Probe::Unknown(error.to_string()),
            Ok(FakeContent::Unreadable(why)) => Probe::Unknown(why),
            Ok(FakeContent::Blank) => Probe::Blank,
            Ok(FakeContent::Foreign(description)) => Probe::Holds(Content {
                fstype: None,
                uuid: None,
                description,
            }),
            Ok(FakeContent::Formatted { fstype, uuid, .. }) => Probe::Holds(Content {
                description: format!("{fstype} with UUID {uuid}"),
                fstype: Some(fstype),
                uuid: Some(uuid.to_string()),
            }),
        }
    }

    fn mounted(&self, at: &Path) -> Option<&(PathBuf, Device, FsType, bool)> {
        self.mounts.iter().rev().find(|(place, ..)| place == at)
    }

    fn in_use(&self, device: &Device) -> bool {
        let mounted = self.mounts.iter().any(|(_, d, ..)| d == device);
        mounted || self.disks.get(&device.path).is_some_and(|disk| disk.busy)
    }

    /// The marker of the file system mounted there.
    fn marker(&mut self, at: &Path) -> Result<&mut Option<(VolumeId, Layout)>, DeviceError> {
        let device = self.mounted(at).map(|(_, device, ..)| device.clone());
        let not_mounted = || DeviceError::NotMounted(at.to_owned());
        let device = device.ok_or_else(not_mounted)?;
        match &mut self.alive(&device)?.content {
            FakeContent::Formatted { marker, .. } => Ok(marker),
            _ => Err(not_mounted()),
        }
    }
}

fn foreign(at: &Path, why: String) -> DeviceError {
    DeviceError::Layout {
        at: at.to_owned(),
        why,
    }
}

#[async_trait]
impl Devices for FakeDevices {
    async fn find(&self, wanted: &Wanted, deadline: Instant) -> Result<Device, DeviceError> {
        let place = node_of(&wanted.locator);
        self.begin(Call::Find, format!("find {}", place.display()))
            .await?;
        let started = Instant::now();
        loop {
            let plugged = self.plugged.notified();
            tokio::pin!(plugged);
            plugged.as_mut().enable();
            if let Some(result) = self.look(wanted) {
                return result;
            }
            if timeout_at(deadline, plugged).await.is_err() {
                return Err(DeviceError::NotFound {
                    place: place.display().to_string(),
                    waited: started.elapsed(),
                });
            }
        }
    }

    async fn probe(&self, device: &Device) -> Probe {
        let mut state = self.state();
        state.calls.push(format!("probe {}", device.path.display()));
        state.probe(device)
    }

    async fn format(
        &self,
        device: &Device,
        fs: &FsType,
        fs_uuid: Uuid,
        _label: &str,
        _budget: Duration,
    ) -> Result<(), DeviceError> {
        let path = device.path.clone();
        self.begin(Call::Format, format!("format {} {fs}", path.display()))
            .await?;
        if !self.filesystems().contains(fs) {
            return Err(DeviceError::NoMkfs {
                fstype: fs.to_string(),
                supported: self.filesystems().iter().map(FsType::to_string).collect(),
            });
        }
        let mut state = self.state();
        if state.in_use(device) {
            return Err(DeviceError::Busy { path });
        }
        state
            .probe(device)
            .permits_format(fs_uuid)
            .map_err(|why| DeviceError::FormatRefused { path, why })?;
        state.alive(device)?.content = FakeContent::Formatted {
            fstype: fs.clone(),
            uuid: fs_uuid,
            marker: None,
        };
        Ok(())
    }

    async fn exclusively_unused(&self, device: &Device) -> Result<bool, DeviceError> {
        let line = format!("exclusive {}", device.path.display());
        self.begin(Call::ExclusivelyUnused, line).await?;
        let mut state = self.state();
        state.alive(device)?;
        Ok(!state.in_use(device))
    }

    async fn mount(
        &self,
        device: &Device,
        fs: &FsType,
        at: &Path,
        options: &MountOptions,
    ) -> Result<(), DeviceError> {
        let read_only = options.read_only;
        let mode = if read_only { "ro" } else { "rw" };
        let all: Vec<&str> = [mode]
            .into_iter()
            .chain(options.extra.iter().map(String::as_str))
            .collect();
        let (path, place, all) = (device.path.display(), at.display(), all.join(","));
        self.begin(Call::Mount, format!("mount {path} at {place} {fs} {all}"))
            .await?;
        let mut state = self.state();
        if let Some((_, there, _, ro)) = state.mounted(at) {
            if there == device && *ro == read_only {
                return Ok(());
            }
            return Err(DeviceError::Occupied {
                device: device.path.clone(),
                at: at.to_owned(),
                found: there.path.display().to_string(),
            });
        }
        let holds = matches!(
            &state.alive(device)?.content,
            FakeContent::Formatted { fstype, .. } if fstype == fs
        );
        if !holds {
            return Err(DeviceError::Mount {
                device: device.path.clone(),
                at: at.to_owned(),
                os: Os(Errno::EINVAL),
                hint: "".into(),
            });
        }
        state.damaged.remove(&device.path);
        let entry = (at.to_owned(), device.clone(), fs.clone(), read_only);
        state.mounts.push(entry);
        Ok(())
    }

    async fn give_identity(
        &self,
        device: &Device,
        fs: &FsType,
        id: VolumeId,
        _staging: &Path,
    ) -> Result<bool, DeviceError> {
        let line = format!("identity {}", device.path.display());
        self.begin(Call::Identity, line).await?;
        let mut state = self.state();
        if state.in_use(device) {
            return Err(DeviceError::Busy {
                path: device.path.clone(),
            });
        }
        match &mut state.alive(device)?.content {
            // As on Linux: xfs keeps its UUID and is mounted with `nouuid`.
            FakeContent::Formatted { uuid, .. }
                if fs.as_str() != "xfs" && *uuid != clone_uuid(id) =>
            {
                *uuid = clone_uuid(id);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn unmount(&self, at: &Path) -> Result<(), DeviceError> {
        self.begin(Call::Unmount, format!("unmount {}", at.display()))
            .await?;
        self.state().mounts.retain(|(place, ..)| place != at);
        Ok(())
    }

    async fn unmount_lazy(&self, at: &Path) -> Result<(), DeviceError> {
        let line = format!("unmount lazily {}", at.display());
        self.begin(Call::UnmountLazy, line).await?;
        self.state().mounts.retain(|(place, ..)| place != at);
        Ok(())
    }

    async fn mounts(&self) -> Result<Vec<MountEntry>, DeviceError> {
        self.begin(Call::Mounts, "mounts".to_owned()).await?;
        let (mounts, late) = {
            let state = self.state();
            (state.mounts.clone(), state.table_late)
        };
        let entries = (100..).zip(&mounts).map(|(id, (at, device, fs, ro))| {
            let options = if *ro { "ro,nodev" } else { "rw,nodev" };
            MountEntry {
                id,
                parent: 1,
                major_minor: device.major_minor,
                root: "/".into(),
                at: at.clone(),
                options: options.to_owned(),
                fstype: fs.to_string(),
                source: device.path.clone(),
                super_options: if *ro { "ro" } else { "rw" }.to_owned(),
            }
        });
        let entries = entries.collect();
        if !late.is_zero() {
            sleep(late).await;
        }
        Ok(entries)
    }

    async fn prepare_data_dir(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
        birth: Birth,
    ) -> Result<(), DeviceError> {
        let Birth { uid, gid, mode } = birth;
        let line = format!("prepare {} {uid}:{gid} {mode:04o}", at.display());
        self.begin(Call::Prepare, line).await?;
        let mut state = self.state();
        let marker = state.marker(at)?;
        match marker {
            _ if layout == Layout::Root => Ok(()),
            Some(has) if *has == (id, layout) => Ok(()),
            Some((other, _)) => Err(foreign(at, format!("it belongs to volume {other}"))),
            None => {
                *marker = Some((id, layout));
                Ok(())
            }
        }
    }

    async fn claim_layout(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError> {
        self.begin(Call::Claim, format!("claim {}", at.display()))
            .await?;
        let mut state = self.state();
        let writable = state.mounted(at).is_some_and(|(.., read_only)| !read_only);
        match state.marker(at)? {
            _ if layout == Layout::Root => Ok(()),
            Some(has) if has.1 == layout => {
                if writable {
                    has.0 = id;
                }
                Ok(())
            }
            Some(_) => Err(foreign(at, "it has another layout".to_owned())),
            None => Err(foreign(at, "it has no marker file .vdvs".to_owned())),
        }
    }

    async fn verify_layout(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError> {
        self.begin(Call::Verify, format!("verify {}", at.display()))
            .await?;
        let mut state = self.state();
        match state.marker(at)? {
            _ if layout == Layout::Root => Ok(()),
            Some(has) if *has == (id, layout) => Ok(()),
            Some((other, _)) => Err(foreign(at, format!("it belongs to volume {other}"))),
            None => Err(foreign(at, "it has no marker file .vdvs".to_owned())),
        }
    }

    fn filesystems(&self) -> Vec<FsType> {
        let known = || {
            ["btrfs", "ext4", "xfs"]
                .iter()
                .filter_map(|kind| FsType::new(kind).ok())
                .collect()
        };
        self.state().filesystems.clone().unwrap_or_else(known)
    }

    async fn healthy(&self, at: &Path, device: &Device) -> Health {
        let mut state = self.state();
        if let Err(error) = state.alive(device) {
            return Health::Lost(error.to_string());
        }
        if state.mounted(at).is_none() {
            return Health::Unknown(format!("nothing is mounted at {}", at.display()));
        }
        match state.damaged.get(&device.path) {
            Some(why) => Health::Damaged(why.clone()),
            None => Health::Alive,
        }
    }
}
