//! What a guest or an administrator asks.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::options::{GivenOptions, MAX_OPTIONS, OptionError};
use vdvs_domain::{Epoch, Error, RequestId, VolumeAddress, VolumeId};

use super::{head, invalid, request_id, uuid, volume_id};
use crate::limits::{MAX_FEATURES, MAX_INVENTORY, MAX_LABEL, MAX_OPTION_TEXT, MAX_WAIT, cut};
use crate::v1;
use crate::version::Range;

/// First call on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// What the guest speaks.
    pub versions: Range,
    /// Program and version.
    pub program: String,
    /// What else it can do.
    pub features: Vec<String>,
}

/// Make a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// Id of the request.
    pub request: RequestId,
    /// Which.
    pub address: VolumeAddress,
    /// The options given.
    pub options: GivenOptions,
}

/// Remove a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// Id of the request.
    pub request: RequestId,
    /// Which.
    pub address: VolumeAddress,
    /// And only if it is this one.
    pub volume: Option<VolumeId>,
}

/// Show a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// Which.
    pub address: VolumeAddress,
}

/// Attach a volume to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Id of the request.
    pub request: RequestId,
    /// Which.
    pub address: VolumeAddress,
    /// For reading only.
    pub read_only: bool,
    /// How long to wait for another VM, at most [`MAX_WAIT`].
    pub wait: Duration,
}

/// Detach the attachment of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Detach {
    /// Id of the request.
    pub request: RequestId,
    /// Which volume.
    pub volume: VolumeId,
    /// Which attachment.
    pub epoch: Epoch,
}

/// Formatting is about to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeginFormat {
    /// Id of the request.
    pub request: RequestId,
    /// Which volume.
    pub volume: VolumeId,
    /// Which attachment.
    pub epoch: Epoch,
}

/// Formatting is done and durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FinishFormat {
    /// Id of the request.
    pub request: RequestId,
    /// Which volume.
    pub volume: VolumeId,
    /// Which attachment.
    pub epoch: Epoch,
    /// The file system's UUID.
    pub filesystem: Uuid,
}

/// One line of an [`Inventory`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InventoryItem {
    /// The volume.
    pub volume: VolumeId,
    /// The attachment the guest knows.
    pub epoch: Epoch,
    /// Mounted there.
    pub mounted: bool,
}

/// What a guest believes to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Its lines.
    pub items: Vec<InventoryItem>,
}

/// An administrator removes a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoveVolume {
    /// Id of the request.
    pub request: RequestId,
    /// `[group/]name[@datastore]` or the first digits of an id; the engine finds out which.
    pub address: String,
}

impl TryFrom<v1::HelloRequest> for Hello {
    type Error = Error;

    fn try_from(wire: v1::HelloRequest) -> Result<Self, Error> {
        Ok(Self {
            versions: Range::try_from(wire.versions)?,
            program: printable(&wire.program),
            features: (wire.features.iter().take(MAX_FEATURES))
                .map(|f| printable(f))
                .collect(),
        })
    }
}

/// A label for logs: bounded, and nothing in it moves a terminal's cursor.
fn printable(text: &str) -> String {
    cut(text, MAX_LABEL)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

impl From<Hello> for v1::HelloRequest {
    fn from(hello: Hello) -> Self {
        Self {
            versions: Some(hello.versions.into()),
            program: hello.program,
            features: hello.features,
        }
    }
}

impl TryFrom<v1::CreateVolumeRequest> for Create {
    type Error = Error;

    fn try_from(wire: v1::CreateVolumeRequest) -> Result<Self, Error> {
        Ok(Self {
            request: request_id(wire.head.as_ref())?,
            address: VolumeAddress::parse(&wire.name)?,
            options: given_options(&wire.options)?,
        })
    }
}

fn given_options(map: &BTreeMap<String, String>) -> Result<GivenOptions, Error> {
    if map.len() > MAX_OPTIONS {
        return Err(OptionError::TooMany(map.len()).into());
    }
    if map
        .iter()
        .any(|(k, v)| k.len() > MAX_OPTION_TEXT || v.len() > MAX_OPTION_TEXT)
    {
        let text = format!("a key or value is longer than {MAX_OPTION_TEXT} bytes");
        return Err(invalid("options", &text));
    }
    Ok(GivenOptions::parse(map)?)
}

impl Create {
    /// The request as Docker's words put it: the options stay as given, the agent judges them.
    #[must_use]
    pub fn wire(
        request: RequestId,
        name: &str,
        options: BTreeMap<String, String>,
    ) -> v1::CreateVolumeRequest {
        v1::CreateVolumeRequest {
            head: head(request),
            name: name.to_owned(),
            options,
        }
    }
}

impl TryFrom<v1::DeleteVolumeRequest> for Delete {
    type Error = Error;

    fn try_from(wire: v1::DeleteVolumeRequest) -> Result<Self, Error> {
        Ok(Self {
            request: request_id(wire.head.as_ref())?,
            address: VolumeAddress::parse(&wire.name)?,
            volume: match wire.volume_id.as_str() {
                "" => None,
                id => Some(volume_id(id)?),
            },
        })
    }
}

impl From<Delete> for v1::DeleteVolumeRequest {
    fn from(delete: Delete) -> Self {
        let volume = delete.volume.map(|id| id.to_string());
        Self {
            head: head(delete.request),
            name: delete.address.to_string(),
            volume_id: volume.unwrap_or_default(),
        }
    }
}

impl TryFrom<v1::GetVolumeRequest> for Get {
    type Error = Error;

    fn try_from(wire: v1::GetVolumeRequest) -> Result<Self, Error> {
        Ok(Self {
            address: VolumeAddress::parse(&wire.name)?,
        })
    }
}

impl From<Get> for v1::GetVolumeRequest {
    fn from(get: Get) -> Self {
        Self {
            name: get.address.to_string(),
        }
    }
}

impl TryFrom<v1::AttachVolumeRequest> for Attach {
    type Error = Error;

    fn try_from(wire: v1::AttachVolumeRequest) -> Result<Self, Error> {
        Ok(Self {
            request: request_id(wire.head.as_ref())?,
            address: VolumeAddress::parse(&wire.name)?,
            read_only: wire.read_only,
            wait: Duration::from_millis(wire.wait_budget_ms).min(MAX_WAIT),
        })
    }
}

impl From<Attach> for v1::AttachVolumeRequest {
    fn from(attach: Attach) -> Self {
        Self {
            head: head(attach.request),
            name: attach.address.to_string(),
            read_only: attach.read_only,
            wait_budget_ms: millis(attach.wait),
        }
    }
}

/// Whole milliseconds; no wait here comes near 2^64 of them.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl TryFrom<v1::DetachVolumeRequest> for Detach {
    type Error = Error;

    fn try_from(wire: v1::DetachVolumeRequest) -> Result<Self, Error> {
        Ok(Self {
            request: request_id(wire.head.as_ref())?,
            volume: volume_id(&wire.volume_id)?,
            epoch: Epoch::new(wire.epoch),
        })
    }
}

impl From<Detach> for v1::DetachVolumeRequest {
    fn from(detach: Detach) -> Self {
        Self {
            head: head(detach.request),
            volume_id: detach.volume.to_string(),
            epoch: detach.epoch.number(),
        }
    }
}

impl TryFrom<v1::BeginFormatRequest> for BeginFormat {
    type Error = Error;

    fn try_from(wire: v1::BeginFormatRequest) -> Result<Self, Error> {
        Ok(Self {
            request: request_id(wire.head.as_ref())?,
            volume: volume_id(&wire.volume_id)?,
            epoch: Epoch::new(wire.epoch),
        })
    }
}

impl From<BeginFormat> for v1::BeginFormatRequest {
    fn from(begin: BeginFormat) -> Self {
        Self {
            head: head(begin.request),
            volume_id: begin.volume.to_string(),
            epoch: begin.epoch.number(),
        }
    }
}

impl TryFrom<v1::FinishFormatRequest> for FinishFormat {
    type Error = Error;

    fn try_from(wire: v1::FinishFormatRequest) -> Result<Self, Error> {
        Ok(Self {
            request: request_id(wire.head.as_ref())?,
            volume: volume_id(&wire.volume_id)?,
            epoch: Epoch::new(wire.epoch),
            filesystem: uuid("filesystem_uuid", &wire.filesystem_uuid)?,
        })
    }
}

impl From<FinishFormat> for v1::FinishFormatRequest {
    fn from(finish: FinishFormat) -> Self {
        Self {
            head: head(finish.request),
            volume_id: finish.volume.to_string(),
            epoch: finish.epoch.number(),
            filesystem_uuid: finish.filesystem.to_string(),
        }
    }
}

impl TryFrom<v1::ReportInventoryRequest> for Inventory {
    type Error = Error;

    fn try_from(wire: v1::ReportInventoryRequest) -> Result<Self, Error> {
        if wire.items.len() > MAX_INVENTORY {
            let text = format!(
                "{} are reported, a VM has at most {MAX_INVENTORY}",
                wire.items.len()
            );
            return Err(invalid("items", &text));
        }
        let item = |item: v1::InventoryItem| {
            Ok(InventoryItem {
                volume: volume_id(&item.volume_id)?,
                epoch: Epoch::new(item.epoch),
                mounted: item.mounted,
            })
        };
        let items = wire
            .items
            .into_iter()
            .map(item)
            .collect::<Result<_, Error>>()?;
        Ok(Self { items })
    }
}

impl From<Inventory> for v1::ReportInventoryRequest {
    fn from(inventory: Inventory) -> Self {
        let item = |item: InventoryItem| v1::InventoryItem {
            volume_id: item.volume.to_string(),
            epoch: item.epoch.number(),
            mounted: item.mounted,
        };
        Self {
            items: inventory.items.into_iter().map(item).collect(),
        }
    }
}

impl TryFrom<v1::RemoveVolumeRequest> for RemoveVolume {
    type Error = Error;

    fn try_from(wire: v1::RemoveVolumeRequest) -> Result<Self, Error> {
        Ok(Self {
            request: request_id(wire.head.as_ref())?,
            address: admin_address(wire.address)?,
        })
    }
}

impl From<RemoveVolume> for v1::RemoveVolumeRequest {
    fn from(remove: RemoveVolume) -> Self {
        Self {
            head: head(remove.request),
            address: remove.address,
        }
    }
}

impl TryFrom<v1::InspectVolumeRequest> for String {
    type Error = Error;

    fn try_from(wire: v1::InspectVolumeRequest) -> Result<Self, Error> {
        admin_address(wire.address)
    }
}

/// Group, volume and datastore are each bounded; three of them and two separators are the longest address there is.
fn admin_address(text: String) -> Result<String, Error> {
    const MAX: usize = 3 * 200 + 2;
    if text.is_empty() || text.len() > MAX {
        let problem = format!(
            "has {} bytes; name a volume, as in group/name@datastore",
            text.len()
        );
        return Err(invalid("address", &problem));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0192aaaa-bbbb-7ccc-8ddd-eeee12345678";

    fn with_head() -> Option<v1::RequestHead> {
        Some(v1::RequestHead {
            request_id: ID.to_owned(),
        })
    }

    #[test]
    fn a_change_without_a_request_id_is_refused() {
        let mut wire = v1::DeleteVolumeRequest {
            head: None,
            name: "v".into(),
            volume_id: String::new(),
        };
        assert!(Delete::try_from(wire.clone()).is_err());
        wire.head = Some(v1::RequestHead::default());
        assert!(Delete::try_from(wire.clone()).is_err());
        wire.head = with_head();
        assert_eq!(
            v1::DeleteVolumeRequest::from(Delete::try_from(wire.clone()).unwrap()),
            wire
        );
    }

    #[test]
    fn a_delete_means_one_volume_or_says_none_and_nothing_between() {
        let delete = |volume_id: &str| v1::DeleteVolumeRequest {
            head: with_head(),
            name: "v".into(),
            volume_id: volume_id.to_owned(),
        };
        assert_eq!(Delete::try_from(delete("")).unwrap().volume, None);
        let bound = Delete::try_from(delete(ID)).unwrap();
        assert_eq!(bound.volume.unwrap().to_string(), ID);
        assert_eq!(v1::DeleteVolumeRequest::from(bound), delete(ID));
        for nonsense in [" ", "v", "0192aaaa"] {
            assert!(Delete::try_from(delete(nonsense)).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn options_are_bounded_in_number_and_length_before_they_are_read() {
        let create = |options| {
            Create::try_from(v1::CreateVolumeRequest {
                head: with_head(),
                name: "v@ds".into(),
                options,
            })
        };
        let many = (0..40).map(|n| (format!("k{n}"), String::new())).collect();
        let err = create(many).unwrap_err().to_string();
        assert!(err.starts_with("40 options given"), "{err}");
        let long = BTreeMap::from([("size".to_owned(), "9".repeat(1000))]);
        let err = create(long).unwrap_err().to_string();
        assert!(err.contains("longer than 256 bytes"), "{err}");
        let good = create(BTreeMap::from([("size".to_owned(), "2gb".to_owned())])).unwrap();
        assert_eq!(good.options.capacity().bytes(), 2 << 30);
    }

    #[test]
    fn a_wait_beyond_the_bound_is_cut() {
        let attach = Attach::try_from(v1::AttachVolumeRequest {
            head: with_head(),
            name: "v".into(),
            read_only: false,
            wait_budget_ms: u64::MAX,
        });
        assert_eq!(attach.unwrap().wait, MAX_WAIT);
    }

    #[test]
    fn an_inventory_has_at_most_as_many_lines_as_a_vm_has_disks() {
        let item = v1::InventoryItem {
            volume_id: ID.into(),
            epoch: 3,
            mounted: true,
        };
        let report = |n| v1::ReportInventoryRequest {
            items: vec![item.clone(); n],
        };
        assert!(Inventory::try_from(report(MAX_INVENTORY)).is_ok());
        assert!(Inventory::try_from(report(MAX_INVENTORY + 1)).is_err());
    }

    #[test]
    fn a_hello_cannot_write_on_a_terminal() {
        let hello = Hello::try_from(v1::HelloRequest {
            versions: Some(v1::VersionRange { min: 1, max: 1 }),
            program: format!("evil\u{1b}[2J{}", "x".repeat(500)),
            features: vec![String::new(); 100],
        })
        .unwrap();
        assert!(hello.program.starts_with("evil[2Jx") && hello.program.len() <= MAX_LABEL);
        assert_eq!(hello.features.len(), MAX_FEATURES);
    }
}
