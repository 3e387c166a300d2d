//! What fuzzers check of this crate (`docs/fuzzing.md`). Each function panics when a promise does not hold.
//!
//! The first byte chooses the message, the others are its encoding. A message that is understood, written again and
//! read again is the same; whatever it holds is within the contract's bounds.

use std::convert::Infallible;
use std::fmt::Debug;

use prost::Message;
use tonic::Status;
use uuid::Uuid;
use vdvs_domain::{Error, VolumeId};

use crate::limits::{MAX_ERROR_TEXT, MAX_FEATURES, MAX_INVENTORY, MAX_LABEL, MAX_WAIT};
use crate::listing::ListVolumesReply;
use crate::model::{
    AdminVm, AdminVolume, Attach, Attached, BeginFormat, Create, DatastoreStatus, Delete, Detach,
    FinishFormat, Get, Hello, HelloAnswer, Inventory, InventoryAnswer, Listing, Notice,
    RemoveVolume, Volume,
};
use crate::{RemoteError, status, v1};

/// What guests and administrators ask.
pub fn requests(bytes: &[u8]) {
    let Some((message, bytes)) = bytes.split_first() else {
        return;
    };
    match message % 11 {
        0 => same::<v1::HelloRequest, Hello>(bytes, |hello| {
            assert!(hello.program.len() <= MAX_LABEL && hello.features.len() <= MAX_FEATURES);
            assert!(!hello.program.contains(char::is_control));
            assert!(hello.versions.min() > 0);
        }),
        1 => same::<v1::DeleteVolumeRequest, Delete>(bytes, |_| {}),
        2 => same::<v1::GetVolumeRequest, Get>(bytes, |_| {}),
        3 => same::<v1::AttachVolumeRequest, Attach>(bytes, |a| assert!(a.wait <= MAX_WAIT)),
        4 => same::<v1::DetachVolumeRequest, Detach>(bytes, |_| {}),
        5 => same::<v1::BeginFormatRequest, BeginFormat>(bytes, |_| {}),
        6 => same::<v1::FinishFormatRequest, FinishFormat>(bytes, |_| {}),
        7 => same::<v1::ReportInventoryRequest, Inventory>(bytes, |report| {
            assert!(report.items.len() <= MAX_INVENTORY);
        }),
        8 => same::<v1::RemoveVolumeRequest, RemoveVolume>(bytes, |_| {}),
        9 => {
            let read = read::<v1::InspectVolumeRequest, String>(bytes);
            assert!(read.is_none_or(|address| !address.is_empty()));
        }
        // Written from what Docker says, not from what was read.
        _ => drop(read::<v1::CreateVolumeRequest, Create>(bytes)),
    }
}

/// What agents answer.
pub fn replies(bytes: &[u8]) {
    let Some((message, bytes)) = bytes.split_first() else {
        return;
    };
    match message % 12 {
        0 => same::<v1::HelloReply, HelloAnswer>(bytes, |_| {}),
        1 => same::<v1::AttachVolumeReply, Attached>(bytes, |_| {}),
        2 => same::<ListVolumesReply, Listing>(bytes, |_| {}),
        3 => same::<v1::ReportInventoryReply, InventoryAnswer>(bytes, |_| {}),
        4 => same::<v1::Volume, Volume>(bytes, |volume| {
            assert!(volume.full_name().datastore.is_some());
        }),
        5 => same::<v1::AdminVolume, AdminVolume>(bytes, |_| {}),
        6 => same::<v1::AdminVm, AdminVm>(bytes, |_| {}),
        7 => same::<v1::Datastore, DatastoreStatus>(bytes, |_| {}),
        8 => drop(read::<v1::BeginFormatReply, Uuid>(bytes)),
        9 => drop(read::<v1::DeleteVolumeReply, VolumeId>(bytes)),
        10 => notice(bytes),
        _ => failure(bytes),
    }
}

/// Why a message is refused; some messages never are.
trait Refusal {
    fn error(self) -> Error;
}

impl Refusal for Error {
    fn error(self) -> Error {
        self
    }
}

impl Refusal for Infallible {
    fn error(self) -> Error {
        match self {}
    }
}

/// The message in these bytes as the inside knows it, if it is one and can be understood.
fn read<W, M>(bytes: &[u8]) -> Option<M>
where
    W: Message + Default,
    M: TryFrom<W>,
    M::Error: Refusal,
{
    match M::try_from(W::decode(bytes).ok()?) {
        Ok(model) => Some(model),
        Err(why) => {
            // A refusal is sent and logged, so a hostile message must not be able to fill it.
            let refused = status::from_error(&why.error());
            assert!(refused.message().len() <= MAX_ERROR_TEXT);
            assert!(!RemoteError::from(refused).transport);
            None
        }
    }
}

fn same<W, M>(bytes: &[u8], bounded: fn(&M))
where
    W: Message + Default + From<M>,
    M: TryFrom<W> + Clone + PartialEq + Debug,
    M::Error: Refusal,
{
    let Some(model) = read::<W, M>(bytes) else {
        return;
    };
    bounded(&model);
    let written = W::from(model.clone()).encode_to_vec();
    assert_eq!(read::<W, M>(&written), Some(model));
}

fn notice(bytes: &[u8]) {
    let Ok(wire) = v1::Notice::decode(bytes) else {
        return;
    };
    if let Ok(Some(notice)) = Notice::read(wire) {
        let again = Notice::read(v1::Notice::from(notice.clone()));
        assert_eq!(again.ok().flatten(), Some(notice));
    }
}

/// A status that something on the way made is never taken for an agent's answer.
fn failure(bytes: &[u8]) {
    let Some((code, text)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(text).into_owned();
    let remote = RemoteError::from(Status::new(i32::from(*code).into(), text));
    assert!(remote.transport && !remote.text.is_empty());
}

#[cfg(test)]
mod tests {
    use vdvs_corpus::check;

    #[test]
    fn any_request_is_refused_or_means_the_same_when_written_again() {
        check("requests", super::requests);
    }

    #[test]
    fn any_reply_is_refused_or_means_the_same_when_written_again() {
        check("replies", super::replies);
    }
}
