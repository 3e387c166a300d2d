//! Disks of running VMs: open, close, attach, detach, lock; and finding them again after this process died.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::disks;
use super::init;
use super::vm::{ConfiguredDisk, Device};
use super::world::World;
use crate::protocol::{self, Answer, Disk, LabError, LabErrorKind, LockState};
use crate::sys::{self, LoopState};

/// How long a detach waits for the device to close. It was ours alone a moment ago.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A device that closes when its last user goes; until then its disk is held.
#[derive(Debug)]
pub(crate) struct Closing {
    number: u32,
    extent: PathBuf,
    vm: String,
}

/// A device as the protocol shows it.
pub(super) fn shown(device: &Device) -> protocol::Device {
    protocol::Device {
        disk: device.configured.disk.clone(),
        read_only: device.configured.read_only,
        locator: device.open.map(init::locator),
        open: device.open.is_some(),
        unit: device.configured.unit,
    }
}

impl World {
    pub(super) fn attach(
        &mut self,
        name: &str,
        disk: &Disk,
        read_only: bool,
    ) -> Result<Answer, LabError> {
        let vm = self.vm(name)?;
        if vm.init.is_none() {
            return Err(LabError::new(
                LabErrorKind::PoweredOff,
                format!("VM {name} is not powered on"),
            ));
        }
        let extent = disks::sound(&self.config, disk)?;
        let index = match vm.find(&extent).and_then(|i| Some((i, vm.devices.get(i)?))) {
            Some((_, there)) if there.configured.read_only != read_only => {
                return Err(LabError::new(
                    LabErrorKind::Invalid,
                    format!("disk '{disk}' is attached to VM {name} in the other mode"),
                ));
            }
            Some((_, there)) if there.open.is_some() => {
                return Ok(Answer::Attached {
                    device: shown(there),
                    changed: false,
                });
            }
            // Configured, and closed by an earlier failure.
            Some((index, _)) => index,
            None => {
                let unit = vm.free_unit()?;
                self.free_for(&extent, read_only, None)?;
                self.configure(name, disk, extent, read_only, unit)?
            }
        };
        if let Err(refused) = self.open(name, index) {
            self.forget(name, index);
            return Err(refused);
        }
        // Only the hint is new; without it the device is found again all the same.
        if let Err(e) = self.save(name) {
            warn!(vm = name, error = %e, "cannot note the device's number");
        }
        self.bump(Some(name));
        let device = self.vm(name)?.devices.get(index).map(shown);
        let device = device.ok_or_else(|| disks::io("the device went away".to_owned()))?;
        info!(vm = name, %disk, read_only, locator = device.locator, "attached");
        Ok(Answer::Attached {
            device,
            changed: true,
        })
    }

    /// Writes the disk into the configuration, before it is opened.
    fn configure(
        &mut self,
        name: &str,
        disk: &Disk,
        extent: PathBuf,
        read_only: bool,
        unit: u32,
    ) -> Result<usize, LabError> {
        let vm = self.vm_mut(name)?;
        let configured = ConfiguredDisk {
            disk: disk.clone(),
            read_only,
            unit,
            loop_hint: None,
        };
        vm.devices.push(Device {
            configured,
            extent,
            open: None,
        });
        let index = vm.devices.len() - 1;
        if let Err(refused) = self.save(name) {
            self.vm_mut(name)?.devices.pop();
            return Err(refused);
        }
        Ok(index)
    }

    /// Takes a disk that could not be opened out of the configuration again.
    fn forget(&mut self, name: &str, index: usize) {
        if let Ok(vm) = self.vm_mut(name)
            && index < vm.devices.len()
        {
            vm.devices.remove(index);
        }
        if let Err(e) = self.save(name) {
            error!(vm = name, error = %e, "a disk that was not attached stays in the configuration");
        }
    }

    fn save(&self, name: &str) -> Result<(), LabError> {
        let write =
            |e: io::Error| disks::io(format!("cannot write devices.json of VM {name}: {e}"));
        self.vm(name)?.save_devices().map_err(write)
    }

    /// Opens every configured disk of a VM that runs.
    pub(super) fn open_all(&mut self, name: &str) -> Result<(), LabError> {
        for index in 0..self.vm(name)?.devices.len() {
            let device = self.vm(name)?.devices.get(index);
            if let Some(disk) = device
                .filter(|d| d.open.is_none())
                .map(|d| d.configured.disk.clone())
            {
                disks::sound(&self.config, &disk)?;
                self.open(name, index)?;
            }
        }
        self.save(name)
    }

    /// Binds a loop device to a configured disk and makes its node in the VM.
    fn open(&mut self, name: &str, index: usize) -> Result<(), LabError> {
        let label = format!("{}{name}", self.label());
        let vm = self.vm(name)?;
        let (Some(device), Some(init)) = (vm.devices.get(index), &vm.init) else {
            return Err(disks::io(format!("VM {name} ended")));
        };
        let (extent, read_only) = (device.extent.clone(), device.configured.read_only);
        self.free_for(&extent, read_only, None)?;
        let bind = || {
            let file = OpenOptions::new()
                .read(true)
                .write(!read_only)
                .open(&extent)?;
            sys::loop_bind(&file, read_only, &label)
        };
        let failed =
            |what, e: io::Error| disks::io(format!("cannot {what} '{}': {e}", extent.display()));
        let number = bind().map_err(|e| failed("open", e))?;
        // Another host on this machine may have opened it between our look and our bind: then neither keeps it.
        let ready = self
            .free_for(&extent, read_only, Some(number))
            .and_then(|()| init.add_node(number).map_err(|e| failed("show the VM", e)));
        if let Err(refused) = ready {
            self.unbind(number, &extent, name, CLOSE_LIMIT);
            return Err(refused);
        }
        self.closing.retain(|c| c.number != number);
        if let Some(device) = self.vm_mut(name)?.devices.get_mut(index) {
            device.open = Some(number);
        }
        Ok(())
    }

    /// Nobody has the extent open in a way that excludes us. `own`: our device, just bound.
    fn free_for(&self, extent: &Path, read_only: bool, own: Option<u32>) -> Result<(), LabError> {
        let openers = disks::openers(extent)?;
        let conflict = |l: &&LoopState| Some(l.number) != own && !(read_only && l.read_only);
        let Some(other) = openers.iter().find(conflict) else {
            return Ok(());
        };
        let holder = self.holder(other.number);
        let who = holder.as_deref().map_or_else(
            || format!("somebody on this machine (loop{})", other.number),
            |vm| format!("VM {vm}"),
        );
        Err(LabError {
            holder,
            ..LabError::new(LabErrorKind::Locked, format!("disk is locked by {who}"))
        })
    }

    /// The VM a loop device serves; one of another host on this machine is known by the device's label.
    fn holder(&self, number: u32) -> Option<String> {
        let ours = self
            .vms
            .iter()
            .find(|(_, vm)| vm.devices.iter().any(|d| d.open == Some(number)));
        if let Some((name, _)) = ours {
            return Some(name.clone());
        }
        if let Some(closing) = self.closing.iter().find(|c| c.number == number) {
            return Some(closing.vm.clone());
        }
        let label = sys::loop_label(number).ok()?;
        let (_, vm) = label.strip_prefix("vdvs:")?.split_once(':')?;
        Some(vm.to_owned())
    }

    /// What the labels of this host's loop devices begin with.
    fn label(&self) -> String {
        format!("vdvs:{}:", self.config.host_id.simple())
    }

    pub(super) fn detach(
        &mut self,
        name: &str,
        disk: &Disk,
        _force: bool,
    ) -> Result<Answer, LabError> {
        let extent = disks::extent_of(&self.config, disk);
        let vm = self.vm(name)?;
        let Some(index) = vm.find(&extent) else {
            return Ok(Answer::Detached { changed: false });
        };
        let open = vm.devices.get(index).and_then(|d| d.open);
        match open {
            Some(number) => self.hot_remove(name, index, number)?,
            None => {
                self.unconfigure(name, index)?;
            }
        }
        info!(vm = name, %disk, "detached");
        self.bump(Some(name));
        Ok(Answer::Detached { changed: true })
    }

    /// Removes an entry and writes the configuration; on failure it stands as before.
    fn unconfigure(&mut self, name: &str, index: usize) -> Result<Device, LabError> {
        let vm = self.vm_mut(name)?;
        if index >= vm.devices.len() {
            return Err(disks::io("the device went away".to_owned()));
        }
        let device = vm.devices.remove(index);
        match self.save(name) {
            Ok(()) => Ok(device),
            Err(refused) => {
                self.vm_mut(name)?.devices.insert(index, device);
                Err(refused)
            }
        }
    }

    fn hot_remove(&mut self, name: &str, index: usize, number: u32) -> Result<(), LabError> {
        let claim = match sys::loop_claim(number) {
            Ok(claim) => claim,
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {
                return Err(LabError::new(
                    LabErrorKind::Busy,
                    format!("VM {name} still uses {}", init::locator(number)),
                ));
            }
            Err(e) => return Err(disks::io(format!("cannot claim loop{number}: {e}"))),
        };
        let device = self.unconfigure(name, index)?;
        let vm = self.vm_mut(name)?;
        if let Some(Err(e)) = vm.init.as_ref().map(|i| i.remove_node(number)) {
            vm.devices.insert(index, device);
            self.save(name)?;
            return Err(disks::io(format!(
                "cannot take the device from VM {name}: {e}"
            )));
        }
        // The claim is held until the device is marked: nobody can mount it in between.
        if let Err(e) = sys::loop_clear(&claim) {
            error!(number, error = %e, "cannot unbind a loop device");
        }
        drop(claim);
        self.await_gone(number, &device.extent, name, CLOSE_LIMIT);
        Ok(())
    }

    /// After power was lost: the kernel takes the file systems down, the device goes with the last of them.
    pub(super) fn close(&mut self, name: &str, index: usize) {
        let device = self
            .vms
            .get_mut(name)
            .and_then(|vm| vm.devices.get_mut(index));
        if let Some(device) = device
            && let Some(number) = device.open.take()
        {
            let extent = device.extent.clone();
            self.unbind(number, &extent, name, Duration::ZERO);
        }
    }

    fn unbind(&mut self, number: u32, extent: &Path, vm: &str, limit: Duration) {
        if let Err(e) = sys::loop_open(number).and_then(|device| sys::loop_clear(&device)) {
            error!(number, vm, error = %e, "cannot unbind a loop device");
        }
        self.await_gone(number, extent, vm, limit);
    }

    fn await_gone(&mut self, number: u32, extent: &Path, vm: &str, limit: Duration) {
        if !sys::loop_gone(number, extent, Instant::now() + limit).unwrap_or(false) {
            let (extent, vm) = (extent.to_owned(), vm.to_owned());
            self.closing.push(Closing { number, extent, vm });
        }
    }

    /// Waits for closing devices, together at most `limit`.
    pub(super) fn settle(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let before = self.closing.len();
        self.closing
            .retain(|c| !sys::loop_gone(c.number, &c.extent, deadline).unwrap_or(false));
        if !limit.is_zero() {
            for c in &self.closing {
                warn!(
                    number = c.number,
                    vm = c.vm,
                    "a device is still in use; its disk stays locked"
                );
            }
        }
        if self.closing.len() != before {
            self.bump(None);
        }
    }

    pub(super) fn lock(&self, disk: &Disk) -> Result<Answer, LabError> {
        let unknown = Answer::Lock {
            state: LockState::Unknown,
            holder: None,
        };
        let extent = match disks::locate(&self.config, disk) {
            Ok(files) => files.extent().to_owned(),
            Err(e) if e.kind == LabErrorKind::Io => return Ok(unknown),
            Err(e) => return Err(e),
        };
        Ok(match disks::openers(&extent) {
            Err(_) => unknown,
            Ok(openers) => match openers.first() {
                None => Answer::Lock {
                    state: LockState::Free,
                    holder: None,
                },
                Some(l) => Answer::Lock {
                    state: LockState::Held,
                    holder: self.holder(l.number),
                },
            },
        })
    }

    /// After a start: gives each living VM its devices back, opens what is missing, closes what nobody names.
    pub(super) fn take_stock(&mut self) -> io::Result<()> {
        let prefix = self.label();
        // By label: other hosts on this machine share the datastores, their devices are theirs.
        let is_ours =
            |l: &LoopState| sys::loop_label(l.number).is_ok_and(|x| x.starts_with(&prefix));
        let mut ours: Vec<LoopState> = sys::loops()?.into_iter().filter(is_ours).collect();
        // First by number, then by extent: two read-only disks of two VMs look alike but for the number.
        for by_hint in [true, false] {
            for (name, vm) in self.vms.iter_mut().filter(|(_, vm)| vm.init.is_some()) {
                for device in vm.devices.iter_mut().filter(|d| d.open.is_none()) {
                    let fits = |l: &LoopState| {
                        l.backing == device.extent
                            && l.read_only == device.configured.read_only
                            && (!by_hint || device.configured.loop_hint == Some(l.number))
                    };
                    let Some(at) = ours.iter().position(fits) else {
                        continue;
                    };
                    let number = ours.remove(at).number;
                    device.open = Some(number);
                    info!(vm = name, disk = %device.configured.disk, number, "found again");
                    if let Some(Err(e)) = vm.init.as_ref().map(|i| i.add_node(number)) {
                        error!(vm = name, number, error = %e, "cannot show the VM its device");
                    }
                }
            }
        }
        ours.into_iter()
            .for_each(|orphan| self.close_orphan(&orphan));
        let running: Vec<String> = self
            .vms
            .iter()
            .filter(|(_, vm)| vm.init.is_some())
            .map(|(n, _)| n.clone())
            .collect();
        for name in running {
            if let Err(e) = self.open_all(&name) {
                error!(vm = name, error = %e, "cannot open a configured disk");
            }
        }
        Ok(())
    }

    /// A device of ours that no living VM's configuration names: a VM that ended with the last labhv, or a detach that
    /// was cut off after its first step.
    fn close_orphan(&mut self, orphan: &LoopState) {
        let vm = self.holder(orphan.number).unwrap_or_default();
        if self.is_unreadable(&vm) {
            error!(
                number = orphan.number,
                vm, "left alone: the VM it belongs to cannot be read"
            );
            return;
        }
        // Before the number can be used again; nobody else's node can have it yet.
        for (name, living) in &self.vms {
            if let Some(Err(e)) = living.init.as_ref().map(|i| i.remove_node(orphan.number)) {
                error!(number = orphan.number, vm = name, error = %e, "cannot take a device from the VM");
                return;
            }
        }
        info!(number = orphan.number, vm, backing = %orphan.backing.display(), "closing a device nobody names");
        self.unbind(orphan.number, &orphan.backing, &vm, CLOSE_LIMIT);
    }
}
