//! Disks of running VMs: open, close, attach, detach.

use std::fs::OpenOptions;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::arbiter::device_label;
use super::disks;
use super::fence::unfinished;
use super::init;
use super::vm::{ConfiguredDisk, Cut, Device, VmFile};
use super::world::World;
use crate::protocol::{self, Answer, Disk, LabError, LabErrorKind};
use crate::sys;

/// How long a detach waits for the device to close. It was ours alone a moment ago.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// A device that closes when its last user goes; until then its disk is held.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(super) number: u32,
    pub(super) extent: PathBuf,
    pub(super) datastore: String,
    pub(super) vm: String,
}

/// A device as the protocol shows it. A fence that is not finished has taken it from the guest already, and a
/// suspended VM has its disks closed.
pub(super) fn shown(device: &Device, vm: &VmFile) -> protocol::Device {
    let there = device.is_open() && device.configured.cut.is_none() && !vm.suspended;
    let unit = device.configured.unit;
    let place = vm.qemu.as_ref().and_then(|qemu| qemu.place(unit));
    protocol::Device {
        disk: device.configured.disk.clone(),
        read_only: device.configured.read_only,
        locator: device.open.filter(|_| there).map(init::locator),
        place: place.filter(|_| there),
        open: there,
        unit,
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
        if !vm.runs() {
            let state = if vm.file.suspended {
                "suspended"
            } else {
                "not powered on"
            };
            return Err(LabError::new(
                LabErrorKind::PoweredOff,
                format!("VM {name} is {state}"),
            ));
        }
        let extent = disks::sound(&self.config, disk)?;
        let store = self.store(&disk.datastore)?;
        let (index, is_new) = match vm.find(&extent).and_then(|i| Some((i, vm.devices.get(i)?))) {
            Some((_, there)) if there.configured.read_only != read_only => {
                return Err(LabError::new(
                    LabErrorKind::Invalid,
                    format!("disk '{disk}' is attached to VM {name} in the other mode"),
                ));
            }
            Some((_, there)) if there.configured.cut == Some(Cut::Fencing) => {
                return Err(LabError::new(
                    LabErrorKind::Busy,
                    format!("disk '{disk}' is being taken from VM {name}"),
                ));
            }
            Some((_, there)) if there.is_open() => {
                return Ok(Answer::Attached {
                    device: shown(there, &vm.file),
                    changed: false,
                });
            }
            // Configured, and closed by an earlier failure or a lost lease.
            Some((index, _)) => (index, false),
            None => {
                let unit = vm.free_unit()?;
                self.free_for(&store, &extent, read_only, None)?;
                (self.configure(name, disk, extent, read_only, unit)?, true)
            }
        };
        if let Err(refused) = self.open(name, index) {
            if is_new {
                self.forget(name, index);
            }
            return Err(refused);
        }
        // Only the hint is new; without it the device is found again all the same.
        if let Err(e) = self.vm(name)?.save_hints() {
            warn!(vm = name, error = %e, "cannot note the device's number");
        }
        self.bump(Some(name));
        let vm = self.vm(name)?;
        let device = vm.devices.get(index).map(|d| shown(d, &vm.file));
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
            cut: None,
            parked: None,
        };
        vm.devices.push(Device {
            configured,
            extent,
            open: None,
            plugged: false,
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

    pub(super) fn save(&self, name: &str) -> Result<(), LabError> {
        let write =
            |e: io::Error| disks::io(format!("cannot write devices.json of VM {name}: {e}"));
        self.vm(name)?.save_devices().map_err(write)
    }

    /// Opens every configured disk of a VM that runs. What was lost stays closed: its guest has seen it fail.
    pub(super) fn open_all(&mut self, name: &str) -> Result<(), LabError> {
        for index in 0..self.vm(name)?.devices.len() {
            let device = self.vm(name)?.devices.get(index);
            if let Some(disk) = device
                .filter(|d| !d.is_open() && d.configured.cut.is_none())
                .map(|d| d.configured.disk.clone())
            {
                disks::sound(&self.config, &disk)?;
                self.open(name, index)?;
            }
        }
        self.save(name)
    }

    /// Locks a configured disk, binds a loop device to it and makes its node in the VM.
    fn open(&mut self, name: &str, index: usize) -> Result<(), LabError> {
        let vm = self.vm(name)?;
        let (Some(device), Some(_)) = (vm.devices.get(index), &vm.init) else {
            return Err(disks::io(format!("VM {name} ended")));
        };
        let (extent, read_only) = (device.extent.clone(), device.configured.read_only);
        let vm_shows_nodes = vm.shows_nodes();
        let datastore = device.configured.disk.datastore.clone();
        let store = self.store(&datastore)?;
        let leased = |e: io::Error| {
            disks::io(format!(
                "cannot keep a lease on datastore '{datastore}': {e}"
            ))
        };
        store.assure().map_err(leased)?;
        self.free_for(&store, &extent, read_only, None)?;
        self.take_lock(name, index)?;
        if !vm_shows_nodes {
            return self.plug_locked(name, index, &store);
        }
        let number = match self.free_of_others(&store, &extent, read_only) {
            Ok(()) => self.bind(name, &extent, read_only),
            Err(refused) => Err(refused),
        };
        let number = match number {
            Ok(number) => number,
            Err(refused) => {
                self.let_go(&datastore, &extent, name);
                return Err(refused);
            }
        };
        // Another host on this machine may have opened it between our look and our bind: then neither keeps it. And
        // what is bound while the lease is being lost may have escaped the cut.
        let ready = self
            .free_for(&store, &extent, read_only, Some(number))
            .and_then(|()| store.assure().map_err(leased))
            .and_then(|()| self.show(name, number));
        if let Err(refused) = ready {
            self.unbind(number, &extent, &datastore, name, CLOSE_LIMIT);
            return Err(refused);
        }
        self.closing.retain(|c| c.number != number);
        if let Some(device) = self.vm_mut(name)?.devices.get_mut(index) {
            device.open = Some(number);
            device.configured.cut = None;
        }
        Ok(())
    }

    fn bind(&self, name: &str, extent: &Path, read_only: bool) -> Result<u32, LabError> {
        let label = device_label(&self.config.host_id.simple().to_string(), name);
        let bind = || {
            let file = OpenOptions::new()
                .read(true)
                .write(!read_only)
                .open(extent)?;
            sys::loop_bind(&file, read_only, &label)
        };
        bind().map_err(|e| disks::io(format!("cannot open '{}': {e}", extent.display())))
    }

    fn show(&self, name: &str, number: u32) -> Result<(), LabError> {
        let init = self.vm(name)?.init.as_ref();
        match init.map(|i| i.add_node(number)) {
            Some(Ok(())) => Ok(()),
            Some(Err(e)) => Err(disks::io(format!(
                "cannot show VM {name} its device loop{number}: {e}"
            ))),
            None => Err(disks::io(format!("VM {name} ended"))),
        }
    }

    /// What the labels of this host's loop devices begin with.
    pub(super) fn label(&self) -> String {
        device_label(&self.config.host_id.simple().to_string(), "")
    }

    pub(super) fn detach(
        &mut self,
        name: &str,
        disk: &Disk,
        force: bool,
    ) -> Result<Answer, LabError> {
        let extent = disks::extent_of(&self.config, disk);
        let vm = self.vm(name)?;
        let Some(index) = vm.find(&extent) else {
            return Ok(Answer::Detached { changed: false });
        };
        let Some(device) = vm.devices.get(index) else {
            return Ok(Answer::Detached { changed: false });
        };
        let half_way = device.configured.cut == Some(Cut::Fencing);
        match device.open {
            _ if device.plugged && vm.file.suspended && !force => return Err(suspended(name)),
            // QEMU asks no guest: every removal is a fence, and the guest has looked whether it uses the disk.
            _ if device.plugged && !half_way => self.fence(name, index)?,
            // Half-way through a fence there is no other way than to its end.
            _ if half_way => self.finish_fence(name, index).map_err(unfinished)?,
            Some(_) if force => self.fence(name, index)?,
            Some(_) if vm.file.suspended => {
                return Err(suspended(name));
            }
            Some(number) => self.hot_remove(name, index, number)?,
            None => {
                self.unconfigure(name, index)?;
            }
        }
        info!(vm = name, %disk, force, "detached");
        self.bump(Some(name));
        Ok(Answer::Detached { changed: true })
    }

    /// Removes an entry and writes the configuration; on failure it stands as before.
    pub(super) fn unconfigure(&mut self, name: &str, index: usize) -> Result<Device, LabError> {
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
        let device = self.vm(name)?.devices.get(index);
        let extent = device.map(|d| d.extent.clone()).unwrap_or_default();
        let claim = match sys::loop_claim(number, &extent, &self.label()) {
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
        if let Some(Err(e)) = claim.as_ref().map(sys::LoopDevice::clear) {
            error!(number, error = %e, "cannot unbind a loop device");
        }
        drop(claim);
        let datastore = device.configured.disk.datastore;
        self.await_gone(number, &device.extent, &datastore, name, CLOSE_LIMIT);
        Ok(())
    }

    /// After power was lost: the kernel takes the file systems down, the device goes with the last of them.
    pub(super) fn close(&mut self, name: &str, index: usize) {
        let device = self
            .vms
            .get_mut(name)
            .and_then(|vm| vm.devices.get_mut(index));
        let Some(device) = device else { return };
        let extent = device.extent.clone();
        let datastore = device.configured.disk.datastore.clone();
        if mem::take(&mut device.plugged) {
            // The files were the process's, and it is gone.
            self.let_go(&datastore, &extent, name);
        } else if let Some(number) = device.open.take() {
            self.unbind(number, &extent, &datastore, name, Duration::ZERO);
        }
    }

    pub(super) fn unbind(
        &mut self,
        number: u32,
        extent: &Path,
        datastore: &str,
        vm: &str,
        limit: Duration,
    ) {
        match sys::loop_open_as(number, extent, &self.label()) {
            Ok(Some(device)) => {
                if let Err(e) = device.clear() {
                    error!(number, vm, error = %e, "cannot unbind a loop device");
                }
            }
            Ok(None) => {}
            Err(e) => error!(number, vm, error = %e, "cannot open a loop device"),
        }
        self.await_gone(number, extent, datastore, vm, limit);
    }

    /// The disk's lock goes with its device; one that was cut off holds nothing.
    fn await_gone(
        &mut self,
        number: u32,
        extent: &Path,
        datastore: &str,
        vm: &str,
        limit: Duration,
    ) {
        if sys::loop_gone(number, extent, Instant::now() + limit).unwrap_or(false) {
            self.let_go(datastore, extent, vm);
        } else {
            self.closing.push(Closing {
                number,
                extent: extent.to_owned(),
                datastore: datastore.to_owned(),
                vm: vm.to_owned(),
            });
        }
    }

    /// Waits for closing devices, together at most `limit`.
    pub(super) fn settle(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut gone = Vec::new();
        let mut open = Vec::new();
        for c in self.closing.drain(..) {
            match sys::loop_gone(c.number, &c.extent, deadline) {
                Ok(true) => gone.push(c),
                _ => open.push(c),
            }
        }
        self.closing = open;
        if !limit.is_zero() {
            for c in &self.closing {
                warn!(
                    number = c.number,
                    vm = c.vm,
                    "a device is still in use; its disk stays locked"
                );
            }
        }
        if !gone.is_empty() {
            self.bump(None);
        }
        for c in gone {
            self.let_go(&c.datastore, &c.extent, &c.vm);
        }
    }
}

fn suspended(name: &str) -> LabError {
    LabError::new(LabErrorKind::Busy, format!("VM {name} is suspended"))
}
