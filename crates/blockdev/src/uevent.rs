//! The kernel's announcements of devices, over netlink: no udev needed.
//!
//! An announcement only says *look again now*; what is there is read from the device itself. So a lost message
//! (a full buffer) costs at most one poll interval, and a forged one costs nothing. Messages are taken from the
//! kernel's port only.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// One message fits in a page; the kernel's own buffer for a uevent is 2 KiB of variables plus the path.
const MESSAGE: usize = 8192;
/// The multicast group of the kernel; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;

/// One announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, ...
    pub action: String,
    /// Path below `/sys`.
    pub devpath: String,
    /// `block`, `scsi`, ...
    pub subsystem: String,
    /// Node name below `/dev`, where the device has one.
    pub devname: Option<String>,
}

impl Uevent {
    /// Reads `add@/devices/…\0ACTION=add\0DEVPATH=…\0SUBSYSTEM=block\0…`. The header and the variables must agree.
    #[must_use]
    pub fn parse(message: &[u8]) -> Option<Self> {
        let mut parts = message.split(|&b| b == 0);
        let header = str::from_utf8(parts.next()?).ok()?;
        let (action, devpath) = header.split_once('@')?;
        let mut subsystem = None;
        let mut devname = None;
        for part in parts.filter(|p| !p.is_empty()) {
            // Other drivers may put any bytes into their variables; only ours must be text.
            let Some((key, value)) = str::from_utf8(part).ok().and_then(|t| t.split_once('='))
            else {
                continue;
            };
            match key {
                "ACTION" if value != action => return None,
                "DEVPATH" if value != devpath => return None,
                "SUBSYSTEM" => subsystem = Some(value.to_owned()),
                "DEVNAME" => devname = Some(value.to_owned()),
                _ => {}
            }
        }
        Some(Self {
            action: action.to_owned(),
            devpath: devpath.to_owned(),
            subsystem: subsystem?,
            devname,
        })
    }

    /// Whether a disk may have come or changed its size.
    #[must_use]
    pub fn may_bring_a_disk(&self) -> bool {
        self.subsystem == "block" && matches!(self.action.as_str(), "add" | "change")
    }
}

/// A subscription to the kernel's announcements. Made *before* the first look, so nothing falls between.
#[derive(Debug)]
pub struct Listener {
    /// The netlink socket. The runtime only waits for it to become readable, which is the same for every socket, so
    /// its datagram type carries the descriptor; messages are received from the descriptor itself.
    socket: UnixDatagram,
}

impl Listener {
    /// Subscribes.
    ///
    /// # Errors
    /// Where netlink is not to be had (a container); polling alone then finds the device.
    pub fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self {
            socket: UnixDatagram::from_std(socket.into())?,
        })
    }

    /// Returns when a disk may have appeared or changed; an overrun buffer counts as such. Cancel-safe.
    ///
    /// # Errors
    /// When the socket fails; the caller then only polls.
    pub async fn disk_may_have_come(&self) -> io::Result<()> {
        let mut buffer = vec![0_u8; MESSAGE];
        loop {
            let received = self
                .socket
                .async_io(Interest::READABLE, || {
                    let fd = self.socket.as_raw_fd();
                    Ok(recvfrom::<NetlinkAddr>(fd, &mut buffer)?)
                })
                .await;
            match received {
                Ok((len, from)) => {
                    let from_kernel = from.is_some_and(|address| address.pid() == 0);
                    let event = buffer.get(..len).and_then(Uevent::parse);
                    if from_kernel && event.is_some_and(|e| e.may_bring_a_disk()) {
                        return Ok(());
                    }
                }
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, option, prelude::*};

    use super::*;

    fn message(parts: &[&str]) -> Vec<u8> {
        parts.join("\0").into_bytes()
    }

    #[test]
    fn a_new_disk_is_recognised() {
        let event = Uevent::parse(&message(&[
            "add@/devices/pci0000:00/host2/target2:0:3/2:0:3:0/block/sdb",
            "ACTION=add",
            "DEVPATH=/devices/pci0000:00/host2/target2:0:3/2:0:3:0/block/sdb",
            "SUBSYSTEM=block",
            "DEVNAME=sdb",
            "SEQNUM=4711",
            "",
        ]))
        .unwrap();
        assert_eq!(event.devname.as_deref(), Some("sdb"));
        assert!(event.may_bring_a_disk());
    }

    #[test]
    fn udevs_own_messages_and_contradictions_are_not_taken() {
        assert_eq!(Uevent::parse(b"libudev\0\xfe\xed\xca\xfe"), None);
        let contradiction = message(&["add@/a", "ACTION=remove", "SUBSYSTEM=block"]);
        assert_eq!(Uevent::parse(&contradiction), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in collection::vec(any::<u8>(), 0..300)) {
            drop(Uevent::parse(&bytes));
        }

        #[test]
        fn what_the_kernel_writes_is_read_back(
            action in "[a-z]{1,10}", path in "/[a-z0-9:./]{0,60}", subsystem in "[a-z_]{1,12}",
            name in option::of("[a-z0-9/]{1,12}"),
        ) {
            let mut parts = vec![
                format!("{action}@{path}"), format!("ACTION={action}"),
                format!("DEVPATH={path}"), format!("SUBSYSTEM={subsystem}"),
            ];
            parts.extend(name.iter().map(|n| format!("DEVNAME={n}")));
            let event = Uevent::parse(parts.join("\0").as_bytes()).unwrap();
            prop_assert_eq!(event, Uevent { action, devpath: path, subsystem, devname: name });
        }
    }
}
