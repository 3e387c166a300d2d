//! Compression that is the same everywhere, and unpacking that stops at a bound.

use std::io::{Read as _, Write as _};

use flate2::bufread::GzDecoder;
use flate2::{Compression, GzBuilder};

use crate::error::ReadError;

/// Far above any agent with its command line; the smallest host has 4 GB.
pub const MOST_UNPACKED: u64 = 256 * 1024 * 1024;

const WHAT: &str = "the compressed payload";

/// Packs, without time, name or system in the header.
#[must_use]
pub fn pack(bytes: &[u8]) -> Vec<u8> {
    /// *Unknown system.*
    const NO_SYSTEM: u8 = 255;
    let mut packer = GzBuilder::new()
        .mtime(0)
        .operating_system(NO_SYSTEM)
        .write(Vec::new(), Compression::best());
    packer
        .write_all(bytes)
        .and_then(|()| packer.finish())
        .expect("memory takes everything")
}

/// Unpacks one gzip stream, which must be all there is.
///
/// # Errors
/// [`ReadError`], also when more than [`MOST_UNPACKED`] comes out.
pub fn unpack(bytes: &[u8]) -> Result<Vec<u8>, ReadError> {
    unpack_bounded(bytes, MOST_UNPACKED)
}

fn unpack_bounded(bytes: &[u8], most: u64) -> Result<Vec<u8>, ReadError> {
    let mut decoder = GzDecoder::new(bytes);
    let mut out = Vec::new();
    let read = decoder
        .by_ref()
        .take(most.saturating_add(1))
        .read_to_end(&mut out);
    read.map_err(|e| ReadError::malformed(WHAT, e.to_string()))?;
    let came = out.len() as u64;
    if came > most {
        return Err(ReadError::TooLarge {
            what: WHAT,
            bytes: came,
            most,
        });
    }
    if decoder.into_inner().is_empty() {
        Ok(out)
    } else {
        Err(ReadError::malformed(WHAT, "something follows it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_nothing_about_when_and_where() {
        let packed = pack(b"abc");
        // Magic, deflate, no flags, no time, best compression, unknown system.
        assert_eq!(packed[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 255]);
        assert_eq!(unpack(&packed).unwrap(), b"abc");
        assert_eq!(packed, pack(b"abc"));
    }

    #[test]
    fn a_bomb_ends_at_the_bound() {
        let packed = pack(&vec![0; 100_000]);
        assert!(packed.len() < 1000);
        let refused = unpack_bounded(&packed, 99_999);
        assert!(
            matches!(refused, Err(ReadError::TooLarge { .. })),
            "{refused:?}"
        );
        assert_eq!(unpack_bounded(&packed, 100_000).unwrap().len(), 100_000);
    }

    #[test]
    fn what_is_cut_damaged_or_followed_by_something_is_refused() {
        let packed = pack(b"payload of a package");
        for end in 0..packed.len() {
            assert!(unpack(&packed[..end]).is_err(), "{end}");
        }
        let mut damaged = packed.clone();
        let last = damaged.len() - 1;
        damaged[last - 5] ^= 1;
        assert!(unpack(&damaged).is_err());
        assert!(unpack(&[packed, b"x".to_vec()].concat()).is_err());
    }
}
