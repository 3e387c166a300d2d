//! Between the wire and the domain. Both directions are here, because both programs use this crate: the agent reads
//! requests and writes replies, the plugin and the command line write requests and read replies.
//!
//! Reading is strict about what decides (names, ids, sizes, states that lead to formatting) and tolerant about what a
//! newer peer may add (unknown fields, option keys, ownership states in words). Whatever cannot be understood in a
//! place that decides is [`Error::Invalid`](vdvs_domain::Error::Invalid), never a default.

mod admin;
mod reply;
mod request;
mod volume;

pub use admin::{AdminVm, AdminVolume, DatastoreStatus};
pub use reply::{Attached, HelloAnswer, InventoryAnswer, Listing, Notice};
pub use request::{
    Attach, BeginFormat, Create, Delete, Detach, FinishFormat, Get, Hello, Inventory,
    InventoryItem, RemoveVolume,
};
pub use volume::{Attachment, State, Volume, options_map};

use uuid::Uuid;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{Error, RequestId, VolumeId};

use crate::limits::cut;
use crate::v1;

/// A malformed field. What the peer wrote is shown only in part: it may be anything.
fn invalid(what: &'static str, problem: &str) -> Error {
    Error::Invalid {
        what,
        problem: problem.to_owned(),
    }
}

fn uuid(what: &'static str, text: &str) -> Result<Uuid, Error> {
    // Other spellings of a UUID (braces, URN) are nobody's here.
    if text.len() != 36 {
        let shown = cut(text, 40);
        return Err(invalid(
            what,
            &format!("'{shown}' is not a UUID of 36 characters"),
        ));
    }
    Uuid::try_parse(text).map_err(|e| invalid(what, &e.to_string()))
}

fn volume_id(text: &str) -> Result<VolumeId, Error> {
    uuid("volume_id", text).map(VolumeId::new)
}

fn request_id(head: Option<&v1::RequestHead>) -> Result<RequestId, Error> {
    let head =
        head.ok_or_else(|| invalid("head", "is missing; every change carries a request id"))?;
    uuid("head.request_id", &head.request_id).map(RequestId::new)
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the field is optional on the wire"
)]
fn head(request: RequestId) -> Option<v1::RequestHead> {
    Some(v1::RequestHead {
        request_id: request.to_string(),
    })
}

fn locator_from_wire(wire: v1::Locator) -> Result<Locator, Error> {
    match wire.kind {
        Some(v1::locator::Kind::Path(path)) if path.starts_with('/') => Ok(Locator::Path(path)),
        Some(v1::locator::Kind::Scsi(scsi)) => Ok(Locator::Scsi {
            controller_pci_slot: scsi.controller_pci_slot,
            target: u8::try_from(scsi.target)
                .map_err(|_| invalid("locator.scsi.target", "is above 255"))?,
        }),
        Some(v1::locator::Kind::Path(_)) => Err(invalid("locator.path", "is not absolute")),
        None => Err(invalid(
            "locator",
            "is of a kind this program does not know; upgrade it",
        )),
    }
}

fn locator_to_wire(locator: Locator) -> v1::Locator {
    let kind = match locator {
        Locator::Scsi {
            controller_pci_slot,
            target,
        } => v1::locator::Kind::Scsi(v1::ScsiLocator {
            controller_pci_slot,
            target: u32::from(target),
        }),
        Locator::Path(path) => v1::locator::Kind::Path(path),
    };
    v1::Locator { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_one_spelling() {
        let id = "0192aaaa-bbbb-7ccc-8ddd-eeee12345678";
        assert_eq!(volume_id(id).unwrap().to_string(), id);
        for bad in [
            "",
            "x",
            &id.replace('-', ""),
            &format!("{{{id}}}"),
            &"é".repeat(18),
        ] {
            assert!(volume_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn locators_survive_the_wire_and_unknown_kinds_are_refused() {
        for locator in [
            Locator::Path("/dev/loop3".into()),
            Locator::Scsi {
                controller_pci_slot: 160,
                target: 255,
            },
        ] {
            let wire = locator_to_wire(locator.clone());
            assert_eq!(locator_from_wire(wire).unwrap(), locator);
        }
        assert!(locator_from_wire(v1::Locator { kind: None }).is_err());
        let kind = Some(v1::locator::Kind::Path("dev/x".into()));
        assert!(locator_from_wire(v1::Locator { kind }).is_err());
    }
}
