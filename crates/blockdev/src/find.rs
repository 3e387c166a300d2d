//! Finding the disk that the hypervisor just attached.
//!
//! One look is a function of the file system alone ([`look`]); the waiting around it is in [`wait_for`]: subscribe to
//! the kernel's announcements, look, then look again at each announcement and every 20 ms until the deadline.
//!
//! A SCSI disk is found by its whole address: controller by slot, channel 0, target, LUN 0. VMware numbers slots so
//! that the kernel's `/sys/bus/pci/slots/<number>/address` names the controller (the number in `ens192` is the same
//! thing); slots of the root bus, below 32, may have no such entry and are computed. Every path segment is compared
//! whole, and only this disk's own sysfs entries are read.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::libc::O_NONBLOCK;
use nix::sys::stat::{major, minor};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::DeviceError;
use crate::uevent::Listener;
use crate::{Device, Locator, Wanted};

/// Announcements can be missing (containers); a look costs some 50 µs.
const POLL: Duration = Duration::from_millis(20);
/// How long one look may take beyond the deadline.
const LOOK: Duration = Duration::from_secs(1);
/// A device of the wrong size or UUID may still be settling, but not for longer.
const SETTLE: Duration = Duration::from_secs(2);

/// Where the kernel shows devices; tests point it at a made-up tree.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    pub(crate) sys: PathBuf,
    pub(crate) dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            dev: "/dev".into(),
        }
    }
}

/// What one look saw.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Found(Device),
    /// A disk is there that is not the wanted one (yet).
    Wrong {
        path: PathBuf,
        why: String,
    },
    Nothing,
}

/// Looks until the disk is there or the deadline has passed.
pub(crate) async fn wait_for(
    roots: &Roots,
    wanted: &Wanted,
    deadline: Instant,
) -> Result<Device, DeviceError> {
    let started = Instant::now();
    // Before the first look, so that nothing falls between.
    let mut listener = Listener::open()
        .inspect_err(|error| tracing::debug!(%error, "no kernel announcements; polling alone"))
        .ok();
    let mut wrong_since: Option<Instant> = None;
    loop {
        let (roots, copy) = (roots.clone(), wanted.clone());
        let looking = spawn_blocking(move || look(&roots, &copy));
        // The last look, at the deadline, gets its time too.
        let patience = deadline.max(Instant::now() + LOOK);
        let seen = match timeout_at(patience, looking).await {
            Ok(Ok(seen)) => seen,
            // The kernel is stuck on this device, or the look was cancelled with the runtime.
            Ok(Err(_)) | Err(_) => Look::Nothing,
        };
        let now = Instant::now();
        match seen {
            Look::Found(device) => return Ok(device),
            Look::Wrong { path, why } => {
                let since = *wrong_since.get_or_insert(now);
                if now >= deadline || now.duration_since(since) >= SETTLE {
                    return Err(DeviceError::WrongDevice { path, why });
                }
            }
            Look::Nothing if now >= deadline => {
                return Err(DeviceError::NotFound {
                    place: place(&wanted.locator),
                    waited: now.duration_since(started),
                });
            }
            Look::Nothing => wrong_since = None,
        }
        wait_a_little(&mut listener, deadline).await;
    }
}

async fn wait_a_little(listener: &mut Option<Listener>, deadline: Instant) {
    let pause = sleep(POLL.min(deadline.duration_since(Instant::now())));
    let Some(announcements) = listener.as_ref() else {
        return pause.await;
    };
    let failed = tokio::select! {
        heard = announcements.disk_may_have_come() => heard.is_err(),
        () = pause => false,
    };
    if failed {
        *listener = None;
    }
}

fn place(locator: &Locator) -> String {
    match locator {
        Locator::Scsi { pci_slot, target } => {
            format!("SCSI controller in slot {pci_slot}, target {target}")
        }
        Locator::Path(path) => path.display().to_string(),
    }
}

/// One look, no waiting.
pub(crate) fn look(roots: &Roots, wanted: &Wanted) -> Look {
    let (node, sysfs) = match &wanted.locator {
        Locator::Path(path) => (path.clone(), None),
        Locator::Scsi { pci_slot, target } => match scsi_disk(&roots.sys, *pci_slot, *target) {
            Some((name, sysfs)) => (roots.dev.join(name), Some(sysfs)),
            None => return Look::Nothing,
        },
    };
    let wrong = |why: String| Look::Wrong {
        path: node.clone(),
        why,
    };
    let Ok(meta) = fs::metadata(&node) else {
        return Look::Nothing;
    };
    if !meta.file_type().is_block_device() {
        return wrong("it is not a block device".to_owned());
    }
    let Some(major_minor) = device_number(meta.rdev()) else {
        return wrong("its number is out of range".to_owned());
    };
    if let Some(sysfs) = &sysfs {
        let expected = fs::read_to_string(sysfs.join("dev")).unwrap_or_default();
        if expected.trim() != format!("{}:{}", major_minor.0, major_minor.1) {
            return wrong(format!("its node does not have number {}", expected.trim()));
        }
        let shown = fs::read_to_string(sysfs.join("device/wwid")).ok();
        if let Some(why) = uuid_differs(wanted.disk_uuid.as_deref(), shown.as_deref()) {
            return wrong(why);
        }
    }
    match size_of(&node) {
        Some(size) if size == wanted.size.bytes() => Look::Found(Device {
            path: node,
            major_minor,
        }),
        Some(size) => wrong(format!(
            "it has {size} bytes, expected {}",
            wanted.size.bytes()
        )),
        None => Look::Nothing,
    }
}

/// Splits a device number as the kernel packs it.
pub(crate) fn device_number(rdev: u64) -> Option<(u32, u32)> {
    Some((
        u32::try_from(major(rdev)).ok()?,
        u32::try_from(minor(rdev)).ok()?,
    ))
}

/// Where a block device ends. Seeking asks the kernel for the same number as the size ioctl does.
pub(crate) fn end_of(file: &mut File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

fn size_of(node: &Path) -> Option<u64> {
    let mut file = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(node)
        .ok()?;
    end_of(&mut file).ok()
}

/// Name and sysfs folder of the disk at this address.
fn scsi_disk(sys: &Path, pci_slot: u32, target: u8) -> Option<(String, PathBuf)> {
    let controller = sys
        .join("bus/pci/devices")
        .join(controller_address(sys, pci_slot)?);
    for host in names(&controller) {
        let Some(number) = host.strip_prefix("host").filter(|n| is_number(n)) else {
            continue;
        };
        let disk = controller
            .join(&host)
            .join(format!("target{number}:0:{target}"))
            .join(format!("{number}:0:{target}:0/block"));
        if let [name] = names(&disk).as_slice() {
            return Some((name.clone(), disk.join(name)));
        }
    }
    None
}

/// `0000:0b:00.0` for the slot number in the VM's configuration.
fn controller_address(sys: &Path, pci_slot: u32) -> Option<String> {
    let entry = sys.join(format!("bus/pci/slots/{pci_slot}/address"));
    if let Ok(address) = fs::read_to_string(entry) {
        let address = address.trim();
        let ok = !address.is_empty()
            && address
                .bytes()
                .all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
        // The kernel leaves the function out; a controller is function 0 of its slot.
        return ok.then(|| {
            if address.contains('.') {
                address.to_owned()
            } else {
                format!("{address}.0")
            }
        });
    }
    (pci_slot < 32).then(|| format!("0000:00:{pci_slot:02x}.0"))
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Compares the hexadecimal digits only: the hypervisor writes `6000C29a-…`, the kernel `naa.6000c29a…`.
/// Says why they differ, or nothing when either side has no UUID to compare.
fn uuid_differs(wanted: Option<&str>, shown: Option<&str>) -> Option<String> {
    let digits = |text: &str| -> String {
        text.chars()
            .filter(char::is_ascii_hexdigit)
            .map(|c| c.to_ascii_lowercase())
            .collect()
    };
    let wanted = digits(wanted?);
    let shown = digits(shown?.trim().strip_prefix("naa.")?);
    // Without disk.EnableUUID the kernel shows an identifier of another kind or none.
    let comparable = wanted.len() == 32 && shown.len() == 32;
    (comparable && wanted != shown).then(|| format!("its UUID is {shown}, expected {wanted}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use vdvs_domain::Capacity;

    use super::*;

    fn tree() -> (tempfile::TempDir, Roots) {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots {
            sys: dir.path().join("sys"),
            dev: dir.path().join("dev"),
        };
        fs::create_dir_all(&roots.dev).unwrap();
        (dir, roots)
    }

    fn add_disk(roots: &Roots, address: &str, host: u32, target: u8, name: &str) -> PathBuf {
        let disk = roots.sys.join(format!(
            "bus/pci/devices/{address}/host{host}/target{host}:0:{target}/{host}:0:{target}:0/block/{name}"
        ));
        fs::create_dir_all(&disk).unwrap();
        disk
    }

    #[test]
    fn a_disk_is_found_by_its_whole_address() {
        let (_dir, roots) = tree();
        let slot = roots.sys.join("bus/pci/slots/192");
        fs::create_dir_all(&slot).unwrap();
        fs::write(slot.join("address"), "0000:0b:00\n").unwrap();
        add_disk(&roots, "0000:0b:00.0", 33, 1, "sdb");
        add_disk(&roots, "0000:0b:00.0", 33, 11, "sdc");
        add_disk(&roots, "0000:03:00.0", 3, 1, "sdx");
        let found = |target| scsi_disk(&roots.sys, 192, target).map(|(name, _)| name);
        assert_eq!(found(1).as_deref(), Some("sdb"));
        assert_eq!(found(11).as_deref(), Some("sdc"));
        assert_eq!(found(111), None);
        assert_eq!(scsi_disk(&roots.sys, 160, 1), None);
    }

    #[test]
    fn a_controller_on_the_root_bus_needs_no_slot_entry() {
        let (_dir, roots) = tree();
        add_disk(&roots, "0000:00:10.0", 2, 0, "sda");
        let (name, _) = scsi_disk(&roots.sys, 16, 0).unwrap();
        assert_eq!(name, "sda");
    }

    #[test]
    fn another_disks_uuid_is_refused_and_an_unknown_one_is_not_evidence() {
        let ours = "6000C29a-1234-5678-9abc-def012345678";
        assert_eq!(
            uuid_differs(Some(ours), Some("naa.6000c29a123456789abcdef012345678\n")),
            None
        );
        assert!(uuid_differs(Some(ours), Some("naa.6000c29a12345678ffffffffffffffff")).is_some());
        assert_eq!(uuid_differs(Some(ours), Some("t10.VMware  Virtual")), None);
        assert_eq!(uuid_differs(Some(ours), None), None);
        assert_eq!(uuid_differs(None, Some("naa.1")), None);
    }

    #[test]
    fn a_file_in_the_place_of_a_node_is_no_disk() {
        let (_dir, roots) = tree();
        let path = roots.dev.join("sdb");
        fs::write(&path, "x").unwrap();
        let link = roots.dev.join("link");
        symlink(&path, &link).unwrap();
        let wanted = |path| Wanted {
            locator: Locator::Path(path),
            size: Capacity::DEFAULT,
            disk_uuid: None,
        };
        assert!(matches!(look(&roots, &wanted(path)), Look::Wrong { .. }));
        assert!(matches!(look(&roots, &wanted(link)), Look::Wrong { .. }));
        assert_eq!(look(&roots, &wanted(roots.dev.join("none"))), Look::Nothing);
    }

    #[tokio::test]
    async fn a_disk_that_never_comes_is_named_at_the_deadline() {
        let (_dir, roots) = tree();
        let wanted = Wanted {
            locator: Locator::Scsi {
                pci_slot: 192,
                target: 3,
            },
            size: Capacity::DEFAULT,
            disk_uuid: None,
        };
        let deadline = Instant::now() + Duration::from_millis(60);
        let error = wait_for(&roots, &wanted, deadline).await.unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("Device not found"), "{text}");
        assert!(text.contains("slot 192, target 3"), "{text}");
    }
}
