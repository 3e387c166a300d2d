//! Does a mounted disk still answer? Asked of the device first, past the page cache, then of its file system.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::libc::O_DIRECT;
use nix::sys::statvfs::statvfs;

use crate::error::{DeviceError, Os, is_gone};
use crate::linux::open;
use crate::mountinfo::topmost;
use crate::{Device, Health, find, mounting};

/// One block of any device.
const BLOCK: usize = 4096;

/// `None` when the device itself answers: it has a size and its first block can be read past the page cache.
pub(crate) fn pulse(device: &Device) -> Option<Health> {
    let lost = |what: &str| Some(Health::Lost(format!("{}: {what}", device.path.display())));
    let mut file = match open(device, O_DIRECT) {
        Ok(file) => file,
        Err(error @ (DeviceError::Gone { .. } | DeviceError::WrongDevice { .. })) => {
            return Some(Health::Lost(error.to_string()));
        }
        Err(error) => return Some(Health::Unknown(error.to_string())),
    };
    match find::end_of(&mut file) {
        Ok(0) => return lost("its capacity is gone"),
        Ok(_) => {}
        Err(error) => return lost(&Os::from(error).to_string()),
    }
    let mut memory = vec![0_u8; 2 * BLOCK];
    // Reading past the cache needs an aligned place in memory.
    let start = memory.as_ptr().align_offset(BLOCK);
    let block = memory.get_mut(start..start.saturating_add(BLOCK))?;
    match file.read_at(block, 0) {
        Ok(read) if read > 0 => None,
        Ok(_) => lost("it ends before its first block"),
        Err(error) => {
            let os = Os::from(error);
            if is_gone(os.0) {
                lost(&os.to_string())
            } else {
                Some(Health::Unknown(os.to_string()))
            }
        }
    }
}

/// The device answers; does the file system on it still take writes?
pub(crate) fn filesystem_health(at: &Path) -> Health {
    let stopped = |why: &str| Health::Damaged(format!("{}: {why}", at.display()));
    // xfs that shut down answers EIO to everything; ext4 turns read-only below a writable mount.
    let asked = statvfs(at).and_then(|_| match fs::read_dir(at) {
        Ok(_) => Ok(()),
        Err(error) => Err(Os::from(error).0),
    });
    match asked {
        Err(errno) if is_gone(errno) => return stopped(&Os(errno).to_string()),
        Err(errno) => return Health::Unknown(Os(errno).to_string()),
        Ok(()) => {}
    }
    match mounting::table() {
        Ok(table) => match topmost(&table, at) {
            Some(entry) if entry.super_read_only() && !entry.read_only() => {
                stopped("the file system turned read-only after an error")
            }
            Some(_) => Health::Alive,
            None => Health::Unknown(format!("nothing is mounted at {}", at.display())),
        },
        Err(error) => Health::Unknown(error.to_string()),
    }
}
