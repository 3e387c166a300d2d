//! What a disk shall be before it exists: size, provisioning, adapter, identity. Randomness comes from the caller.

use std::fmt;
use std::str::FromStr;

use vdvs_domain::Capacity;

use crate::descriptor::{Descriptor, Extent, ExtentAccess, ExtentKind, ddb_uuid, parse_ddb_uuid};

/// The hardware version our disks claim: the oldest that every supported host release opens.
const HARDWARE_VERSION: &str = "10";

/// When the extent's blocks are allocated, and whether they are zeroed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// Blocks are allocated as the guest writes.
    Thin,
    /// Blocks are reserved now, zeroed at first use.
    ZeroedThick,
    /// Blocks are reserved and zeros written now.
    EagerZeroedThick,
}

impl fmt::Display for Provisioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Thin => "thin",
            Self::ZeroedThick => "zeroedthick",
            Self::EagerZeroedThick => "eagerzeroedthick",
        })
    }
}

/// The adapter a descriptor names. A hint only: any disk attaches to any SCSI controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Adapter {
    /// `lsilogic`, what the hypervisor's own tools write by default.
    #[default]
    LsiLogic,
    /// `buslogic`
    BusLogic,
    /// `ide`
    Ide,
}

impl Adapter {
    fn word(self) -> &'static str {
        match self {
            Self::LsiLogic => "lsilogic",
            Self::BusLogic => "buslogic",
            Self::Ide => "ide",
        }
    }
}

/// The UUID a guest sees as the disk's serial number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiskUuid([u8; 16]);

impl DiskUuid {
    /// A UUID from sixteen random bytes, in the range that disks of this hypervisor use (`6000c29…`).
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        let [_, _, _, d, rest @ ..] = random;
        let mut bytes = [0u8; 16];
        for (slot, value) in bytes
            .iter_mut()
            .zip([0x60, 0x00, 0xc2, 0x90 | (d & 0x0f)].iter().chain(&rest))
        {
            *slot = *value;
        }
        Self(bytes)
    }

    /// The bytes in order.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// Reads the form of `ddb.uuid`.
    #[must_use]
    pub fn from_ddb(text: &str) -> Option<Self> {
        parse_ddb_uuid(text).map(Self)
    }
}

impl fmt::Display for DiskUuid {
    /// 32 hexadecimal digits, as a guest sees it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl FromStr for DiskUuid {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err("a disk UUID has 32 hexadecimal digits");
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| "not hexadecimal")?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// A disk to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDisk {
    /// Size.
    pub capacity: Capacity,
    /// Allocation.
    pub provisioning: Provisioning,
    /// Hint for the controller.
    pub adapter: Adapter,
    /// Identity towards the guest.
    pub uuid: DiskUuid,
    /// 128 random bits; the descriptor's CID is their end.
    pub content_id: u128,
}

impl NewDisk {
    /// The descriptor for this disk with its extent in the file `extent` beside it.
    pub(crate) fn descriptor(&self, extent: &str) -> Descriptor {
        let content = content_id(self.content_id);
        let (heads, sectors) = geometry(self.adapter, self.capacity);
        let cylinders = (self.capacity.sectors() / (heads * sectors)).max(1);
        let cid = content.get(24..).unwrap_or("fffffffe").to_owned();
        let (cylinders, heads, sectors) = (
            cylinders.to_string(),
            heads.to_string(),
            sectors.to_string(),
        );
        let uuid = ddb_uuid(self.uuid.0);
        let mut ddb = vec![
            ("adapterType", self.adapter.word()),
            ("geometry.cylinders", cylinders.as_str()),
            ("geometry.heads", heads.as_str()),
            ("geometry.sectors", sectors.as_str()),
            ("longContentID", content.as_str()),
        ];
        // Thick disks do not carry the key at all.
        if self.provisioning == Provisioning::Thin {
            ddb.push(("thinProvisioned", "1"));
        }
        ddb.push(("uuid", uuid.as_str()));
        ddb.push(("virtualHWVersion", HARDWARE_VERSION));
        let header = [
            ("version", "1", false),
            ("encoding", "UTF-8", true),
            ("CID", cid.as_str(), false),
            ("parentCID", "ffffffff", false),
            ("createType", "vmfs", true),
        ];
        let extent = Extent {
            access: ExtentAccess::ReadWrite,
            sectors: self.capacity.sectors(),
            kind: ExtentKind::Vmfs,
            name: extent.to_owned(),
            offset: None,
        };
        Descriptor::build(&header, extent, &ddb).expect("CID, createType and one extent are given")
    }
}

/// 32 digits whose last eight, the CID, are never `ffffffff` ("no parent") nor zero.
fn content_id(random: u128) -> String {
    let low = random & 0xffff_ffff;
    let fixed = if low == 0 || low == 0xffff_ffff {
        random ^ 1
    } else {
        random
    };
    format!("{fixed:032x}")
}

/// Heads and sectors per track as the hypervisor chooses them; old boot loaders in guests still read them.
fn geometry(adapter: Adapter, capacity: Capacity) -> (u64, u64) {
    const GIB: u64 = 1 << 30;
    match (adapter, capacity.bytes()) {
        (Adapter::Ide, _) => (16, 63),
        (_, bytes) if bytes < GIB => (64, 32),
        (_, bytes) if bytes < 2 * GIB => (128, 32),
        _ => (255, 63),
    }
}
