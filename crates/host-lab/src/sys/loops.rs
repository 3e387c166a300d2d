//! Loop devices: bind, recognise, cut off, unbind.
//!
//! A device that is *cut off* has capacity zero, its offset far behind the end of any file: every request fails, and one
//! that was already on its way cannot reach a byte of the file. That is what a hot-remove under load is here, and it
//! is told from outside by `/sys/block/loopN/size` being 0 with an offset that is not.

use std::ffi::CStr;
use std::fs::{File, OpenOptions, read_dir, read_to_string};
use std::io;
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use libc::Ioctl;
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::done;

const LOOP_CLR_FD: Ioctl = 0x4C01;
const LOOP_SET_STATUS64: Ioctl = 0x4C04;
const LOOP_GET_STATUS64: Ioctl = 0x4C05;
const LOOP_CONFIGURE: Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: Ioctl = 0x4C82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_DIRECT_IO: u32 = 16;
const LOOP_MAJOR: u64 = 7;
/// A virtual disk's sectors, whatever the machine's own disk has.
const SECTOR: u32 = 512;
/// Others on this machine also take free loop devices between our two calls; losing this often is not chance.
const FREE_ATTEMPTS: u32 = 64;
/// Where a cut-off device lies in its file. Behind the end of any file; behind the largest file that ext4 can have, so
/// that there a late request fails instead of making the file longer; and a disk of 62 TiB after it is no overflow.
const CUT_OFFSET: u64 = 1 << 62;
/// The kernel asks to try again when somebody made pages dirty in between.
const SET_ATTEMPTS: u32 = 64;
/// Between two looks at sysfs.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// `struct loop_info64` of `<linux/loop.h>`.
#[repr(C)]
struct LoopInfo64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config` of `<linux/loop.h>`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo64,
    reserved: [u64; 8],
}

/// A bound loop device as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoopState {
    /// Number of the device.
    pub(crate) number: u32,
    /// The file behind it.
    pub(crate) backing: PathBuf,
    /// Not writable.
    pub(crate) read_only: bool,
}

impl LoopState {
    /// Cut off: it cannot reach its file any more.
    pub(crate) fn is_cut(&self) -> bool {
        is_cut(self.number)
    }
}

/// Path of the device on this machine.
fn loop_path(number: u32) -> PathBuf {
    PathBuf::from(format!("/dev/loop{number}"))
}

/// The device as a number pair.
pub(crate) fn loop_rdev(number: u32) -> libc::dev_t {
    makedev(LOOP_MAJOR, u64::from(number))
}

/// Where `/dev` is not kept by the kernel, devices beyond the first eight have no node until somebody makes it.
fn ensure_node(number: u32) -> io::Result<()> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IWGRP;
    match mknod(&loop_path(number), SFlag::S_IFBLK, mode, loop_rdev(number)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Binds a free loop device to `backing`, with direct I/O where the file system allows it, and returns its number.
/// `label` is kept by the kernel with the device (63 bytes of it) and read by [`loop_label`].
pub(crate) fn loop_bind(backing: &File, read_only: bool, label: &str) -> io::Result<u32> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")?;
    let mut last = io::Error::other("no free loop device");
    for _ in 0..FREE_ATTEMPTS {
        // SAFETY: LOOP_CTL_GET_FREE takes no argument and only returns a number; `control` is open for the call.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        let number = u32::try_from(number).map_err(|_| io::Error::last_os_error())?;
        ensure_node(number)?;
        let device = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(loop_path(number))?;
        let dio = configure(&device, backing, read_only, LO_FLAGS_DIRECT_IO, label);
        // Without direct I/O where the file system refuses it.
        let bound = match dio {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {
                configure(&device, backing, read_only, 0, label)
            }
            other => other,
        };
        match bound {
            Ok(()) => return Ok(number),
            // Somebody else took it first.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => last = e,
            Err(e) => return Err(e),
        }
    }
    Err(last)
}

fn configure(
    device: &File,
    backing: &File,
    read_only: bool,
    flags: u32,
    label: &str,
) -> io::Result<()> {
    // SAFETY: the struct holds integers and byte arrays only, for which all zeros is a valid value.
    let mut config: LoopConfig = unsafe { zeroed() };
    config.fd = u32::try_from(backing.as_raw_fd()).map_err(io::Error::other)?;
    config.block_size = SECTOR;
    config.info.flags = flags | if read_only { LO_FLAGS_READ_ONLY } else { 0 };
    // One byte stays zero: the kernel's string ends.
    for (slot, byte) in config.info.file_name.iter_mut().take(63).zip(label.bytes()) {
        *slot = byte;
    }
    // SAFETY: LOOP_CONFIGURE reads one `struct loop_config`, whose layout `LoopConfig` repeats (checked by a test);
    // both descriptors are open for the call.
    done(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) })
}

/// A loop device held open: until it is dropped the number means this device and no other.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    number: u32,
    file: File,
}

impl LoopDevice {
    fn status(&self) -> io::Result<LoopInfo64> {
        // SAFETY: integers and byte arrays only, for which all zeros is a valid value.
        let mut info: LoopInfo64 = unsafe { zeroed() };
        // SAFETY: LOOP_GET_STATUS64 writes one `struct loop_info64`, whose layout `LoopInfo64` repeats; the descriptor
        // is open for the call.
        done(unsafe { libc::ioctl(self.file.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) })?;
        Ok(info)
    }

    /// The label given at [`loop_bind`].
    fn label(&self) -> io::Result<String> {
        let info = self.status()?;
        let name = CStr::from_bytes_until_nul(&info.file_name).map_err(io::Error::other)?;
        Ok(name.to_string_lossy().into_owned())
    }

    /// Takes the device's capacity: writes what it has accepted, waits for what is under way, fails all that follows.
    /// Repeating it waits for requests that had passed the check of the capacity before.
    pub(crate) fn cut(&self) -> io::Result<()> {
        self.place(CUT_OFFSET)?;
        if is_cut(self.number) {
            return Ok(());
        }
        Err(io::Error::other("the device still has a capacity"))
    }

    /// Gives a device that was cut off its capacity back.
    pub(crate) fn mend(&self) -> io::Result<()> {
        self.place(0)
    }

    fn place(&self, offset: u64) -> io::Result<()> {
        let mut info = self.status()?;
        info.offset = offset;
        info.size_limit = 0;
        for _ in 0..SET_ATTEMPTS {
            // SAFETY: LOOP_SET_STATUS64 reads one `struct loop_info64`, here the one the kernel just gave out with two
            // integers changed; the descriptor is open for the call.
            let set = done(unsafe {
                libc::ioctl(self.file.as_raw_fd(), LOOP_SET_STATUS64, &raw const info)
            });
            match set {
                Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
                other => return other,
            }
        }
        Err(io::Error::from(Errno::EAGAIN))
    }

    /// Waits until no request is under way. False: some are, at the deadline.
    pub(crate) fn drained(&self, deadline: Instant) -> io::Result<bool> {
        let path = format!("/sys/block/loop{}/inflight", self.number);
        loop {
            let text = read_to_string(&path)?;
            if text.split_ascii_whitespace().all(|n| n == "0") {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(LOOK_AGAIN);
        }
    }

    /// Unbinds the device at its last close; returns at once.
    pub(crate) fn clear(&self) -> io::Result<()> {
        // SAFETY: LOOP_CLR_FD takes no argument; the descriptor is open for the call.
        match done(unsafe { libc::ioctl(self.file.as_raw_fd(), LOOP_CLR_FD, 0) }) {
            // Not bound any more: what was wanted.
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok(()),
            other => other,
        }
    }
}

/// Whether the device was cut off. One that is just being bound has no capacity either, but no offset.
fn is_cut(number: u32) -> bool {
    let read = |name: &str| read_to_string(format!("/sys/block/loop{number}/{name}"));
    let zero = |text: io::Result<String>| text.map(|t| t.trim() == "0");
    matches!(
        (zero(read("loop/offset")), zero(read("size"))),
        (Ok(false), Ok(true))
    )
}

/// The label of a device. Opens it for a moment, not exclusively.
pub(crate) fn loop_label(number: u32) -> io::Result<String> {
    let file = File::open(loop_path(number))?;
    LoopDevice { number, file }.label()
}

/// Opens a device that must be bound to `backing` under a label that begins with `label`; none: it is another one now,
/// or not bound.
pub(crate) fn loop_open_as(
    number: u32,
    backing: &Path,
    label: &str,
) -> io::Result<Option<LoopDevice>> {
    let file = match File::open(loop_path(number)) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENXIO | libc::ENOENT)) => return Ok(None),
        other => other?,
    };
    recognise(LoopDevice { number, file }, backing, label)
}

/// As [`loop_open_as`], exclusively: fails with `EBUSY` while a file system on it is mounted anywhere, or anybody else
/// holds it exclusively.
pub(crate) fn loop_claim(
    number: u32,
    backing: &Path,
    label: &str,
) -> io::Result<Option<LoopDevice>> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(loop_path(number))?;
    recognise(LoopDevice { number, file }, backing, label)
}

fn recognise(device: LoopDevice, backing: &Path, label: &str) -> io::Result<Option<LoopDevice>> {
    match device.label() {
        Ok(there) if !there.starts_with(label) => return Ok(None),
        Ok(_) => {}
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        Err(e) => return Err(e),
    }
    let same = loop_state(device.number)?.is_some_and(|s| s.backing == backing);
    Ok(same.then_some(device))
}

/// All bound loop devices of this machine.
pub(crate) fn loops() -> io::Result<Vec<LoopState>> {
    let mut found = Vec::new();
    for entry in read_dir("/sys/block")? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_prefix("loop")?.parse().ok());
        if let Some(number) = number
            && let Some(state) = loop_state(number)?
        {
            found.push(state);
        }
    }
    Ok(found)
}

/// One loop device; nothing when it is not bound.
pub(crate) fn loop_state(number: u32) -> io::Result<Option<LoopState>> {
    let base = PathBuf::from(format!("/sys/block/loop{number}"));
    let text = match read_to_string(base.join("loop/backing_file")) {
        Ok(text) => text,
        // The attribute is there only while the device is bound; it may go between open and read.
        Err(e)
            if matches!(
                e.raw_os_error(),
                Some(libc::ENOENT | libc::ENXIO | libc::ENODEV)
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    let path = text.strip_suffix('\n').unwrap_or(&text);
    // An unlinked file, still open: the lock on its bytes concerns nobody any more, but the name may be told.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    if path.is_empty() {
        return Ok(None);
    }
    let read_only = read_to_string(base.join("ro")).is_ok_and(|t| t.trim() == "1");
    Ok(Some(LoopState {
        number,
        backing: PathBuf::from(path),
        read_only,
    }))
}

/// Waits until the device is no longer bound to `backing`, or was cut off from it. False: neither, at the deadline.
pub(crate) fn loop_gone(number: u32, backing: &Path, deadline: Instant) -> io::Result<bool> {
    loop {
        if loop_state(number)?.is_none_or(|s| s.backing != backing || s.is_cut()) {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<LoopInfo64>(), 232);
        assert_eq!(size_of::<LoopConfig>(), 304);
    }
}
