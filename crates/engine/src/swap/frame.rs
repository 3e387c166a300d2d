//! How a small shared file looks inside: one header line, then JSON.
//!
//! ```text
//! vdvs record 1 412 8f3a12c0\n{"format":1,...}
//!      kind   │ │   └ CRC-32 of the JSON, hexadecimal
//!             │ └ length of the JSON in bytes
//!             └ format version
//! ```
//! A file whose length or checksum is wrong is *torn*: its writer died, and whoever reads it acts as if it were empty.
//! A whole file of a newer format is refused, never overwritten.

use serde::Serialize;
use serde::de::DeserializeOwned;
use vdvs_domain::Error;

const MAGIC: &str = "vdvs";
/// Longest header line: magic, kind, three numbers, separators.
const MAX_HEADER: usize = 64;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The mark of a datastore.
    Marker,
    /// A configuration document.
    Config,
    /// A claim on a name.
    Claim,
    /// A volume's record.
    Record,
    /// A vmgroup's ledger.
    Ledger,
    /// What a host tells the others.
    Host,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Marker => "datastore",
            Self::Config => "config",
            Self::Claim => "claim",
            Self::Record => "record",
            Self::Ledger => "ledger",
            Self::Host => "host",
        }
    }

    /// Newest format this program writes and reads.
    const fn version(self) -> u32 {
        match self {
            // 2: it may be elsewhere or removed, which who knows only 1 would not notice.
            Self::Config => 2,
            Self::Marker | Self::Claim | Self::Record | Self::Ledger | Self::Host => 1,
        }
    }

    /// Largest file of this kind that is read. A ledger or configuration grows with the number of volumes or VMs
    /// (some 60 bytes each); the others have a bounded number of bounded fields.
    pub(crate) const fn max_bytes(self) -> usize {
        match self {
            Self::Marker | Self::Claim => 16 * 1024,
            Self::Record => 128 * 1024,
            Self::Host => 256 * 1024,
            Self::Config | Self::Ledger => 8 * 1024 * 1024,
        }
    }
}

struct Header<'a> {
    kind: &'a str,
    version: u32,
    body: &'a [u8],
}

/// Puts a value into a frame.
pub(crate) fn encode<T: Serialize>(kind: Kind, value: &T) -> Result<Vec<u8>, Error> {
    let body = serde_json::to_vec(value)
        .map_err(|why| Error::Internal(format!("a {} cannot be written: {why}", kind.name())))?;
    let bytes = around(kind, &body);
    if bytes.len() > kind.max_bytes() {
        return Err(Error::Internal(format!(
            "a {} of {} bytes is larger than any reader accepts",
            kind.name(),
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// A frame with this body.
pub(crate) fn around(kind: Kind, body: &[u8]) -> Vec<u8> {
    let crc = crc32fast::hash(body);
    let mut bytes = header_line(kind.name(), kind.version(), body.len(), crc).into_bytes();
    bytes.push(b'\n');
    bytes.extend_from_slice(body);
    bytes
}

fn header_line(kind: &str, version: u32, length: usize, crc: u32) -> String {
    format!("{MAGIC} {kind} {version} {length} {crc:08x}")
}

fn split(bytes: &[u8]) -> Option<Header<'_>> {
    let end = bytes.iter().take(MAX_HEADER).position(|b| *b == b'\n')?;
    let (line, rest) = bytes.split_at(end);
    let body = rest.get(1..)?;
    let mut words = str::from_utf8(line).ok()?.split(' ');
    if words.next()? != MAGIC {
        return None;
    }
    let (kind, version) = (words.next()?, words.next()?.parse().ok()?);
    let length: usize = words.next()?.parse().ok()?;
    let crc = u32::from_str_radix(words.next()?, 16).ok()?;
    // Numbers have other spellings (`+1`, `01`); no writer of ours uses them.
    let as_written = header_line(kind, version, length, crc).as_bytes() == line;
    let whole = as_written && length == body.len() && crc == crc32fast::hash(body);
    whole.then_some(Header {
        kind,
        version,
        body,
    })
}

/// Whether the bytes are what some writer finished writing.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    split(bytes).is_some()
}

/// Whether the bytes are a whole file of an earlier format.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn is_older(kind: Kind, bytes: &[u8]) -> bool {
    split(bytes).is_some_and(|h| h.kind == kind.name() && h.version < kind.version())
}

/// Takes a value out of a frame; `None` when it is torn. `what` names the file in messages.
pub(crate) fn decode<T: DeserializeOwned>(
    kind: Kind,
    bytes: &[u8],
    what: impl Fn() -> String,
) -> Result<Option<T>, Error> {
    let Some(header) = split(bytes) else {
        return Ok(None);
    };
    if header.kind != kind.name() {
        return Err(Error::Damaged {
            what: what(),
            why: format!("it is a {}, not a {}", header.kind, kind.name()),
        });
    }
    // The checksum covers the body alone; the first format is 1.
    if header.version == 0 {
        return Err(Error::Damaged {
            what: what(),
            why: "there is no format 0".to_owned(),
        });
    }
    if header.version > kind.version() {
        return Err(Error::NewerFormat {
            what: what(),
            found: header.version,
            known: kind.version(),
        });
    }
    serde_json::from_slice(header.body)
        .map(Some)
        .map_err(|why| Error::Damaged {
            what: what(),
            why: why.to_string(),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Vec<u32>>, Error> {
        decode(Kind::Record, bytes, || "the file".to_owned())
    }

    #[test]
    fn what_was_written_is_read_back() {
        let bytes = encode(Kind::Record, &vec![1, 2, 3]).unwrap();
        assert!(is_whole(&bytes));
        assert_eq!(read(&bytes).unwrap(), Some(vec![1, 2, 3]));
    }

    #[test]
    fn every_cut_of_a_file_is_torn() {
        let bytes = encode(Kind::Record, &vec![1, 2, 3]).unwrap();
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]).unwrap(), None, "cut at {cut}");
        }
        let mut longer = bytes.clone();
        longer.push(b' ');
        assert_eq!(read(&longer).unwrap(), None);
    }

    #[test]
    fn a_newer_format_is_refused_and_another_kind_is_damage() {
        let bytes = encode(Kind::Record, &vec![1]).unwrap();
        let newer = String::from_utf8(bytes)
            .unwrap()
            .replacen("record 1 ", "record 2 ", 1);
        assert!(matches!(
            read(newer.as_bytes()),
            Err(Error::NewerFormat { found: 2, .. })
        ));
        let zero = newer.replacen("record 2 ", "record 0 ", 1);
        assert!(matches!(read(zero.as_bytes()), Err(Error::Damaged { .. })));
        let other = encode(Kind::Claim, &vec![1]).unwrap();
        assert!(matches!(read(&other), Err(Error::Damaged { .. })));
        let text = encode(Kind::Record, &"text").unwrap();
        assert!(matches!(read(&text), Err(Error::Damaged { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes).unwrap().is_none());
        }

        #[test]
        fn a_flipped_bit_is_noticed(at in 0usize..60, bit in 0u8..8) {
            let mut bytes = encode(Kind::Record, &vec![1000u32; 10]).unwrap();
            let len = bytes.len();
            bytes[at % len] ^= 1 << bit;
            // Flips in the header may name another kind or version; none may yield other content.
            if let Ok(Some(found)) = read(&bytes) {
                prop_assert_eq!(found, vec![1000u32; 10]);
            }
        }
    }
}
