//! The frames of the archived vSphere Docker Volume Service, so that its plugin in a guest is served unmodified.
//!
//! ```text
//!   offset 0  u32  0x0BADBEEF, little-endian
//!          4  u32  length of what follows, little-endian, with the NUL at its end
//!          8  text, UTF-8, NUL
//! ```
//! The same in both directions; one request for each connection, then its reply, then the end.
//!
//! * A length is data, not an order to allocate: what is kept grows with what arrives, up to [`MAX_REQUEST`].
//! * **What is wrong with a request is said in a reply** as long as the frame's end can be found: the original closed the
//!   connection without a word, and counted it against everybody (docs/adr/0064). A request that is too large is read to
//!   its end and thrown away first, since its sender reads only when it has sent.
//! * Each step has a deadline. A peer that stops half-way costs a place of its own listener, nothing else.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};
use tokio::time::timeout;

use crate::sniff::LEGACY_MAGIC;

/// Longest request that is read: many times what a name of 200 bytes and all options take. The original read 4096.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Longest request that is read to its end to be refused: the original's plugin sends no longer one. Whoever announces
/// more hears it at once.
const MAX_REFUSED: u64 = 1024 * 1024 + 1;
/// Longest reply: a listing of tens of thousands of volumes.
pub const MAX_REPLY: usize = 16 * 1024 * 1024;
/// Length of what comes before the text.
const HEADER: usize = 8;

/// What is wrong with a frame. Its sender is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Other bytes where the magic should be.
    #[error("the request does not begin with 0x0BADBEEF")]
    Magic,
    /// Longer than anybody needs.
    #[error(
        "the request is {length} bytes long, and at most {MAX_REQUEST} are read; give the volume fewer options"
    )]
    TooLarge {
        /// As the frame says.
        length: u32,
    },
    /// No NUL at the end.
    #[error("the request does not end with a NUL")]
    NoEnd,
    /// A NUL before the end.
    #[error("the request has a NUL before its end")]
    EarlyEnd,
    /// Not UTF-8.
    #[error("the request is not UTF-8 text")]
    NotText,
}

/// Why there is no request.
#[derive(Debug, thiserror::Error)]
pub enum NoRequest {
    /// There is one, and it is wrong.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It did not come to its end in time.
    #[error("did not finish its request for {0:?}")]
    Slow(Duration),
    /// The connection ended first.
    #[error("ended its connection before its request did")]
    Closed,
    /// Reading failed.
    #[error("could not be read")]
    Failed(#[source] io::Error),
}

/// The length that a header announces, the NUL included.
///
/// # Errors
/// [`Refusal::Magic`], [`Refusal::TooLarge`].
pub fn length(header: [u8; HEADER]) -> Result<u32, Refusal> {
    let [a, b, c, d, rest @ ..] = header;
    if [a, b, c, d] != LEGACY_MAGIC {
        return Err(Refusal::Magic);
    }
    let length = u32::from_le_bytes(rest);
    match usize::try_from(length) {
        Ok(fits) if fits <= MAX_REQUEST => Ok(length),
        _ => Err(Refusal::TooLarge { length }),
    }
}

/// The text in a frame's body.
///
/// # Errors
/// [`Refusal::NoEnd`], [`Refusal::EarlyEnd`], [`Refusal::NotText`].
pub fn text(body: &[u8]) -> Result<&str, Refusal> {
    let Some((0, text)) = body.split_last() else {
        return Err(Refusal::NoEnd);
    };
    if text.contains(&0) {
        return Err(Refusal::EarlyEnd);
    }
    str::from_utf8(text).map_err(|_| Refusal::NotText)
}

/// A frame with this text. `None`: it is too long, or has a NUL in it.
#[must_use]
pub fn frame(text: &str) -> Option<Vec<u8>> {
    if text.len() >= MAX_REPLY || text.contains('\0') {
        return None;
    }
    let length = u32::try_from(text.len()).ok()?.checked_add(1)?;
    let mut frame = Vec::with_capacity(text.len() + HEADER + 1);
    frame.extend_from_slice(&LEGACY_MAGIC);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(text.as_bytes());
    frame.push(0);
    Some(frame)
}

/// Reads one request, magic included.
///
/// # Errors
/// [`NoRequest`]; only [`NoRequest::Refused`] is worth a reply.
pub async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    patience: Duration,
) -> Result<String, NoRequest> {
    let broken = |e: io::Error| match e.kind() {
        io::ErrorKind::UnexpectedEof => NoRequest::Closed,
        _ => NoRequest::Failed(e),
    };
    let read = async {
        let mut header = [0; HEADER];
        stream.read_exact(&mut header).await.map_err(broken)?;
        let length = match length(header) {
            Ok(length) => length,
            Err(refusal) => {
                if let Refusal::TooLarge { length } = refusal
                    && u64::from(length) <= MAX_REFUSED
                {
                    let mut rest = (&mut *stream).take(length.into());
                    copy(&mut rest, &mut sink()).await.map_err(broken)?;
                }
                return Err(refusal.into());
            }
        };
        let mut body = Vec::new();
        let mut rest = (&mut *stream).take(length.into());
        let got = rest.read_to_end(&mut body).await.map_err(broken)?;
        if u32::try_from(got) != Ok(length) {
            return Err(NoRequest::Closed);
        }
        Ok(text(&body)?.to_owned())
    };
    timeout(patience, read)
        .await
        .unwrap_or(Err(NoRequest::Slow(patience)))
}

/// Writes the reply in one go, which is how its reader wants it, and ends the connection.
///
/// # Errors
/// The stream's, or that the peer did not take it in time.
pub async fn answer(
    stream: &mut (impl AsyncWrite + Unpin),
    frame: &[u8],
    patience: Duration,
) -> io::Result<()> {
    let write = async {
        stream.write_all(frame).await?;
        stream.flush().await?;
        stream.shutdown().await
    };
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    timeout(patience, write)
        .await
        .unwrap_or_else(|_| Err(late()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::duplex;
    use tokio::runtime::Builder;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn the_frame_is_the_originals_to_the_byte() {
        let bytes = frame("null").unwrap();
        assert_eq!(bytes, b"\xef\xbe\xad\x0b\x05\0\0\0null\0");
        assert_eq!(length(*bytes.first_chunk().unwrap()), Ok(5));
        assert_eq!(text(&bytes[8..]), Ok("null"));
    }

    #[test]
    fn only_whole_text_with_one_nul_at_its_end_is_a_request() {
        assert_eq!(text(b""), Err(Refusal::NoEnd));
        assert_eq!(text(b"{}"), Err(Refusal::NoEnd));
        assert_eq!(text(b"\0"), Ok(""));
        assert_eq!(text(b"{\0}\0"), Err(Refusal::EarlyEnd));
        assert_eq!(text(b"\xff\0"), Err(Refusal::NotText));
        assert_eq!(length(*b"\x0b\xad\xbe\xef\x01\0\0\0"), Err(Refusal::Magic));
        let large = Refusal::TooLarge { length: 0x1_0001 };
        assert_eq!(length(*b"\xef\xbe\xad\x0b\x01\0\x01\0"), Err(large));
        assert_eq!(length(*b"\xef\xbe\xad\x0b\0\0\x01\0"), Ok(0x1_0000));
        assert_eq!(frame("a\0b"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_may_come_byte_by_byte_and_one_that_stops_is_given_up() {
        let (mut near, mut far) = duplex(64);
        let bytes = frame("{\"cmd\":\"list\"}").unwrap();
        let write = async {
            for byte in &bytes {
                far.write_all(&[*byte]).await.unwrap();
            }
        };
        let (got, ()) = tokio::join!(receive(&mut near, SOON), write);
        assert_eq!(got.unwrap(), "{\"cmd\":\"list\"}");
        far.write_all(&bytes[..12]).await.unwrap();
        let got = receive(&mut near, SOON).await;
        assert!(matches!(got, Err(NoRequest::Slow(SOON))), "{got:?}");
        far.write_all(&bytes[..12]).await.unwrap();
        drop(far);
        let got = receive(&mut near, SOON).await;
        assert!(matches!(got, Err(NoRequest::Closed)), "{got:?}");
    }

    #[tokio::test]
    async fn who_sends_too_much_is_read_to_the_end_and_then_told() {
        let (mut near, mut far) = duplex(4096);
        let length: u32 = 300_000;
        let ask = async {
            let mut bytes = LEGACY_MAGIC.to_vec();
            bytes.extend(length.to_le_bytes());
            bytes.resize(bytes.len() + 300_000, b'x');
            far.write_all(&bytes).await.unwrap();
            let mut reply = Vec::new();
            far.read_to_end(&mut reply).await.unwrap();
            reply
        };
        let serve = async {
            match receive(&mut near, SOON).await {
                Err(NoRequest::Refused(why)) => {
                    answer(&mut near, &frame(&why.to_string()).unwrap(), SOON)
                        .await
                        .unwrap();
                }
                other => panic!("{other:?}"),
            }
        };
        let (reply, ()) = tokio::join!(ask, serve);
        let said = text(&reply[8..]).unwrap();
        assert!(
            said.starts_with("the request is 300000 bytes long"),
            "{said}"
        );
    }

    proptest! {
        #[test]
        fn what_is_framed_is_read_back(words in "[^\0]{0,200}") {
            let bytes = frame(&words).unwrap();
            let runtime = Builder::new_current_thread().enable_time().build().unwrap();
            let mut stream = bytes.as_slice();
            let got = runtime.block_on(receive(&mut stream, SOON)).unwrap();
            prop_assert_eq!(got, words);
        }
    }
}
