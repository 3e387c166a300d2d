//! An accepted connection whose protocol is known.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use crate::peer::Peer;
use crate::places::Place;
use crate::sniff::FirstBytes;
use crate::vsock::Departure;

/// A connection: its stream, with the bytes that were already looked at, and its [`Peer`].
///
/// It occupies one of its peer's places until dropped, and ends (reads as closed) when its listener is told to close, or
/// when it is shown out before it has [settled](Conn::settle).
pub struct Conn {
    stream: UnixStream,
    first: FirstBytes,
    peer: Peer,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    place: Place,
    departure: Option<Departure>,
}

impl Conn {
    pub(crate) fn new(
        stream: UnixStream,
        first: FirstBytes,
        peer: Peer,
        place: Place,
        departure: Option<Departure>,
    ) -> Self {
        let closed = place.out().clone().cancelled_owned();
        Self {
            stream,
            first,
            peer,
            closed: Box::pin(closed),
            place,
            departure,
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The peer has said all of what it wants: it keeps its place. False: it had to give it to another one.
    pub fn settle(&self) -> bool {
        self.place.settle()
    }

    /// The peer ended the connection. Where the carrier knows why, that is said: a VM that left by vMotion did not
    /// crash, and what it began is finished elsewhere.
    fn departed(&mut self) {
        if let Some(departure) = self.departure.take() {
            departure.report(&self.peer, &self.stream);
        }
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Conn").field(&self.peer).finish()
    }
}

impl Connected for Conn {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let first = self.first.take(buf.remaining());
        if !first.is_empty() {
            buf.put_slice(first);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let room = buf.remaining() > 0;
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if room && matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == before {
            self.departed();
        }
        read
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}
