//! VMs that are QEMU processes: where their disks differ from loop devices. Everything else, the configuration, the
//! lock files, power, is as with the other kind.
//!
//! * The mark `fencing` is written before a disk is taken out, ordinarily or by force: whoever finds it, after a crash
//!   anywhere, takes it out again, and the lock is held until QEMU has closed the files.
//! * After a start QEMU is asked what it has. What nobody's configuration names is taken out; what is configured and
//!   not there is plugged. A QEMU that lives and does not answer keeps all that is configured.
//! * Locks of such a VM end with its process, so its datastores have no lapse time: a host that has one refuses.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing::{error, info, warn};
use vdvs_vmdk::{DiskFiles, DiskUuid};

use super::arbiter::locked;
use super::disks;
use super::leases::Store;
use super::vm::{Device, Stamp, Vm};
use super::world::{KILL_LIMIT, World};
use crate::protocol::{LabError, LabErrorKind};
use crate::qemu::{Disk, Machine, QmpError, Use, in_use};

impl World {
    /// Plugs a configured disk whose lock file is written. Refused: the lock file is gone again.
    pub(super) fn plug_locked(
        &mut self,
        name: &str,
        index: usize,
        store: &Arc<Store>,
    ) -> Result<(), LabError> {
        let vm = self.vm(name)?;
        let Some(device) = vm.devices.get(index) else {
            return Err(disks::io("the device went away".to_owned()));
        };
        let extent = device.extent.clone();
        let plugged = self
            .free_of_others(store, &extent, device.configured.read_only)
            .and_then(|()| self.plug(name, device));
        if let Err(refused) = plugged {
            self.let_go(&store.name, &extent, name);
            return Err(refused);
        }
        if let Some(device) = self.vm_mut(name)?.devices.get_mut(index) {
            device.plugged = true;
            device.configured.cut = None;
        }
        Ok(())
    }

    fn plug(&self, name: &str, device: &Device) -> Result<(), LabError> {
        let vm = self.vm(name)?;
        let disk = &device.configured.disk;
        let store = self.store(&disk.datastore)?;
        if store.keeps_leases() {
            return Err(LabError::new(
                LabErrorKind::Invalid,
                format!(
                    "VM {name} is a QEMU process, whose locks end with it: datastore '{}' must not have a lapse time",
                    disk.datastore
                ),
            ));
        }
        let files = disks::locate(&self.config, disk)?;
        let mut machine = vm.machine().map_err(|e| failed(name, &e))?;
        let plugged = machine.plug(&Disk {
            unit: device.configured.unit,
            descriptor: files.descriptor(),
            read_only: device.configured.read_only,
            wwn: wwn(&files),
        });
        plugged.map_err(|e| match e.refusal() {
            // Somebody was quicker than our look.
            Some(text) if text.contains("Failed to get") => {
                let holder = self.machine_with(&device.extent);
                let who = holder.clone().map_or_else(
                    || "another program on this machine".to_owned(),
                    |vm| format!("VM {vm}"),
                );
                locked(holder, &who)
            }
            _ => failed(name, &e),
        })
    }

    /// Takes a disk out of a machine. When this returns well, QEMU has closed its files.
    pub(super) fn unplug(&mut self, name: &str, index: usize) -> Result<(), LabError> {
        let vm = self.vm(name)?;
        let Some(unit) = vm.devices.get(index).map(|d| d.configured.unit) else {
            return Ok(());
        };
        let removed = vm.machine().and_then(|mut machine| machine.unplug(unit));
        removed.map_err(|e| failed(name, &e))?;
        if let Some(device) = self.vm_mut(name)?.devices.get_mut(index) {
            device.plugged = false;
        }
        Ok(())
    }

    /// No QEMU on this machine has the extent open in a way that excludes us.
    pub(super) fn free_of_machines(&self, extent: &Path, read_only: bool) -> Result<(), LabError> {
        let used = in_use(extent).map_err(|e| {
            disks::io(format!(
                "cannot ask for locks on '{}': {e}",
                extent.display()
            ))
        })?;
        if used == Use::Free || (read_only && used == Use::Reads) {
            return Ok(());
        }
        let holder = self.machine_with(extent);
        let who = holder.as_deref().map_or_else(
            || "a QEMU on this machine".to_owned(),
            |vm| format!("VM {vm}"),
        );
        Err(locked(holder, &who))
    }

    /// The machine of this host that has the extent plugged.
    pub(super) fn machine_with(&self, extent: &Path) -> Option<String> {
        let has = |vm: &Vm| vm.devices.iter().any(|d| d.plugged && d.extent == extent);
        self.vms
            .iter()
            .find(|(_, vm)| has(vm))
            .map(|(name, _)| name.clone())
    }

    /// Lets a machine that waits for its disks begin. Nothing to do for others.
    pub(super) fn begin(&self, name: &str) -> Result<(), LabError> {
        let vm = self.vm(name)?;
        if vm.shows_nodes() {
            return Ok(());
        }
        let begun = vm.machine().and_then(|mut machine| machine.begin());
        begun.map_err(|e| failed(name, &e))
    }

    /// Ends a machine that could not be powered on: it may have some of its disks.
    pub(super) fn end_machine(&self, name: &str) {
        let Some(vm) = self.vms.get(name).filter(|vm| !vm.shows_nodes()) else {
            return;
        };
        if let Some(init) = &vm.init
            && let Err(e) = init.kill().and_then(|()| init.wait_end(KILL_LIMIT))
        {
            error!(vm = name, error = %e, "cannot end the machine");
        }
    }

    /// After a start: what the living machines have, and away with what no configuration names.
    pub(super) fn adopt_machines(&mut self) {
        for (name, vm) in &mut self.vms {
            if vm.init.is_none() || vm.shows_nodes() {
                continue;
            }
            if let Err(e) = vm.adopt_plugged(name) {
                warn!(vm = name, error = %e, "the machine does not say what it has");
                for device in &mut vm.devices {
                    device.plugged = true;
                }
            }
        }
    }

    /// The suspension of a machine: its processors stop, its disks close.
    pub(super) fn halt(&mut self, name: &str) -> io::Result<()> {
        let vm = self.vm_mut(name).map_err(io::Error::other)?;
        let units = vm.plugged_units();
        let halted = vm.machine().and_then(|mut machine| machine.halt(&units));
        halted.map_err(io::Error::other)?;
        for device in vm.devices.iter_mut().filter(|d| d.plugged) {
            if device.configured.parked.is_none() {
                device.configured.parked = Some(Stamp::of(&device.extent)?);
            }
        }
        vm.save_devices()
    }
}

impl Vm {
    fn machine(&self) -> Result<Machine<'_>, QmpError> {
        match &self.file.qemu {
            Some(qemu) => Machine::connect(qemu),
            None => Err(QmpError::Unreachable(
                self.file.name.clone().into(),
                io::Error::other("not a QEMU process"),
            )),
        }
    }

    fn plugged_units(&self) -> Vec<u32> {
        let plugged = self.devices.iter().filter(|d| d.plugged);
        plugged.map(|d| d.configured.unit).collect()
    }

    /// The end of a suspension.
    pub(super) fn go_on(&self) -> io::Result<()> {
        let units = self.plugged_units();
        let gone_on = self.machine().and_then(|mut machine| machine.go_on(&units));
        gone_on.map_err(io::Error::other)
    }

    fn adopt_plugged(&mut self, name: &str) -> Result<(), QmpError> {
        let found = self.machine()?.plugged()?;
        for device in &mut self.devices {
            device.plugged = found.contains(&device.configured.unit);
            if device.plugged {
                info!(vm = name, disk = %device.configured.disk, unit = device.configured.unit, "found again");
            }
        }
        let orphans = found
            .into_iter()
            .filter(|unit| self.devices.iter().all(|d| d.configured.unit != *unit));
        for unit in orphans {
            info!(vm = name, unit, "taking out a disk nobody names");
            self.machine()?.unplug(unit)?;
        }
        Ok(())
    }
}

/// A command that was sent and not answered may have happened.
fn failed(vm: &str, error: &QmpError) -> LabError {
    let kind = match error {
        QmpError::NoAnswer { .. } => LabErrorKind::Unfinished,
        QmpError::Unreachable(..) | QmpError::Refused { .. } => LabErrorKind::Io,
    };
    LabError::new(kind, format!("VM {vm}: {error}"))
}

/// The first half of the disk's UUID, which is what QEMU can show the guest of it.
fn wwn(files: &DiskFiles) -> u64 {
    let descriptor = files.read().ok();
    let uuid = descriptor.and_then(|d| DiskUuid::from_ddb(d.ddb("uuid")?));
    let half = uuid.and_then(|uuid| uuid.bytes().first_chunk().copied());
    half.map_or(0, u64::from_be_bytes)
}
