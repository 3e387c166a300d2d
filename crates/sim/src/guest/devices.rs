//! The plugin's port to disks, over the simulated kernel.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use vdvs_blockdev::error::Os;
use vdvs_blockdev::{
    Birth, Device, DeviceError, Devices, Health, Locator, MountEntry, MountOptions, Probe, Wanted,
    clone_uuid,
};
use vdvs_domain::{FsType, Layout, VolumeId};

use super::format::{self, BEGUN, BLOCKS, Begun, DATA, MARKER, Marker, SUPER, Superblock};
use super::kernel::{EIO, ENXIO, EROFS, Kernel, Node, Place};
use super::life::Life;
use crate::check::Found;

/// The major number of all simulated disks.
const MAJOR: u32 = 259;
/// Between two looks for a disk that is to appear.
const LOOK: Duration = Duration::from_millis(20);
const EINVAL: i32 = 22;

/// One plugin process's way to the disks.
#[derive(Debug)]
pub(crate) struct SimDevices {
    kernel: Arc<Kernel>,
    life: Life,
    /// What the plugin saw last on each device.
    probed: Mutex<BTreeMap<u32, Probe>>,
}

fn os(errno: i32) -> Os {
    Os::from(io::Error::from_raw_os_error(errno))
}

fn gone(device: &Device, errno: i32) -> DeviceError {
    DeviceError::Gone {
        path: device.path.clone(),
        os: os(errno),
    }
}

fn node_path(target: u8) -> PathBuf {
    format!("/dev/sim{target}").into()
}

/// A private mount of a format or a clone, which nobody is told of.
fn is_staging(at: &Path) -> bool {
    let name = at.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with('.'))
}

fn foreign(at: &Path, why: impl Into<String>) -> DeviceError {
    DeviceError::Layout {
        at: at.to_owned(),
        why: why.into(),
    }
}

impl SimDevices {
    pub(crate) fn new(kernel: Arc<Kernel>, life: Life) -> Self {
        Self {
            kernel,
            life,
            probed: Mutex::default(),
        }
    }

    fn probed(&self) -> MutexGuard<'_, BTreeMap<u32, Probe>> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node of a device that was found earlier; another plugging-in is another.
    fn node(&self, device: &Device) -> Result<Node, DeviceError> {
        let (_, minor) = device.major_minor;
        let state = self.kernel.look();
        let node = state.nodes.values().find(|node| node.minor == minor);
        node.cloned().ok_or_else(|| gone(device, ENXIO))
    }

    async fn read_probe(&self, device: &Device) -> Result<Probe, i32> {
        let (_, minor) = device.major_minor;
        self.kernel.readable()?;
        let superblock = self.kernel.read(minor, SUPER).await?;
        let begun = self.kernel.read(minor, BEGUN).await?;
        let mut blank = format::blank(&self.kernel.read(minor, MARKER).await?);
        for block in DATA..DATA + BLOCKS {
            blank &= format::blank(&self.kernel.read(minor, block).await?);
        }
        Ok(format::probe(&superblock, &begun, blank))
    }

    /// As `mkfs` does it: the mark, the old contents away, the new ones, the mark away. Each on the disk before the next.
    async fn make(&self, minor: u32, fs: &FsType, uuid: Uuid) -> Result<(), i32> {
        let kernel = &self.kernel;
        let begun = format::bytes(&Begun { format_of: uuid });
        kernel.write(minor, BEGUN, &begun).await?;
        kernel.write(minor, SUPER, &[]).await?;
        for block in [MARKER].into_iter().chain(DATA..DATA + BLOCKS) {
            if !format::blank(&kernel.read(minor, block).await?) {
                kernel.write(minor, block, &[]).await?;
            }
        }
        let fstype = fs.clone();
        let superblock = format::bytes(&Superblock { fstype, uuid });
        kernel.write(minor, SUPER, &superblock).await?;
        kernel.write(minor, BEGUN, &[]).await
    }

    fn place(&self, at: &Path) -> Result<Place, DeviceError> {
        let state = self.kernel.state();
        let place = state.places.iter().rev().find(|place| place.at == at);
        place
            .cloned()
            .ok_or_else(|| DeviceError::NotMounted(at.to_owned()))
    }

    async fn marker(&self, at: &Path) -> Result<(Place, Option<Marker>), DeviceError> {
        let place = self.place(at)?;
        let block = self.kernel.get(place.minor, MARKER).await;
        let block = block.map_err(|errno| self.io("reading the marker on", &place, errno))?;
        Ok((place, format::read(&block)))
    }

    async fn mark(&self, place: &Place, marker: &Marker) -> Result<(), DeviceError> {
        let bytes = format::bytes(marker);
        let put = self.kernel.put_bytes(place.minor, MARKER, bytes);
        let done = match put {
            Ok(()) => self.kernel.sync(place.minor).await,
            Err(errno) => Err(errno),
        };
        done.map_err(|errno| self.io("writing the marker on", place, errno))
    }

    fn io(&self, doing: &'static str, place: &Place, errno: i32) -> DeviceError {
        DeviceError::Io {
            doing,
            path: place.node.clone(),
            os: os(errno),
        }
    }

    /// Takes a place out of the tree; what is left of the file system ends with its last user.
    async fn leave(&self, at: &Path) {
        let minor = {
            let mut state = self.kernel.state();
            let at = state.places.iter().rposition(|place| place.at == at);
            at.map(|at| state.places.remove(at).minor)
        };
        if let Some(minor) = minor {
            self.kernel.end_use(minor).await;
        }
    }
}

#[async_trait]
impl Devices for SimDevices {
    async fn find(&self, wanted: &Wanted, deadline: Instant) -> Result<Device, DeviceError> {
        let begun = Instant::now();
        let Locator::Scsi { target, .. } = wanted.locator else {
            return Err(DeviceError::NotFound {
                place: "no such kind of place".to_owned(),
                waited: Duration::ZERO,
            });
        };
        loop {
            self.life.step().await;
            let found = self.kernel.look().nodes.get(&target).map(|n| n.minor);
            if let Some(minor) = found {
                return Ok(Device {
                    path: node_path(target),
                    major_minor: (MAJOR, minor),
                });
            }
            if Instant::now() >= deadline {
                return Err(DeviceError::NotFound {
                    place: node_path(target).display().to_string(),
                    waited: begun.elapsed(),
                });
            }
            sleep(LOOK).await;
        }
    }

    async fn probe(&self, device: &Device) -> Probe {
        self.life.step().await;
        let seen = self.read_probe(device).await;
        self.life.step().await;
        let seen = seen.unwrap_or_else(|errno| {
            Probe::Unknown(format!("{}: {}", device.path.display(), os(errno)))
        });
        self.probed().insert(device.major_minor.1, seen.clone());
        seen
    }

    async fn format(
        &self,
        device: &Device,
        fs: &FsType,
        fs_uuid: Uuid,
        _label: &str,
        _budget: Duration,
    ) -> Result<(), DeviceError> {
        self.life.step().await;
        let path = device.path.clone();
        let node = self.node(device)?;
        if self.kernel.in_use(node.minor) {
            return Err(DeviceError::Busy { path });
        }
        // What the plugin asks for counts, not only what is done: below it somebody else refuses.
        let asked = match self.probed().get(&node.minor) {
            Some(Probe::Unknown(_)) => Some(Found::Unknown),
            Some(Probe::Holds(c)) if c.uuid != Some(fs_uuid.to_string()) => Some(Found::Foreign),
            _ => None,
        };
        if let Some(found) = asked {
            let kernel = &self.kernel;
            kernel.checker.formats(&kernel.vm, &node.disk, found);
        }
        let (found, refused) = match self.probe(device).await {
            Probe::Blank => (Found::Blank, None),
            Probe::Unknown(why) => (Found::Unknown, Some(why)),
            Probe::Holds(content) if content.uuid == Some(fs_uuid.to_string()) => {
                (Found::OwnUnfinished, None)
            }
            Probe::Holds(content) => (Found::Foreign, Some(content.description)),
        };
        if let Some(why) = refused {
            return Err(DeviceError::FormatRefused { path, why });
        }
        let kernel = &self.kernel;
        kernel.checker.formats(&kernel.vm, &node.disk, found);
        let made = self.make(node.minor, fs, fs_uuid).await;
        self.life.step().await;
        made.map_err(|errno| DeviceError::Mkfs {
            path,
            status: "exit status 1".to_owned(),
            output: os(errno).to_string(),
        })
    }

    async fn exclusively_unused(&self, device: &Device) -> Result<bool, DeviceError> {
        self.life.step().await;
        let node = self.node(device)?;
        self.kernel
            .answers(node.minor)
            .map_err(|errno| gone(device, errno))?;
        Ok(!self.kernel.in_use(node.minor))
    }

    async fn mount(
        &self,
        device: &Device,
        fs: &FsType,
        at: &Path,
        options: &MountOptions,
    ) -> Result<(), DeviceError> {
        self.life.step().await;
        let node = self.node(device)?;
        let failed = |errno| DeviceError::Mount {
            device: device.path.clone(),
            at: at.to_owned(),
            os: os(errno),
            hint: "".into(),
        };
        if let Ok(there) = self.place(at) {
            if there.minor == node.minor && there.read_only == options.read_only {
                return Ok(());
            }
            return Err(DeviceError::Occupied {
                device: device.path.clone(),
                at: at.to_owned(),
                found: there.node.display().to_string(),
            });
        }
        if node.read_only && !options.read_only {
            return Err(failed(EROFS));
        }
        let block = self.kernel.read(node.minor, SUPER).await;
        let holds: Option<Superblock> = format::read(&block.map_err(failed)?);
        if holds.is_none_or(|holds| holds.fstype != *fs) {
            return Err(failed(EINVAL));
        }
        // It may have left while its superblock was read.
        let node = self.node(device)?;
        self.kernel
            .begin_use(&node, fs, options.read_only, is_staging(at));
        {
            let mut state = self.kernel.state();
            state.last_place += 1;
            let place = Place {
                id: state.last_place,
                at: at.to_owned(),
                minor: node.minor,
                node: device.path.clone(),
                read_only: options.read_only,
            };
            state.places.push(place);
        }
        self.life.step().await;
        Ok(())
    }

    async fn give_identity(
        &self,
        device: &Device,
        fs: &FsType,
        id: VolumeId,
        _staging: &Path,
    ) -> Result<bool, DeviceError> {
        self.life.step().await;
        let node = self.node(device)?;
        if self.kernel.in_use(node.minor) {
            return Err(DeviceError::Busy {
                path: device.path.clone(),
            });
        }
        let failed = |errno| gone(device, errno);
        let block = self.kernel.read(node.minor, SUPER).await.map_err(failed)?;
        let Some(found) = format::read::<Superblock>(&block) else {
            return Ok(false);
        };
        // xfs keeps its UUID and is mounted with `nouuid`.
        if fs.as_str() == "xfs" || found.uuid == clone_uuid(id) {
            return Ok(false);
        }
        let own = format::bytes(&Superblock {
            uuid: clone_uuid(id),
            ..found
        });
        let written = self.kernel.write(node.minor, SUPER, &own).await;
        self.life.step().await;
        written.map_err(failed)?;
        Ok(true)
    }

    async fn unmount(&self, at: &Path) -> Result<(), DeviceError> {
        self.life.step().await;
        self.leave(at).await;
        self.life.step().await;
        Ok(())
    }

    async fn unmount_lazy(&self, at: &Path) -> Result<(), DeviceError> {
        self.unmount(at).await
    }

    async fn mounts(&self) -> Result<Vec<MountEntry>, DeviceError> {
        self.life.step().await;
        let state = self.kernel.state();
        let entry = |place: &Place| {
            let fs = state.mounted.get(&place.minor)?;
            let mode = if place.read_only { "ro" } else { "rw" };
            Some(MountEntry {
                id: 100 + place.id,
                parent: 1,
                major_minor: (MAJOR, place.minor),
                root: "/".into(),
                at: place.at.clone(),
                options: format!("{mode},nodev"),
                fstype: fs.fstype.to_string(),
                source: place.node.clone(),
                super_options: if fs.stopped { "ro" } else { mode }.to_owned(),
            })
        };
        Ok(state.places.iter().filter_map(entry).collect())
    }

    async fn prepare_data_dir(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
        _birth: Birth,
    ) -> Result<(), DeviceError> {
        self.life.step().await;
        let (place, marker) = self.marker(at).await?;
        let ours = Marker { volume: id, layout };
        match marker {
            _ if layout == Layout::Root => Ok(()),
            Some(found) if found == ours => Ok(()),
            Some(found) => Err(foreign(
                at,
                format!("it belongs to volume {}", found.volume),
            )),
            None => {
                self.mark(&place, &ours).await?;
                self.life.step().await;
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
        self.life.step().await;
        let (place, marker) = self.marker(at).await?;
        match marker {
            _ if layout == Layout::Root => Ok(()),
            Some(found) if found.layout == layout => {
                if place.read_only || found.volume == id {
                    return Ok(());
                }
                self.mark(&place, &Marker { volume: id, layout }).await
            }
            Some(_) => Err(foreign(at, "it has another layout")),
            None => Err(foreign(at, "it has no marker file .vdvs")),
        }
    }

    async fn verify_layout(
        &self,
        at: &Path,
        id: VolumeId,
        layout: Layout,
    ) -> Result<(), DeviceError> {
        self.life.step().await;
        let (_, marker) = self.marker(at).await?;
        match marker {
            _ if layout == Layout::Root => Ok(()),
            Some(found) if found == (Marker { volume: id, layout }) => Ok(()),
            Some(found) => Err(foreign(
                at,
                format!("it belongs to volume {}", found.volume),
            )),
            None => Err(foreign(at, "it has no marker file .vdvs")),
        }
    }

    fn filesystems(&self) -> Vec<FsType> {
        let known = ["ext4", "xfs"].iter();
        known.filter_map(|kind| FsType::new(kind).ok()).collect()
    }

    async fn healthy(&self, at: &Path, device: &Device) -> Health {
        self.life.step().await;
        let (_, minor) = device.major_minor;
        if let Err(errno) = self.kernel.answers(minor) {
            return Health::Lost(os(errno).to_string());
        }
        if self.place(at).is_err() {
            return Health::Unknown(format!("nothing is mounted at {}", at.display()));
        }
        let stopped = self.kernel.state().mounted.get(&minor).map(|fs| fs.stopped);
        match stopped {
            Some(true) => Health::Damaged(format!("its file system stopped: {}", os(EIO))),
            _ => Health::Alive,
        }
    }
}
