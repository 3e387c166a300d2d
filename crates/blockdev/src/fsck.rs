//! Repair before a mount, where the file system itself asks for it.
//!
//! | type | asks when | what is done |
//! |---|---|---|
//! | ext3, ext4 | the superblock carries the *errors* flag, which the kernel sets when it finds damage | `e2fsck -p` |
//! | ext2 | the same, or it was not unmounted: it has no journal | `e2fsck -p` |
//! | xfs, btrfs | never | the kernel refuses what it cannot repair, and says so |
//!
//! An unclean ext3, ext4, xfs or btrfs after a power cut needs nothing: mounting replays the journal. `-p` repairs only
//! what is safe without a person; anything else stays as it is, and the mount is refused with what the program says.

use std::path::Path;
use std::time::Duration;

use crate::error::DeviceError;
use crate::process;

/// After this a check is held for hung: the largest disk takes minutes per terabyte. Killing it is like a power cut.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// So much of the device has to be read for [`asks`].
pub(crate) const HEAD: usize = 2048;

/// Whether the first bytes of a device are an ext file system that wants to be checked before it is mounted.
pub(crate) fn asks(head: &[u8]) -> bool {
    const VALID: u16 = 0x1;
    const ERRORS: u16 = 0x2;
    const HAS_JOURNAL: u16 = 0x4;
    let half = |at: usize| {
        let bytes = head.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map(|chunk| u16::from_le_bytes(*chunk))
    };
    let (Some(0xef53), Some(state), Some(compat)) = (half(0x438), half(0x43a), half(0x45c)) else {
        return false;
    };
    state & ERRORS != 0 || (state & VALID == 0 && compat & HAS_JOURNAL == 0)
}

/// Checks and repairs what is safe. Without the program nothing is done: the kernel mounts and warns.
pub(crate) async fn run(device: &Path) -> Result<(), DeviceError> {
    let Some(program) = process::program("e2fsck") else {
        tracing::warn!(device = %device.display(), "the file system asks to be checked, and no e2fsck is installed");
        return Ok(());
    };
    let failed = |status: String, output: String| DeviceError::Damaged {
        path: device.to_owned(),
        status,
        output,
    };
    let args = ["-p".as_ref(), device.as_os_str()];
    let done = process::run(&program, &args, LIMIT)
        .await
        .map_err(|error| failed(error.to_string(), String::new()))?;
    let output = format!("{}{}", done.stdout, done.stderr);
    let output = output.trim_end();
    match done.code {
        // Its manual: a sum of bits; 1 repaired, 2 the machine should be restarted (a root file system).
        Some(0..=3) => {
            tracing::info!(device = %device.display(), status = done.status, output, "file system checked");
            Ok(())
        }
        _ => Err(failed(done.status, output.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(state: u16, compat: u16) -> Vec<u8> {
        let mut bytes = vec![0; HEAD];
        bytes[0x438..0x43a].copy_from_slice(&[0x53, 0xef]);
        bytes[0x43a..0x43c].copy_from_slice(&state.to_le_bytes());
        bytes[0x45c..0x45e].copy_from_slice(&compat.to_le_bytes());
        bytes
    }

    #[test]
    fn errors_ask_for_a_check_and_a_journal_makes_up_for_a_missing_unmount() {
        for (state, compat, expected) in [
            (1, 4, false),
            (0, 4, false),
            (2, 4, true),
            (3, 4, true),
            (1, 0, false),
            (0, 0, true),
        ] {
            assert_eq!(asks(&head(state, compat)), expected, "{state} {compat}");
        }
        assert!(!asks(&[]) && !asks(&[0; HEAD]) && !asks(b"XFSB"));
    }
}
