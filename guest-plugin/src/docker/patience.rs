//! A stream that waits for ever between requests, and not within one.
//!
//! HTTP servers know one time limit for "the next request's head", which would close the idle connections that
//! dockerd keeps. Here the clock starts with the first byte after an answer, and stops when the request is complete.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Whose turn it is on one connection: the caller's to send (even), or ours to work (odd).
#[derive(Debug, Clone)]
pub(super) struct Turn(Arc<AtomicU64>);

impl Turn {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    /// The request is complete: reading has no limit from here, since nothing more is due.
    pub(super) fn ours(&self) {
        self.0.fetch_or(1, Ordering::SeqCst);
    }

    /// Answered: the next byte begins a new request.
    pub(super) fn theirs(&self) {
        let turn = self.0.load(Ordering::SeqCst);
        self.0.store((turn | 1).wrapping_add(1), Ordering::SeqCst);
    }

    fn number(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The stream.
#[derive(Debug)]
pub(super) struct Patient<S> {
    stream: S,
    turn: Turn,
    limit: Duration,
    /// Runs while a request has begun and is not complete.
    clock: Option<Pin<Box<Sleep>>>,
    /// The turn the clock belongs to.
    number: u64,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, turn: Turn, limit: Duration) -> Self {
        Self {
            stream,
            turn,
            limit,
            clock: None,
            number: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let number = self.turn.number();
        if number != self.number {
            self.number = number;
            self.clock = None;
        }
        if number % 2 == 1 {
            return read;
        }
        if read.is_pending() {
            if let Some(clock) = &mut self.clock {
                ready!(clock.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return Poll::Pending;
        }
        if buf.filled().len() > before && self.clock.is_none() {
            let end = Instant::now() + self.limit;
            self.clock = Some(Box::pin(sleep_until(end)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
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

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{advance, timeout};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_never_closed() {
        let (_peer, stream) = duplex(64);
        let mut patient = Patient::new(stream, Turn::new(), LIMIT);
        let mut buf = [0; 8];
        let day = Duration::from_secs(86_400);
        assert!(timeout(day, patient.read(&mut buf)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_has_begun_must_end() {
        let (mut peer, stream) = duplex(64);
        let mut patient = Patient::new(stream, Turn::new(), LIMIT);
        let mut buf = [0; 8];
        peer.write_all(b"POST").await.unwrap();
        assert_eq!(patient.read(&mut buf).await.unwrap(), 4);
        let kind = patient.read(&mut buf).await.unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn while_we_work_the_callers_silence_is_right() {
        let (mut peer, stream) = duplex(64);
        let turn = Turn::new();
        let mut patient = Patient::new(stream, turn.clone(), LIMIT);
        let mut buf = [0; 8];
        peer.write_all(b"POST").await.unwrap();
        assert_eq!(patient.read(&mut buf).await.unwrap(), 4);
        turn.ours();
        let hour = Duration::from_secs(3600);
        assert!(timeout(hour, patient.read(&mut buf)).await.is_err());
        turn.theirs();
        advance(hour).await;
        assert!(timeout(hour, patient.read(&mut buf)).await.is_err());
    }
}
