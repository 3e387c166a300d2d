//! The answer to `ListVolumes`, whose volumes are read only by who wants to see them.
//!
//! On the wire it is what the contract says, a `repeated Volume`; here each volume stays the bytes of its message. An
//! agent answers the same volume to every list, so it encodes it once and copies it; a guest that looks for one name
//! among ten thousand need not build ten thousand maps. The generator is told to use this type (`tests/drift.rs`), and
//! the golden bytes hold it to the contract.

use prost::Message;
pub use prost::bytes::Bytes;

use crate::v1;

/// `vdvs.v1.ListVolumesReply`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ListVolumesReply {
    /// A `vdvs.v1.Volume` each, encoded.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub encoded: Vec<Bytes>,
    /// Datastores that could not be read: volumes on them may be missing here.
    #[prost(string, repeated, tag = "2")]
    pub unreadable_datastores: Vec<String>,
}

/// A volume's message as a list carries it.
#[must_use]
pub fn encoded(volume: &v1::Volume) -> Bytes {
    volume.encode_to_vec().into()
}

impl ListVolumesReply {
    /// The answer with these volumes.
    #[must_use]
    pub fn of(volumes: &[v1::Volume], unreadable_datastores: Vec<String>) -> Self {
        Self {
            encoded: volumes.iter().map(encoded).collect(),
            unreadable_datastores,
        }
    }

    /// The volumes, read.
    ///
    /// # Errors
    /// When one of them is not a volume's message.
    pub fn volumes(&self) -> Result<Vec<v1::Volume>, prost::DecodeError> {
        self.encoded
            .iter()
            .map(|bytes| v1::Volume::decode(bytes.as_ref()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_volume_is_an_error_for_who_reads_it() {
        let good = v1::Volume {
            name: "v".to_owned(),
            ..v1::Volume::default()
        };
        let mut reply = ListVolumesReply::of(&[good.clone(), v1::Volume::default()], Vec::new());
        let sent = ListVolumesReply::decode(reply.encode_to_vec().as_slice()).unwrap();
        assert_eq!(sent.volumes().unwrap(), [good, v1::Volume::default()]);
        reply.encoded.push(Bytes::from_static(b"\xff\xff"));
        assert!(reply.volumes().is_err());
    }
}
