//! What can go wrong with a device or a file system in the guest.
//!
//! The texts that the original plugin printed stay first, because people search for them; what is ours follows.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

/// An operating system error by number, printed as the original printed it: lower case, without a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Os(pub Errno);

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.0 as i32;
        let text = io::Error::from_raw_os_error(number).to_string();
        let bare = text.split(" (os error").next().unwrap_or(&text);
        f.write_str(&bare.to_lowercase())
    }
}

impl From<Errno> for Os {
    fn from(errno: Errno) -> Self {
        Self(errno)
    }
}

impl From<io::Error> for Os {
    /// An error without a number (a short read, for one) becomes EIO: the caller learns that the device let it down.
    fn from(error: io::Error) -> Self {
        Self(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

/// Why a device operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Nothing appeared where the hypervisor said the disk would be.
    #[error("Device not found: nothing at {place} within {} ms", .waited.as_millis())]
    NotFound {
        /// Where it was looked for.
        place: String,
        /// For how long.
        waited: Duration,
    },
    /// Something is there, but it is not the disk that was attached.
    #[error("{path} is not the attached disk: {why}; nothing was touched")]
    WrongDevice {
        /// The device.
        path: PathBuf,
        /// What differs.
        why: String,
    },
    /// The device answers no more: detached, fenced, or failed.
    #[error("{path} is gone: {os}")]
    Gone {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        os: Os,
    },
    /// Another program has the device or a file system on it in use.
    #[error("{path} is in use")]
    Busy {
        /// The device.
        path: PathBuf,
    },
    /// No `mkfs` for this type is installed, or it cannot store a given UUID. The original's text.
    #[error("Not found mkfs for {fstype}\nSupported filesystems found: {}", .supported.join(", "))]
    NoMkfs {
        /// The type asked for.
        fstype: String,
        /// What could be made here, sorted.
        supported: Vec<String>,
    },
    /// The device is not blank, or could not be examined (promise P3).
    #[error("{path} was not formatted: {why}")]
    FormatRefused {
        /// The device.
        path: PathBuf,
        /// What the probe said.
        why: String,
    },
    /// `mkfs` failed. The original's text.
    #[error("Failed to create filesystem on {path}: {status}. Output = {output}")]
    Mkfs {
        /// The device.
        path: PathBuf,
        /// Exit status or signal.
        status: String,
        /// What it printed, capped.
        output: String,
    },
    /// `mkfs` runs on; a repeated call joins it.
    #[error("formatting {path} takes longer than {} s and goes on; try again", .budget.as_secs())]
    StillFormatting {
        /// The device.
        path: PathBuf,
        /// The budget that ran out.
        budget: Duration,
    },
    /// The file system carries errors that its checker does not repair without being asked.
    #[error(
        "the file system on {path} has errors that e2fsck does not repair by itself: {status}. Output = {output}\nNothing was mounted or changed further; repair it with e2fsck by hand, or restore the disk from a backup"
    )]
    Damaged {
        /// The device.
        path: PathBuf,
        /// Exit status or signal.
        status: String,
        /// What it printed, capped.
        output: String,
    },
    /// The copy of a file system could not be given an identity of its own.
    #[error(
        "the clone on {path} still has its source's file-system UUID: {program}: {status}. Output = {output}"
    )]
    Identity {
        /// The device.
        path: PathBuf,
        /// Which program failed.
        program: &'static str,
        /// Exit status or signal.
        status: String,
        /// What it printed, capped.
        output: String,
    },
    /// The mount point exists and is no directory. The original's text.
    #[error("{0} already exists and it's not a directory")]
    NotADirectory(PathBuf),
    /// mount(2) failed. The original's text first.
    #[error("Failed to mount device {device} at {at}: {os}{hint}")]
    Mount {
        /// The device.
        device: PathBuf,
        /// The mount point.
        at: PathBuf,
        /// What the kernel said.
        os: Os,
        /// What to do, when we know.
        hint: Cow<'static, str>,
    },
    /// Something else is mounted there.
    #[error("{at} has {found} mounted, not {device}")]
    Occupied {
        /// The device that should be mounted.
        device: PathBuf,
        /// The mount point.
        at: PathBuf,
        /// What is there.
        found: String,
    },
    /// umount(2) failed. The original's text.
    #[error("Unmount device at {at} failed: {os}")]
    Unmount {
        /// The mount point.
        at: PathBuf,
        /// What the kernel said.
        os: Os,
    },
    /// The path is not the root of a mounted file system.
    #[error("nothing is mounted at {0}")]
    NotMounted(PathBuf),
    /// The file system's content is not what the record says; nothing was repaired.
    #[error("the file system at {at} does not belong to this volume: {why}; nothing was changed")]
    Layout {
        /// The mount point.
        at: PathBuf,
        /// What differs.
        why: String,
    },
    /// A system call failed that has no better name here.
    #[error("{doing} {path}: {os}")]
    Io {
        /// A verb phrase.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the kernel said.
        os: Os,
    },
    /// The kernel did not answer in time.
    #[error("{doing} {path}: no answer within {} s", .limit.as_secs())]
    TimedOut {
        /// A verb phrase.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// The kernel's table of mounts could not be understood, so nothing may be concluded from it.
    #[error("cannot read the table of mounts: {0}")]
    MountTable(String),
}

impl DeviceError {
    /// A failed system call on `path`; the errors that mean "the device is no more" become [`DeviceError::Gone`].
    pub(crate) fn on_device(doing: &'static str, path: PathBuf, os: impl Into<Os>) -> Self {
        let os = os.into();
        if is_gone(os.0) {
            Self::Gone { path, os }
        } else {
            Self::Io { doing, path, os }
        }
    }

    /// Whether the device is lost to this guest, so that the volume should be treated as fenced.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Gone { .. } => true,
            Self::Io { os, .. } | Self::Mount { os, .. } | Self::Unmount { os, .. } => {
                is_gone(os.0)
            }
            _ => false,
        }
    }
}

/// What the kernel answers for a device that was detached or fenced.
pub(crate) fn is_gone(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EIO | Errno::ENXIO | Errno::ENODEV | Errno::ENOMEDIUM | Errno::ESHUTDOWN
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_texts_stay() {
        let mount = DeviceError::Mount {
            device: "/dev/sdb".into(),
            at: "/mnt/x".into(),
            os: Os(Errno::EINVAL),
            hint: "".into(),
        };
        assert_eq!(
            mount.to_string(),
            "Failed to mount device /dev/sdb at /mnt/x: invalid argument"
        );
        let mkfs = DeviceError::NoMkfs {
            fstype: "zfs".into(),
            supported: vec!["btrfs".into(), "ext4".into()],
        };
        assert_eq!(
            mkfs.to_string(),
            "Not found mkfs for zfs\nSupported filesystems found: btrfs, ext4"
        );
        let unmount = DeviceError::Unmount {
            at: "/mnt/x".into(),
            os: Os(Errno::EBUSY),
        };
        assert_eq!(
            unmount.to_string(),
            "Unmount device at /mnt/x failed: device or resource busy"
        );
    }
}
