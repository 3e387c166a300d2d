//! Suspending a VM: on ESXi its memory goes to a file and its disks close; here its processes stop, its file systems
//! are held still, and its devices lose their capacity until it is resumed.
//!
//! ```text
//!   suspend: vmx names a saved state ─► vm.json ─► processes stop ─► file systems frozen ─► capacity zero ─► locks away
//!   resume:  disks unchanged and locked again ─► capacity back ─► file systems thaw ─► processes go on ─► vm.json ─► vmx
//! ```
//!
//! * Between the two the lock reads *free*, as on ESXi: whoever asks the datastore alone could take the disk. What keeps
//!   the volume is the configuration file, which names a saved state before the first lock goes and until the last step
//!   of the resume.
//! * A device without capacity cannot write, whatever the guest's kernel would still like to flush. Freezing has written
//!   out everything before, so there is nothing, and background work of the file system waits.
//! * In doubt a VM is suspended: labhv killed at any step suspends it again at its next start.
//! * A disk that somebody wrote in between is not given back: the guest's memory would not fit it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{File, create_dir_all, read_to_string};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::from_utf8;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::major;
use tracing::{error, info, warn};

use super::disks;
use super::processes;
use super::vm::{Cut, Stamp, Vm};
use super::world::World;
use crate::protocol::{Answer, LabError, LabErrorKind};
use crate::sys;

/// Requests under way when the file systems are frozen already: none, but for those of programs that use the device
/// itself.
const DRAIN: Duration = Duration::from_secs(5);

impl World {
    pub(super) fn suspend(&mut self, name: &str) -> Result<Answer, LabError> {
        let vm = self.vm(name)?;
        let Some(init) = vm.init.as_ref().map(|i| i.id.pid) else {
            return Err(LabError::new(
                LabErrorKind::PoweredOff,
                format!("VM {name} is not powered on"),
            ));
        };
        if vm.file.suspended {
            return Ok(Answer::Suspended);
        }
        let failed =
            |what: &str, e: io::Error| disks::io(format!("cannot {what} of VM {name}: {e}"));
        self.write_vmx(name, true)
            .map_err(|e| failed("write the configuration file", e))?;
        self.vm_mut(name)?
            .save_suspended(true)
            .map_err(|e| failed("write vm.json", e))?;
        if let Err(e) = self.hold_still(name, init) {
            warn!(vm = name, error = %e, "cannot suspend");
            let undone = self.release(name, init);
            undone.map_err(|u| failed("undo the suspension", u))?;
            return Err(failed("stop all", e));
        }
        self.let_all_go(name);
        info!(vm = name, "suspended");
        self.bump(Some(name));
        Ok(Answer::Suspended)
    }

    /// Completes the suspension that an earlier labhv began, or had not quite ended.
    pub(super) fn suspend_again(&mut self, name: &str) {
        let Some(init) = self
            .vms
            .get(name)
            .and_then(|vm| Some(vm.init.as_ref()?.id.pid))
        else {
            return;
        };
        let held = self
            .write_vmx(name, true)
            .and_then(|()| self.hold_still(name, init));
        match held {
            Ok(()) => {
                self.let_all_go(name);
                info!(vm = name, "is suspended");
            }
            Err(e) => error!(vm = name, error = %e, "cannot suspend again"),
        }
    }

    /// Stops the processes, then the file systems, then the devices.
    fn hold_still(&mut self, name: &str, init: i32) -> io::Result<()> {
        if !self.vm(name).map_err(io::Error::other)?.shows_nodes() {
            return self.halt(name);
        }
        processes::stop(init)?;
        let label = self.label();
        let vm = self.vm_mut(name).map_err(io::Error::other)?;
        let open: BTreeSet<u32> = vm.devices.iter().filter_map(|d| d.open).collect();
        vm.frozen = file_systems(init, &open)?;
        for file in &vm.frozen {
            sys::freeze(file)?;
        }
        for device in &mut vm.devices {
            let Some(number) = device.open else { continue };
            let Some(held) = sys::loop_open_as(number, &device.extent, &label)? else {
                continue;
            };
            let there = sys::loop_state(number)?;
            if there.is_some_and(|s| s.is_cut()) && device.configured.parked.is_some() {
                // By an earlier labhv; what was there then is what counts.
                continue;
            }
            held.cut()?;
            held.drained(Instant::now() + DRAIN)?;
            device.configured.parked = Some(Stamp::of(&device.extent)?);
        }
        vm.save_devices()
    }

    fn let_all_go(&self, name: &str) {
        let Ok(vm) = self.vm(name) else { return };
        for device in &vm.devices {
            self.let_go(&device.configured.disk.datastore, &device.extent, name);
        }
    }

    pub(super) fn resume(&mut self, name: &str) -> Result<Answer, LabError> {
        let vm = self.vm(name)?;
        let Some(init) = vm.init.as_ref().map(|i| i.id.pid) else {
            return Err(LabError::new(
                LabErrorKind::PoweredOff,
                format!("VM {name} is not powered on"),
            ));
        };
        if !vm.file.suspended {
            return Ok(Answer::Resumed);
        }
        if let Err(refused) = self.lock_parked(name) {
            self.let_all_go(name);
            return Err(refused);
        }
        if let Err(e) = self.release(name, init) {
            // As suspended as before: what was given back is taken again.
            self.suspend_again(name);
            return Err(disks::io(format!("cannot resume VM {name}: {e}")));
        }
        info!(vm = name, "resumed");
        self.bump(Some(name));
        Ok(Answer::Resumed)
    }

    /// Locks what was open when the VM was suspended, if it is as it was.
    fn lock_parked(&self, name: &str) -> Result<(), LabError> {
        let vm = self.vm(name)?;
        for (index, device) in vm.devices.iter().enumerate() {
            let configured = &device.configured;
            if !device.is_open() || configured.cut.is_some() {
                continue;
            }
            let store = self.store(&configured.disk.datastore)?;
            let unusable = |e: io::Error| disks::io(format!("disk '{}': {e}", configured.disk));
            store.assure().map_err(unusable)?;
            let read_only = configured.read_only;
            self.free_for(&store, &device.extent, read_only, None)?;
            self.take_lock(name, index)?;
            self.free_for(&store, &device.extent, read_only, None)?;
            if configured.parked != Some(Stamp::of(&device.extent).map_err(unusable)?) {
                return Err(LabError::new(
                    LabErrorKind::Invalid,
                    format!(
                        "disk '{}' was written while VM {name} was suspended: power the VM off",
                        configured.disk
                    ),
                ));
            }
        }
        Ok(())
    }

    /// Gives everything back and lets the processes go on.
    fn release(&mut self, name: &str, init: i32) -> io::Result<()> {
        let label = self.label();
        let vm = self.vm_mut(name).map_err(io::Error::other)?;
        for device in &vm.devices {
            if device.configured.cut == Some(Cut::Fencing) {
                continue;
            }
            if let Some(number) = device.open
                && device.configured.parked.is_some()
                && let Some(held) = sys::loop_open_as(number, &device.extent, &label)?
            {
                held.mend()?;
            }
        }
        vm.thaw();
        if vm.shows_nodes() {
            processes::go_on(init)?;
        } else {
            vm.go_on()?;
        }
        for device in &mut vm.devices {
            device.configured.parked = None;
        }
        vm.save_devices()?;
        vm.save_suspended(false)?;
        self.write_vmx(name, false)
    }
}

impl Vm {
    /// Lets file systems that are held still go on.
    pub(super) fn thaw(&mut self) {
        for file in self.frozen.drain(..) {
            if let Err(e) = sys::thaw(&file) {
                warn!(vm = self.file.name, error = %e, "cannot thaw a file system");
            }
        }
    }
}

/// Lets a file system go on that was held still for a VM that died while nobody watched. It has no mount any more and
/// would keep its device for ever; whoever mounts the device gets that very file system.
pub(super) fn thaw_left_behind(number: u32, place: &Path) -> io::Result<()> {
    create_dir_all(place)?;
    let device = PathBuf::from(format!("/dev/loop{number}"));
    // Without capacity the device cannot be mounted anew: what succeeds is what was there.
    for kind in ["ext4", "xfs"] {
        if mount(
            Some(&device),
            place,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        )
        .is_err()
        {
            continue;
        }
        let thawed = File::open(place).and_then(|file| sys::thaw(&file));
        umount2(place, MntFlags::MNT_DETACH)?;
        return thawed;
    }
    Ok(())
}

/// Every file system on these devices that any process of the VM sees mounted, opened once.
fn file_systems(init: i32, devices: &BTreeSet<u32>) -> io::Result<Vec<File>> {
    let mut found: BTreeMap<u32, File> = BTreeMap::new();
    for pid in processes::ids(init)? {
        let Ok(mounts) = read_to_string(format!("/proc/{pid}/mountinfo")) else {
            continue;
        };
        for (number, place) in mounts.lines().filter_map(mounted) {
            if !devices.contains(&number) || found.contains_key(&number) {
                continue;
            }
            let path = PathBuf::from(format!("/proc/{pid}/root")).join(&place);
            let Ok(file) = File::open(&path) else {
                continue;
            };
            // Something else may be mounted over it. (A btrfs file has a device number that is nobody's.)
            let dev = file.metadata()?.dev();
            if dev == sys::loop_rdev(number) || major(dev) == 0 {
                found.insert(number, file);
            }
        }
    }
    let held: Vec<u32> = found.keys().copied().collect();
    if !held.is_empty() {
        info!(?held, "file systems to hold still");
    }
    Ok(found.into_values().collect())
}

/// The loop device and the place of a mount, relative to the root: field 3 or the source, and field 5 of mountinfo.
fn mounted(line: &str) -> Option<(u32, PathBuf)> {
    let (head, tail) = line.split_once(" - ")?;
    let mut fields = head.split(' ').skip(2);
    let (dev, place) = (fields.next()?, fields.nth(1)?);
    let source = tail.split(' ').nth(1)?;
    let number = dev
        .strip_prefix("7:")
        .or_else(|| source.strip_prefix("/dev/loop"))?;
    let place = unescape(place.trim_start_matches('/'));
    Some((number.parse().ok()?, place))
}

/// Undoes mountinfo's `\040` and the like.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|c| from_utf8(c).ok());
        let code = code.and_then(|c| u8::from_str_radix(c, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_loop_devices_are_found_by_number_or_source() {
        let ext4 = "812 790 7:3 / /mnt/vdvs/a\\040b rw,relatime shared:9 - ext4 /dev/loop3 rw";
        assert_eq!(mounted(ext4), Some((3, PathBuf::from("mnt/vdvs/a b"))));
        let btrfs = "813 790 0:61 / /mnt/vdvs/c rw - btrfs /dev/loop12 rw,space_cache=v2";
        assert_eq!(mounted(btrfs), Some((12, PathBuf::from("mnt/vdvs/c"))));
        assert_eq!(mounted("814 790 0:5 / /proc rw - proc proc rw"), None);
        assert_eq!(mounted("rubbish"), None);
    }
}
