//! Taking a disk from a VM that uses it.
//!
//! ```text
//!   entry marked ─► capacity zero ─► node away ─► drained, extent at its length ─► entry away ─► lock away ─► answer
//!   `fencing`       (flushes first)                                                              unbound at last close
//! ```
//!
//! * The mark is written before the first step. Whoever finds it, after a crash anywhere, goes through all steps again;
//!   nothing ever goes back. The lock is held until the last byte is known to be the last.
//! * What the guest flushed is in the extent: the ioctl writes out what the device had accepted.
//! * The guest still has the file system mounted, on a device that fails every request. Such a device holds no lock
//!   and stays until the guest lets go of it.
//!
//! A lost lease ends the same way, but for the entry: the VM keeps the disk in its configuration, closed.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::disks;
use super::vm::{Cut, Device, Vm};
use super::world::World;
use crate::protocol::{Disk, LabError, LabErrorKind};
use crate::sys::{self, LoopDevice};

/// How long requests that are under way may take: an idle disk milliseconds, a busy one a second.
const DRAIN: Duration = Duration::from_secs(20);

impl World {
    /// Takes an open disk from a VM.
    pub(super) fn fence(&mut self, name: &str, index: usize) -> Result<(), LabError> {
        self.mark(name, index, Some(Cut::Fencing))?;
        let finished = self.finish_fence(name, index);
        if finished.is_err() && self.still_open(name, index) {
            // Nothing has happened to the guest yet.
            self.mark(name, index, None)?;
            return finished;
        }
        finished.map_err(unfinished)
    }

    fn mark(&mut self, name: &str, index: usize, cut: Option<Cut>) -> Result<(), LabError> {
        let set = |world: &mut Self, cut| {
            let vm = world.vm_mut(name)?;
            if let Some(device) = vm.devices.get_mut(index) {
                device.configured.cut = cut;
            }
            Ok(())
        };
        let before = self
            .vm(name)?
            .devices
            .get(index)
            .and_then(|d| d.configured.cut);
        set(self, cut)?;
        let saved = self.save(name);
        if saved.is_err() {
            set(self, before)?;
        }
        saved
    }

    fn still_open(&self, name: &str, index: usize) -> bool {
        let device = self.vms.get(name).and_then(|vm| vm.devices.get(index));
        let number = device.and_then(|d| d.open);
        device.is_some_and(|d| d.plugged)
            || number.is_some_and(|n| !matches!(sys::loop_state(n), Ok(Some(s)) if s.is_cut()))
    }

    /// All steps after the mark. Each may have happened before.
    pub(super) fn finish_fence(&mut self, name: &str, index: usize) -> Result<(), LabError> {
        let begun = Instant::now();
        let label = self.label();
        if self.vm(name)?.devices.get(index).is_some_and(|d| d.plugged) {
            self.unplug(name, index)?;
        }
        let vm = self.vm(name)?;
        let Some(device) = vm.devices.get(index) else {
            return Ok(());
        };
        let (disk, extent) = (device.configured.disk.clone(), device.extent.clone());
        let failed = |e: io::Error| disks::io(format!("cannot fence disk '{disk}': {e}"));
        let mut cut = None;
        if let Some(number) = device.open {
            cut = sys::loop_open_as(number, &extent, &label).map_err(failed)?;
            if let Some(device) = &cut {
                device.cut().map_err(failed)?;
            }
            let removed = vm.init.as_ref().map(|i| i.remove_node(number));
            removed.unwrap_or(Ok(())).map_err(failed)?;
            if let Some(device) = &cut {
                drain(device).map_err(failed)?;
            }
        }
        self.trim(&disk, &extent).map_err(failed)?;
        let device = self.unconfigure(name, index)?;
        self.let_go(&disk.datastore, &device.extent, name);
        if let Some(Err(e)) = cut.as_ref().map(LoopDevice::clear) {
            error!(number = device.open, error = %e, "cannot mark a loop device for removal");
        }
        info!(vm = name, %disk, number = device.open, took = ?begun.elapsed(), "fenced");
        Ok(())
    }

    /// Cuts the extent back to its disk's size, should a late request have landed behind its end.
    fn trim(&self, disk: &Disk, extent: &Path) -> io::Result<()> {
        let files = match disks::locate(&self.config, disk) {
            Ok(files) => files,
            // Whoever opens it next looks at its length.
            Err(e) => {
                warn!(%disk, error = %e, "cannot look at an extent's length");
                return Ok(());
            }
        };
        let size = files.stat().map_err(io::Error::other)?.capacity.bytes();
        let file = OpenOptions::new().write(true).open(extent)?;
        if file.metadata()?.len() > size {
            info!(%disk, "requests behind the extent's end");
            file.set_len(size)?;
        }
        Ok(())
    }

    /// Finishes fences that were ordered and not finished.
    pub(super) fn finish_fences(&mut self) {
        for (name, index) in self.marked(|_, d| d.configured.cut == Some(Cut::Fencing)) {
            match self.finish_fence(&name, index) {
                Ok(()) => self.bump(Some(&name)),
                Err(e) => warn!(vm = name, error = %e, "a fence is not finished"),
            }
        }
    }

    /// After a lease was lost: what the guard cut off is closed here too; when nothing is open any more, the host may
    /// begin anew.
    pub(super) fn notice_losses(&mut self) {
        for store in self.leases.clone().stores().iter().filter(|s| s.is_lost()) {
            // A suspended VM has closed its disks itself.
            let open = |vm: &Vm, d: &Device| {
                d.configured.disk.datastore == store.name
                    && d.configured.cut.is_none()
                    && d.open.is_some()
                    && !vm.file.suspended
            };
            for (name, index) in self.marked(open) {
                self.lose(&name, index);
            }
            if self.marked(open).is_empty() {
                self.settle(Duration::ZERO);
                store.may_rejoin(self.locks_in_use(store));
            }
        }
    }

    /// Closes a disk that was cut off; one that was not is left as it is.
    pub(super) fn lose(&mut self, name: &str, index: usize) {
        let device = self.vms.get(name).and_then(|vm| vm.devices.get(index));
        let Some((number, extent)) = device.and_then(|d| Some((d.open?, d.extent.clone()))) else {
            return;
        };
        if self.still_open(name, index) {
            // The guard is about to.
            return;
        }
        if let Err(e) = self.mark(name, index, Some(Cut::Lost)) {
            error!(vm = name, error = %e, "cannot note that a disk is lost");
            return;
        }
        let Some(vm) = self.vms.get_mut(name) else {
            return;
        };
        if let Some(Err(e)) = vm.init.as_ref().map(|i| i.remove_node(number)) {
            warn!(vm = name, number, error = %e, "cannot take a device from the VM");
        }
        if let Some(device) = vm.devices.get_mut(index) {
            device.open = None;
        }
        match sys::loop_open_as(number, &extent, &self.label()) {
            Ok(Some(device)) => {
                if let Err(e) = device.clear() {
                    warn!(number, error = %e, "cannot mark a loop device for removal");
                }
            }
            Ok(None) => {}
            Err(e) => warn!(number, error = %e, "cannot open a loop device"),
        }
        info!(vm = name, number, "a disk is lost to the VM");
        self.bump(Some(name));
    }

    /// Places of devices, last first: taking one out moves those after it.
    fn marked(&self, which: impl Fn(&Vm, &Device) -> bool) -> Vec<(String, usize)> {
        let mut found = Vec::new();
        for (name, vm) in &self.vms {
            for (index, device) in vm.devices.iter().enumerate().rev() {
                if which(vm, device) {
                    found.push((name.clone(), index));
                }
            }
        }
        found
    }
}

/// The guest has lost its disk, and the lock is still held.
pub(super) fn unfinished(e: LabError) -> LabError {
    LabError::new(LabErrorKind::Unfinished, e.text)
}

/// Waits for what is under way, also for what had passed the check of the capacity before it was zero.
fn drain(device: &LoopDevice) -> io::Result<()> {
    let deadline = Instant::now() + DRAIN;
    for _ in 0..2 {
        if !device.drained(deadline)? {
            return Err(io::Error::other("requests are still under way"));
        }
        device.cut()?;
    }
    Ok(())
}
