//! Numbers of the interface. Host and guest have tables of their own: the same option means different things on either.

/// The guests' family, and the host's where nobody says otherwise.
pub const LINUX_FAMILY: i32 = 40;
/// The context of programs on the host.
pub const HOST_CID: u32 = 2;
/// Any context, to bind to.
pub const ANY_CID: u32 = u32::MAX;
/// The first port that needs no privilege.
pub const UNPRIVILEGED: u32 = 1024;

/// Devices that know the family, in the order in which they are tried.
pub const DEVICES: [&str; 2] = ["/dev/vsock", "/vmfs/devices/char/vsock/vsock"];

/// Requests to such a device. Plain numbers, not encoded ones.
pub mod request {
    /// The version of the interface.
    pub const VERSION: u32 = 1972;
    /// The number of the family. It is valid while the descriptor that was asked is open.
    pub const FAMILY: u32 = 1976;
    /// The context of whoever asks.
    pub const LOCAL_CID: u32 = 1977;
}

/// Socket options on the hypervisor; their level is the family.
pub mod host_option {
    /// The process group of the VM at the other end, a signed number.
    pub const PEER_VM: i32 = 3;
    /// A text that shows what a socket is for.
    pub const SERVICE_LABEL: i32 = 4;
    /// Why the peer is gone.
    pub const DISCONNECT_CAUSE: i32 = 8;
}

/// Values of [`host_option::DISCONNECT_CAUSE`].
pub mod cause {
    /// Ended by the peer, or with it.
    pub const REGULAR: i32 = 0;
    /// The VM goes on running on another host.
    pub const VMOTION: i32 = 1;
}

/// An address, as both platforms lay it out.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockaddrVm {
    /// The family.
    pub family: u16,
    /// Zero.
    pub reserved: u16,
    /// Port, in the machine's byte order.
    pub port: u32,
    /// Context, in the machine's byte order.
    pub cid: u32,
    /// Zero; Linux has flags here.
    pub zero: [u8; 4],
}

const _: () = assert!(size_of::<SockaddrVm>() == 16, "as long as `sockaddr`");

impl SockaddrVm {
    /// This port of this context.
    #[must_use]
    pub const fn new(family: u16, cid: u32, port: u32) -> Self {
        Self {
            family,
            reserved: 0,
            port,
            cid,
            zero: [0; 4],
        }
    }
}
