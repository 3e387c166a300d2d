//! Which protocol a connection speaks, told by its first bytes.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

/// What every HTTP/2 client says first (RFC 9113, section 3.4).
pub const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What every frame of the original begins with: `0x0BADBEEF`, little-endian.
pub const LEGACY_MAGIC: [u8; 4] = 0x0BAD_BEEF_u32.to_le_bytes();

/// What the bytes seen so far say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The whole HTTP/2 preface: gRPC.
    Grpc,
    /// The original's JSON frames.
    Legacy,
    /// Neither; no further byte changes that.
    Unknown,
    /// Both still possible, or nothing said.
    NeedMore,
}

/// Judges the first bytes of a connection.
#[must_use]
pub fn classify(seen: &[u8]) -> Protocol {
    if seen.starts_with(HTTP2_PREFACE) {
        Protocol::Grpc
    } else if seen.starts_with(&LEGACY_MAGIC) {
        Protocol::Legacy
    } else if HTTP2_PREFACE.starts_with(seen) || LEGACY_MAGIC.starts_with(seen) {
        Protocol::NeedMore
    } else {
        Protocol::Unknown
    }
}

/// The first bytes of a connection, to be read again by whoever speaks its protocol.
#[derive(Debug, Clone)]
pub struct FirstBytes {
    bytes: [u8; HTTP2_PREFACE.len()],
    length: usize,
    taken: usize,
}

impl FirstBytes {
    const fn none() -> Self {
        Self {
            bytes: [0; HTTP2_PREFACE.len()],
            length: 0,
            taken: 0,
        }
    }

    fn seen(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The next bytes not taken yet, at most `max` of them; now they are taken.
    pub(crate) fn take(&mut self, max: usize) -> &[u8] {
        let start = self.taken;
        let end = self.length.min(start.saturating_add(max));
        self.taken = end;
        self.bytes.get(start..end).unwrap_or_default()
    }
}

/// Why a connection is closed before it spoke a protocol.
#[derive(Debug, thiserror::Error)]
pub enum Unspoken {
    /// It said nothing, or not enough, in time.
    #[error("said nothing for {0:?}")]
    Silent(Duration),
    /// It closed first.
    #[error("closed without a word")]
    Closed,
    /// Reading failed.
    #[error("failed")]
    Failed(#[from] io::Error),
}

/// Reads until the protocol is known, at most `patience` long.
///
/// # Errors
/// [`Unspoken`] when the peer is silent, closes, or reading fails.
pub async fn first_bytes(
    stream: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> Result<(Protocol, FirstBytes), Unspoken> {
    let read = async {
        let mut first = FirstBytes::none();
        loop {
            match classify(first.seen()) {
                Protocol::NeedMore => {}
                known => return Ok((known, first)),
            }
            // Never beyond the preface: what follows belongs to the protocol's own reader.
            let room = first.bytes.get_mut(first.length..).unwrap_or_default();
            match stream.read(room).await? {
                0 => return Err(Unspoken::Closed),
                n => first.length = first.length.saturating_add(n),
            }
        }
    };
    timeout(patience, read)
        .await
        .unwrap_or(Err(Unspoken::Silent(patience)))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[test]
    fn the_whole_preface_is_grpc_and_each_part_of_it_is_not_enough() {
        assert_eq!(classify(HTTP2_PREFACE), Protocol::Grpc);
        for n in 0..HTTP2_PREFACE.len() {
            assert_eq!(classify(&HTTP2_PREFACE[..n]), Protocol::NeedMore, "{n}");
        }
        assert_eq!(classify(b"PRI * HTTP/1.1"), Protocol::Unknown);
        assert_eq!(classify(b"GET / HTTP/1.1\r\n"), Protocol::Unknown);
    }

    #[test]
    fn the_originals_magic_is_little_endian() {
        assert_eq!(classify(&[0xef, 0xbe, 0xad, 0x0b]), Protocol::Legacy);
        assert_eq!(classify(&[0xef, 0xbe, 0xad]), Protocol::NeedMore);
        assert_eq!(classify(&[0x0b, 0xad, 0xbe, 0xef]), Protocol::Unknown);
    }

    proptest! {
        #[test]
        fn a_judgement_once_made_stands(bytes in vec(any::<u8>(), 0..40)) {
            let mut known = None;
            for n in 0..=bytes.len() {
                let now = classify(&bytes[..n]);
                if let Some(before) = known {
                    prop_assert_eq!(now, before);
                }
                if now != Protocol::NeedMore {
                    known = Some(now);
                }
            }
        }
    }

    #[tokio::test]
    async fn bytes_that_come_one_by_one_are_all_handed_on() {
        let (mut near, mut far) = duplex(64);
        let write = async {
            for byte in HTTP2_PREFACE {
                far.write_all(&[*byte]).await.unwrap();
            }
        };
        let (read, ()) = tokio::join!(first_bytes(&mut near, Duration::from_secs(10)), write);
        let (protocol, mut first) = read.unwrap();
        assert_eq!(protocol, Protocol::Grpc);
        let mut out = first.take(10).to_vec();
        out.extend_from_slice(first.take(100));
        assert_eq!(out, HTTP2_PREFACE);
        assert!(first.take(100).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_stops_halfway_is_silent() {
        let (mut near, mut far) = duplex(64);
        far.write_all(b"PRI * HT").await.unwrap();
        let got = first_bytes(&mut near, Duration::from_secs(10)).await;
        assert!(matches!(got, Err(Unspoken::Silent(_))), "{got:?}");
    }
}
