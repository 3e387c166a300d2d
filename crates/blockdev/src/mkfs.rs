//! Making a file system.
//!
//! Only types that take the UUID on the command line are offered: the record stores the UUID before `mkfs` runs, and
//! that is how an interrupted format is told from somebody's data (P3). So `mkfs.minix` and the like do not count as
//! supported although they are installed.
//!
//! The options keep a thin disk thin and the first mount quick (1 GiB on a loop device: ext4 6 ms and 0.7 MB,
//! btrfs 30 ms and 5 MB, xfs 10 ms and 66 MB, which is its smallest log, zeroed):
//!
//! | type | option | why |
//! |---|---|---|
//! | ext2, 3, 4 | `-F` | older releases ask before they use a whole disk |
//! | | `-m 0` | blocks reserved for root keep a system disk alive; on a data volume they are lost space |
//! | | `-E nodiscard` | the disk is blank: discarding it only makes a hypervisor's round trips |
//! | | `-E lazy_itable_init=1` | inode tables are not zeroed now; with the mount option `noinit_itable`, not later either: the disk is zero there |
//! | ext3, 4 | `-E lazy_journal_init=1` | the same for the journal |
//! | xfs | `-f` | needed when an interrupted try is repeated; whether to overwrite was decided by our own probe |
//! | xfs, btrfs | `-K` | no discard, as above |
//! | btrfs | `-f` | as xfs |

//!
//! Where an earlier try left something, ext is not made lazily: inode tables and journal are not zero then, and old
//! blocks of a journal of the same UUID could be taken for new ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::FsType;

use crate::error::DeviceError;
use crate::process::{self, PROGRAM_DIRS};

/// Types whose `mkfs` stores a given UUID.
const TAKES_UUID: [&str; 5] = ["btrfs", "ext2", "ext3", "ext4", "xfs"];
/// After this a `mkfs` is held for hung and killed; the largest disk on slow storage takes minutes.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What can be made here, sorted.
pub(crate) fn supported() -> Vec<FsType> {
    let mut found: Vec<FsType> = PROGRAM_DIRS
        .iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten())
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| FsType::new(name.strip_prefix("mkfs.")?).ok())
        .filter(|kind| TAKES_UUID.contains(&kind.as_str()))
        .filter(|kind| program(kind).is_some())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn program(fs: &FsType) -> Option<PathBuf> {
    process::program(&format!("mkfs.{fs}"))
}

/// The program for `fs`, or the original's text with what there is.
pub(crate) fn require(fs: &FsType) -> Result<PathBuf, DeviceError> {
    let offered = TAKES_UUID.contains(&fs.as_str());
    program(fs)
        .filter(|_| offered)
        .ok_or_else(|| DeviceError::NoMkfs {
            fstype: fs.to_string(),
            supported: supported().iter().map(FsType::to_string).collect(),
        })
}

/// What a format finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Zeros everywhere.
    Blank,
    /// What an earlier try of ours left.
    Used,
}

/// Arguments up to the device. See the module's table.
pub(crate) fn arguments(fs: &FsType, uuid: Uuid, label: &str, ground: Ground) -> Vec<String> {
    let uuid = uuid.hyphenated().to_string();
    let lazy = match (fs.as_str(), ground) {
        ("ext2", Ground::Blank) => "nodiscard,lazy_itable_init=1",
        ("ext2", Ground::Used) => "nodiscard,lazy_itable_init=0",
        (_, Ground::Blank) => "nodiscard,lazy_itable_init=1,lazy_journal_init=1",
        (_, Ground::Used) => "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
    };
    let (options, longest): (&[&str], usize) = match fs.as_str() {
        "xfs" => (&["-q", "-f", "-K"], 12),
        "btrfs" => (&["-q", "-f", "-K"], 255),
        _ => (&["-q", "-F", "-m", "0", "-E", lazy], 16),
    };
    let mut all: Vec<String> = options.iter().map(|&o| o.to_owned()).collect();
    if fs.as_str() == "xfs" {
        all.extend(["-m".to_owned(), format!("uuid={uuid}")]);
    } else {
        all.extend(["-U".to_owned(), uuid]);
    }
    // Labels are a help for people; what a tool might choke on is left out.
    let label: String = label
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .take(longest)
        .collect();
    if !label.is_empty() {
        all.extend(["-L".to_owned(), label]);
    }
    all
}

/// Runs `mkfs`. The caller has decided that the device may be overwritten.
pub(crate) async fn run(
    program: &Path,
    fs: &FsType,
    uuid: Uuid,
    label: &str,
    ground: Ground,
    device: &Path,
) -> Result<(), DeviceError> {
    let mut args = arguments(fs, uuid, label, ground);
    args.push(device.display().to_string());
    let failed = |status: String, output: String| DeviceError::Mkfs {
        path: device.to_owned(),
        status,
        output,
    };
    let done = process::run(program, &args, LIMIT)
        .await
        .map_err(|error| failed(error.to_string(), String::new()))?;
    if done.code == Some(0) {
        return Ok(());
    }
    let output = format!("{}{}", done.stdout, done.stderr);
    Err(failed(done.status, output.trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_fit_the_file_system_and_carry_no_odd_characters() {
        let xfs = FsType::new("xfs").unwrap();
        let args = arguments(&xfs, Uuid::nil(), "-ä vdvs/0123456789", Ground::Blank);
        assert_eq!(args.last().unwrap(), "-vdvs0123456");
        let none = arguments(&FsType::ext4(), Uuid::nil(), "äö", Ground::Used);
        assert!(!none.contains(&"-L".to_owned()));
        assert!(none.iter().all(|arg| !arg.contains("=1")), "{none:?}");
    }

    #[test]
    fn a_type_that_cannot_store_our_uuid_is_refused_with_the_originals_text() {
        let error = require(&FsType::new("minix").unwrap()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("Not found mkfs for minix\nSupported filesystems found: "));
        assert!(!text.contains(", minix"), "{text}");
    }
}
