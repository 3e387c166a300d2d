//! QEMU's own locks on a disk's extent, asked of the kernel.
//!
//! QEMU takes shared locks on single bytes of a file for what it does to it: byte 100 reads, byte 101 writes. They are
//! locks of open file descriptions: they end with the process, whichever way it ends, and anybody can ask for them.
//! So the kernel says who writes, whatever any book of ours holds.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::fcntl::{FcntlArg, fcntl};

/// What QEMU does, by the byte it locks for it.
const READS: i64 = 100;
const WRITES: i64 = 101;

/// How some QEMU on this machine uses a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// None does.
    Free,
    /// For reading only.
    Reads,
    /// For writing.
    Writes,
}

/// Asks the kernel. A file that is not there is used by nobody.
pub(crate) fn in_use(extent: &Path) -> io::Result<Use> {
    let file = match File::open(extent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Use::Free),
        other => other?,
    };
    if is_locked(&file, WRITES)? {
        return Ok(Use::Writes);
    }
    Ok(if is_locked(&file, READS)? {
        Use::Reads
    } else {
        Use::Free
    })
}

/// Whether an exclusive lock of ours on this byte would be refused.
fn is_locked(file: &File, byte: i64) -> io::Result<bool> {
    let small = |value: i32| i16::try_from(value).map_err(io::Error::other);
    let mut asked = libc::flock {
        l_type: small(libc::F_WRLCK)?,
        l_whence: small(libc::SEEK_SET)?,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut asked))?;
    Ok(asked.l_type != small(libc::F_UNLCK)?)
}

#[cfg(test)]
mod tests {
    use std::fs::write;

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_lock_of_another_open_file_is_seen_and_ends_with_it() {
        let dir = tempdir().unwrap();
        let path = dir.path().join("v-flat.vmdk");
        assert_eq!(in_use(&path).unwrap(), Use::Free);
        write(&path, [0; 512]).unwrap();
        assert_eq!(in_use(&path).unwrap(), Use::Free);
        let hold = |byte| {
            let file = File::open(&path).unwrap();
            let lock = libc::flock {
                l_type: i16::try_from(libc::F_RDLCK).unwrap(),
                l_whence: 0,
                l_start: byte,
                l_len: 1,
                l_pid: 0,
            };
            fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
            file
        };
        let reader = hold(READS);
        assert_eq!(in_use(&path).unwrap(), Use::Reads);
        let writer = hold(WRITES);
        assert_eq!(in_use(&path).unwrap(), Use::Writes);
        drop((reader, writer));
        assert_eq!(in_use(&path).unwrap(), Use::Free);
    }
}
