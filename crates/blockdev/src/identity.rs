//! A clone's file system begins as its source's, UUID included. To be mounted beside it, it needs one of its own, or
//! a kernel that does not mind.
//!
//! | type | what is done | when |
//! |---|---|---|
//! | btrfs | `btrfstune -M`: the kernel takes two file systems of one UUID for one. Only superblocks are written, in an order the kernel can finish after a cut | before the first mount, always |
//! | | mounted and unmounted before that, where a log of flushed writes waits to be replayed: a change of the UUID makes it unreadable, and what an application was told is flushed would be gone | the source's VM lost its power |
//! | ext | `tune2fs -U`, if the checksums of the metadata do not depend on the UUID and the journal is empty: then it is a matter of superblocks | when that is so; two ext file systems of one UUID can be mounted side by side anyway |
//! | xfs | nothing: it would mean to write the whole log anew. xfs is always mounted with `nouuid` | never |
//!
//! The UUID is the volume's id. So whether it was done can be read from the disk by anybody, and doing it twice is doing
//! it once.

use std::path::Path;
use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::VolumeId;

use crate::error::DeviceError;
use crate::process;

/// Superblocks are few; beyond this the device hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// The UUID of a clone's file system.
#[must_use]
pub fn clone_uuid(volume: VolumeId) -> Uuid {
    volume.uuid()
}

/// So much of the device has to be read for a change: btrfs begins at 64 KiB.
pub(crate) const HEAD: usize = 0x1_1000;

/// Whether a btrfs has a log that its next mount replays.
pub(crate) fn must_replay(kind: &str, head: &[u8]) -> bool {
    const LOG_ROOT: usize = 0x1_0060;
    let log = head.get(LOG_ROOT..LOG_ROOT + 8);
    kind == "btrfs" && log.is_none_or(|root| root.iter().any(|b| *b != 0))
}

/// Program and arguments that give the file system on a device its new UUID; none: it is used as it is.
pub(crate) fn change(kind: &str, head: &[u8], uuid: Uuid) -> Option<(&'static str, Vec<String>)> {
    let uuid = uuid.hyphenated().to_string();
    match kind {
        "btrfs" => Some(("btrfstune", vec!["-f".into(), "-M".into(), uuid])),
        "ext2" | "ext3" | "ext4" if superblock_only(head) => {
            Some(("tune2fs", vec!["-U".into(), uuid]))
        }
        _ => None,
    }
}

/// Whether an ext file system's UUID stands in superblocks only, and no journal would bring the old one back.
fn superblock_only(head: &[u8]) -> bool {
    const NEEDS_RECOVERY: u32 = 0x4;
    const CSUM_SEED: u32 = 0x2000;
    const GDT_CSUM: u32 = 0x10;
    const METADATA_CSUM: u32 = 0x400;
    let word = |at: usize| {
        let bytes = head.get(at..).and_then(|rest| rest.first_chunk());
        bytes.map(|chunk| u32::from_le_bytes(*chunk))
    };
    let (Some(incompat), Some(ro_compat)) = (word(0x460), word(0x464)) else {
        return false;
    };
    let seeded = incompat & CSUM_SEED != 0 || ro_compat & (GDT_CSUM | METADATA_CSUM) == 0;
    seeded && incompat & NEEDS_RECOVERY == 0
}

/// Runs the change.
pub(crate) async fn run(
    device: &Path,
    name: &'static str,
    mut args: Vec<String>,
) -> Result<(), DeviceError> {
    let failed = |status: String, output: String| DeviceError::Identity {
        path: device.to_owned(),
        program: name,
        status,
        output,
    };
    let Some(program) = process::program(name) else {
        return Err(failed(
            "it is not installed in this guest".into(),
            String::new(),
        ));
    };
    args.push(device.display().to_string());
    let done = process::run(&program, &args, LIMIT)
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

    fn ext(incompat: u32, ro_compat: u32) -> bool {
        let mut head = vec![0; 2048];
        head[0x460..0x464].copy_from_slice(&incompat.to_le_bytes());
        head[0x464..0x468].copy_from_slice(&ro_compat.to_le_bytes());
        change("ext4", &head, Uuid::nil()).is_some()
    }

    #[test]
    fn an_ext_uuid_is_changed_only_where_that_writes_superblocks_alone() {
        assert!(ext(0x2000, 0x400) && ext(0, 0));
        assert!(!ext(0, 0x400) && !ext(0, 0x10), "checksums depend on it");
        assert!(!ext(0x2004, 0x400), "the journal holds the old one");
        assert!(change("ext4", &[], Uuid::nil()).is_none());
        assert!(change("xfs", &[0; 4096], Uuid::nil()).is_none());
        assert!(change("btrfs", &[], Uuid::nil()).is_some());
    }

    #[test]
    fn a_btrfs_with_a_log_is_replayed_before_its_uuid_changes() {
        let mut head = vec![0; HEAD];
        assert!(!must_replay("btrfs", &head) && must_replay("btrfs", &[]));
        head[0x1_0067] = 1;
        assert!(must_replay("btrfs", &head) && !must_replay("ext4", &head));
    }
}
