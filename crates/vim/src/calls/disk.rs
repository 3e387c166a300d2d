//! `VirtualDiskManager`: virtual disks as files.

use tokio::time::Instant;

use crate::soap::{Call, Repeat};
use crate::{Client, Error, FilePath, MoRef, ServiceContent, Task};

/// How the disk's blocks are allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskType {
    /// As they are written.
    Thin,
    /// Now, zeroed when first written.
    Preallocated,
    /// Now, zeroed now.
    EagerZeroedThick,
}

impl DiskType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Thin => "thin",
            Self::Preallocated => "preallocated",
            Self::EagerZeroedThick => "eagerZeroedThick",
        }
    }
}

/// The hint in the descriptor. Attaching to a PVSCSI controller works with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AdapterType {
    /// `lsiLogic`
    #[default]
    LsiLogic,
    /// `busLogic`
    BusLogic,
}

impl AdapterType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::LsiLogic => "lsiLogic",
            Self::BusLogic => "busLogic",
        }
    }
}

/// A disk to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBackedDisk {
    /// Allocation.
    pub disk_type: DiskType,
    /// Hint in the descriptor.
    pub adapter: AdapterType,
    /// Size in KiB.
    pub capacity_kb: u64,
}

impl Client {
    /// `CreateVirtualDisk_Task`. An existing file: `FileAlreadyExists`.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn create_virtual_disk(
        &self,
        name: &FilePath,
        spec: &FileBackedDisk,
        deadline: Instant,
    ) -> Result<Task, Error> {
        const CALL: &str = "CreateVirtualDisk_Task";
        let this = self.disk_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Never, &this, |w| {
            name.write(w, "name", "datacenter");
            w.typed("spec", "FileBackedVirtualDiskSpec", |w| {
                w.text("diskType", spec.disk_type.as_str());
                w.text("adapterType", spec.adapter.as_str());
                w.number("capacityKb", spec.capacity_kb);
            });
        });
        self.start(call, deadline).await
    }

    /// `CopyVirtualDisk_Task`. Without `disk_type` hostd allocates the copy fully.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn copy_virtual_disk(
        &self,
        source: &FilePath,
        target: &FilePath,
        disk_type: Option<DiskType>,
        deadline: Instant,
    ) -> Result<Task, Error> {
        const CALL: &str = "CopyVirtualDisk_Task";
        let this = self.disk_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Never, &this, |w| {
            source.write(w, "sourceName", "sourceDatacenter");
            target.write(w, "destName", "destDatacenter");
            if let Some(disk_type) = disk_type {
                w.typed("destSpec", "VirtualDiskSpec", |w| {
                    w.text("diskType", disk_type.as_str());
                    w.text("adapterType", AdapterType::LsiLogic.as_str());
                });
            }
            w.flag("force", false);
        });
        self.start(call, deadline).await
    }

    /// `DeleteVirtualDisk_Task`: descriptor and extents.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn delete_virtual_disk(
        &self,
        name: &FilePath,
        deadline: Instant,
    ) -> Result<Task, Error> {
        const CALL: &str = "DeleteVirtualDisk_Task";
        let this = self.disk_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Never, &this, |w| {
            name.write(w, "name", "datacenter");
        });
        self.start(call, deadline).await
    }

    /// `ExtendVirtualDisk_Task`, for a disk no VM has. An attached one is grown by [`Client::reconfig_vm`].
    ///
    /// # Errors
    /// [`Error`]
    pub async fn extend_virtual_disk(
        &self,
        name: &FilePath,
        new_capacity_kb: u64,
        eager_zero: Option<bool>,
        deadline: Instant,
    ) -> Result<Task, Error> {
        const CALL: &str = "ExtendVirtualDisk_Task";
        let this = self.disk_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Never, &this, |w| {
            name.write(w, "name", "datacenter");
            w.number("newCapacityKb", new_capacity_kb);
            if let Some(eager) = eager_zero {
                w.flag("eagerZero", eager);
            }
        });
        self.start(call, deadline).await
    }

    /// `QueryVirtualDiskUuid`, in hostd's spelling (`60 00 C2 9x …-…`); see [`crate::plain_uuid`].
    ///
    /// # Errors
    /// [`Error`]
    pub async fn query_virtual_disk_uuid(
        &self,
        name: &FilePath,
        deadline: Instant,
    ) -> Result<String, Error> {
        const CALL: &str = "QueryVirtualDiskUuid";
        let this = self.disk_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Safe, &this, |w| {
            name.write(w, "name", "datacenter");
        });
        self.invoke(call, deadline).await?.need_text()
    }

    /// `SetVirtualDiskUuid`. May be repeated: the second time it says the same again.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn set_virtual_disk_uuid(
        &self,
        name: &FilePath,
        uuid: &str,
        deadline: Instant,
    ) -> Result<(), Error> {
        const CALL: &str = "SetVirtualDiskUuid";
        let this = self.disk_manager(CALL, deadline).await?;
        let call = Call::new(CALL, Repeat::Safe, &this, |w| {
            name.write(w, "name", "datacenter");
            w.text("uuid", uuid);
        });
        self.invoke(call, deadline).await.map(drop)
    }

    async fn disk_manager(&self, call: &'static str, deadline: Instant) -> Result<MoRef, Error> {
        let content = self.service_content(deadline).await?;
        let manager = content.virtual_disk_manager.as_ref();
        ServiceContent::need(manager, "VirtualDiskManager", call)
    }
}

/// A disk's or VM's UUID in one spelling: 32 lower-case digits, whatever stood between them. hostd writes
/// `60 00 C2 9a …-…` here and `6000C29a-…` there. `None`: it is no UUID.
#[must_use]
pub fn plain_uuid(text: &str) -> Option<String> {
    let mut digits = String::with_capacity(32);
    for c in text.trim().chars() {
        match c {
            ' ' | '-' => {}
            c if c.is_ascii_hexdigit() && digits.len() < 32 => digits.push(c.to_ascii_lowercase()),
            _ => return None,
        }
    }
    (digits.len() == 32).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_one_however_it_is_spelt() {
        let plain = plain_uuid("6000C29a-bcde-f012-3456-789abcdef012");
        assert_eq!(plain.as_deref(), Some("6000c29abcdef0123456789abcdef012"));
        assert_eq!(
            plain_uuid("60 00 C2 9a bc de f0 12-34 56 78 9a bc de f0 12"),
            plain
        );
        for bad in ["", "6000C29a", "zz00C29a-bcde-f012-3456-789abcdef012"] {
            assert_eq!(plain_uuid(bad), None, "{bad}");
        }
    }
}
