//! mount(2) and umount(2).
//!
//! Every mount is `nodev`: device nodes in a volume would have been made by whoever owned it before. Programs with the
//! set-user-id bit keep working, because images put them into volumes.
//!
//! | type | option | why |
//! |---|---|---|
//! | ext2, 3, 4 | `errors=remount-ro` | the built-in default goes on writing after the file system is known to be broken |
//! | ext4 | `noinit_itable` | zeroing inode tables in the background would fill a thin disk with zeros over zeros |
//! | xfs | `nouuid` | clones of the original carry their source's UUID and must be usable beside it; that one device is not mounted twice is ensured by the kernel's exclusive open |
//!
//! btrfs has no such option: two file systems of one UUID would be taken for one. Clones get a new UUID there.
//! What a volume's own `mount-options` say is put behind these. Which of them are harmless was decided when the volume
//! was created; here they are only told apart: some are flags of mount(2), the others are texts for the file system.
//! Journals are replayed by the kernel. A read-only disk whose journal is not empty cannot be mounted, and is not
//! mounted without replay either, since it might show half a transaction.

use std::borrow::Cow;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as sys_mount, umount2};
use vdvs_domain::FsType;

use crate::error::{DeviceError, Os};
use crate::mountinfo::{self, MountEntry};
use crate::{Device, MountOptions};

const READ_ONLY_HINT: &str =
    " (a read-only disk whose journal must be replayed first: mount the volume for writing once)";

/// Options of the kernel itself, for every file system.
const FLAGS: [(&str, MsFlags); 10] = [
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME),
    ("lazytime", MsFlags::MS_LAZYTIME),
    ("nodev", MsFlags::MS_NODEV),
    ("nosuid", MsFlags::MS_NOSUID),
    ("noexec", MsFlags::MS_NOEXEC),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC),
];

/// What mount(2) is given: flags, and the text for the file system.
pub(crate) fn arguments(fs: &FsType, options: &MountOptions) -> (MsFlags, String) {
    let mut flags = MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, options.read_only);
    let mut texts = vec![own_options(fs)];
    for option in &options.extra {
        match FLAGS.iter().find(|(name, _)| name == option) {
            Some((_, flag)) => flags |= *flag,
            None => texts.push(option),
        }
    }
    texts.retain(|text| !text.is_empty());
    (flags, texts.join(","))
}

/// Options for this type. See the module's table.
fn own_options(fs: &FsType) -> &'static str {
    match fs.as_str() {
        "ext2" | "ext3" => "errors=remount-ro",
        "ext4" => "errors=remount-ro,noinit_itable",
        "xfs" => "nouuid",
        _ => "",
    }
}

/// Reads the table of this process's mount namespace.
pub(crate) fn table() -> Result<Vec<MountEntry>, DeviceError> {
    let bytes = fs::read("/proc/self/mountinfo")
        .map_err(|error| DeviceError::MountTable(error.to_string()))?;
    mountinfo::parse(&bytes).map_err(DeviceError::MountTable)
}

/// Whether this device is mounted there already, and in this way.
pub(crate) fn is_mounted(device: &Device, at: &Path, read_only: bool) -> Result<bool, DeviceError> {
    let table = table()?;
    let Some(entry) = mountinfo::topmost(&table, at) else {
        return Ok(false);
    };
    if entry.is_of(&device.path, device.major_minor) && entry.read_only() == read_only {
        return Ok(true);
    }
    Err(DeviceError::Occupied {
        device: device.path.clone(),
        at: at.to_owned(),
        found: format!("{} ({})", entry.source.display(), entry.options),
    })
}

/// Mounts; already mounted there is success.
pub(crate) fn mount(
    device: &Device,
    fs: &FsType,
    at: &Path,
    options: &MountOptions,
) -> Result<(), DeviceError> {
    make_mount_point(at)?;
    if is_mounted(device, at, options.read_only)? {
        return Ok(());
    }
    let (flags, data) = arguments(fs, options);
    let call = || {
        let data = (!data.is_empty()).then_some(data.as_str());
        sys_mount(Some(&device.path), at, Some(fs.as_str()), flags, data)
    };
    patiently(call, |result| *result == Err(Errno::EBUSY)).map_err(|errno| DeviceError::Mount {
        device: device.path.clone(),
        at: at.to_owned(),
        os: Os(errno),
        hint: hint(errno, fs, options),
    })
}

/// What to do about an error, when we know.
fn hint(errno: Errno, fs: &FsType, options: &MountOptions) -> Cow<'static, str> {
    match errno {
        Errno::EROFS | Errno::EACCES if options.read_only => READ_ONLY_HINT.into(),
        Errno::EINVAL if !options.extra.is_empty() => format!(
            " (with the volume's mount options {}; this VM's kernel log says which one {fs} does not take)",
            options.extra.join(",")
        )
        .into(),
        Errno::EUCLEAN => format!(
            " (the {fs} on the disk is damaged; nothing was changed. Restore the disk from a backup, or repair it by hand)"
        )
        .into(),
        Errno::ENODEV => format!(" (the kernel of this VM does not know {fs})").into(),
        _ => "".into(),
    }
}

fn make_mount_point(at: &Path) -> Result<(), DeviceError> {
    match fs::create_dir_all(at) {
        Ok(()) => Ok(()),
        // A lost device mounted here cannot even be looked at; mount(2) will say so better.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(DeviceError::NotADirectory(at.to_owned()))
        }
        Err(error) => Err(DeviceError::Io {
            doing: "making mount point",
            path: at.to_owned(),
            os: error.into(),
        }),
    }
}

/// Unmounts one mount and removes the mount point if it is then empty.
pub(crate) fn unmount(at: &Path, lazy: bool) -> Result<(), DeviceError> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, lazy);
    let result = patiently(|| umount2(at, flags), |result| *result == Err(Errno::EBUSY));
    match result {
        // EINVAL: not a mount point. Detach must work from what is observable, so both count as done.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => {
            return Err(DeviceError::Unmount {
                at: at.to_owned(),
                os: Os(errno),
            });
        }
    }
    // Never removes anything but an empty folder; what is not empty or busy stays, and that harms nobody.
    if let Err(error) = fs::remove_dir(at) {
        tracing::debug!(at = %at.display(), %error, "mount point stays");
    }
    Ok(())
}

/// How long *busy* is doubted. A program started meanwhile for another volume holds copies of all our descriptors from
/// its fork to its exec; that takes less than a millisecond, some more on a loaded machine.
const DOUBT: Duration = Duration::from_millis(200);
const STEP: Duration = Duration::from_millis(5);

/// Repeats `call` while its result may be such a passing *busy*. For blocking threads.
pub(crate) fn patiently<T>(mut call: impl FnMut() -> T, busy: impl Fn(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let result = call();
        if !busy(&result) || started.elapsed() >= DOUBT {
            return result;
        }
        sleep(STEP);
    }
}

/// Whether `at` is the root of a mounted file system: writing a volume's files into the system disk because a mount
/// is missing would look like success.
pub(crate) fn require_mounted(at: &Path) -> Result<(), DeviceError> {
    let not_mounted = || DeviceError::NotMounted(at.to_owned());
    let here = fs::symlink_metadata(at)
        .map_err(|error| DeviceError::on_device("looking at", at.to_owned(), error))?;
    let parent = at.parent().ok_or_else(not_mounted)?;
    let above = fs::metadata(parent).map_err(|_| not_mounted())?;
    if here.is_dir() && here.dev() != above.dev() {
        Ok(())
    } else {
        Err(not_mounted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_is_named_with_the_originals_text() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("x");
        fs::write(&at, "").unwrap();
        let text = make_mount_point(&at).unwrap_err().to_string();
        assert!(text.ends_with("x already exists and it's not a directory"));
    }

    #[test]
    fn unmounting_what_is_not_mounted_succeeds_and_keeps_data() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("full");
        fs::create_dir(&at).unwrap();
        fs::write(at.join("file"), "x").unwrap();
        assert!(matches!(
            unmount(&at, false),
            // Without the privilege the kernel says so before it looks.
            Ok(())
                | Err(DeviceError::Unmount {
                    os: Os(Errno::EPERM),
                    ..
                })
        ));
        assert!(at.join("file").exists());
    }

    #[test]
    fn a_volumes_options_come_behind_ours_as_flags_or_texts() {
        let options = |extra: &[&str]| MountOptions {
            read_only: false,
            extra: extra.iter().map(|&o| o.to_owned()).collect(),
        };
        let (flags, data) = arguments(&FsType::ext4(), &options(&["noatime", "commit=30"]));
        assert_eq!(flags, MsFlags::MS_NODEV | MsFlags::MS_NOATIME);
        assert_eq!(data, "errors=remount-ro,noinit_itable,commit=30");
        let btrfs = FsType::new("btrfs").unwrap();
        assert_eq!(arguments(&btrfs, &options(&[])).1, "");
        let (flags, data) = arguments(&btrfs, &options(&["compress=zstd", "sync", "nosuid"]));
        assert!(flags.contains(MsFlags::MS_SYNCHRONOUS | MsFlags::MS_NOSUID));
        assert_eq!(data, "compress=zstd");
        let read_only = MountOptions::read_only(true);
        assert!(arguments(&btrfs, &read_only).0.contains(MsFlags::MS_RDONLY));
    }

    #[test]
    fn an_ordinary_folder_is_no_mounted_volume() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("plain");
        fs::create_dir(&at).unwrap();
        assert_eq!(require_mounted(&at), Err(DeviceError::NotMounted(at)));
    }
}
