//! From an accepted connection to one whose protocol is known, or closed.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::info;

use crate::conn::Conn;
use crate::peer::{Identity, Peer};
use crate::places::Place;
use crate::sniff::{self, Protocol, Unspoken};
use crate::vsock::Departure;

/// One line about refused connections per peer and this span; the rest is counted.
const FOLD: Duration = Duration::from_secs(30);

/// Where connections go, by protocol.
#[derive(Debug, Clone)]
pub struct Sinks {
    /// gRPC.
    pub grpc: mpsc::Sender<Conn>,
    /// The original's frames; without it they are refused.
    pub legacy: Option<mpsc::Sender<Conn>>,
}

/// A connection that was closed, and why.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) identity: Arc<Identity>,
    pub(crate) why: String,
}

/// A connection whose protocol is not known yet.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) stream: UnixStream,
    pub(crate) peer: Peer,
    pub(crate) place: Place,
    pub(crate) patience: Duration,
    pub(crate) sinks: Sinks,
    /// Asked when the peer ends the connection, where the carrier can tell why.
    pub(crate) departure: Option<Departure>,
    /// Told why a connection was closed.
    pub(crate) tell: mpsc::Sender<Closed>,
}

impl Greeting {
    pub(crate) async fn run(mut self) {
        let identity = self.peer.shared_identity();
        let out = self.place.out().clone();
        let first = tokio::select! {
            // Shown out, or its listener closes: nothing to say about it.
            () = out.cancelled() => return,
            first = sniff::first_bytes(&mut self.stream, self.patience) => first,
        };
        let why = match first {
            Ok((protocol @ (Protocol::Grpc | Protocol::Legacy), first)) => {
                let sink = match protocol {
                    Protocol::Legacy => self.sinks.legacy.as_ref(),
                    _ => Some(&self.sinks.grpc),
                };
                match sink {
                    Some(sink) => {
                        // A frame's sender may still stop in the middle, so whoever reads it settles it.
                        if protocol == Protocol::Grpc && !self.place.settle() {
                            return;
                        }
                        let conn =
                            Conn::new(self.stream, first, self.peer, self.place, self.departure);
                        // The sink closes when the server drains; the peer then sees the end of its connection.
                        sink.send(conn).await.ok();
                        return;
                    }
                    None => "speaks the original's protocol, which is for VMs".to_owned(),
                }
            }
            Ok((Protocol::Unknown | Protocol::NeedMore, _)) => {
                "speaks no protocol of ours".to_owned()
            }
            Err(Unspoken::Closed) => return,
            Err(why @ (Unspoken::Silent(_) | Unspoken::Failed(_))) => why.to_string(),
        };
        // A full queue means lines enough are coming.
        self.tell.try_send(Closed { identity, why }).ok();
    }
}

/// Folds lines about refused connections, so that no peer fills the log.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    last_line: Option<Instant>,
    folded: u64,
}

impl Refused {
    /// Whether it may be said, and how many were not since the last that was.
    pub(crate) fn may_say(&mut self) -> Option<u64> {
        if self.last_line.is_some_and(|at| at.elapsed() < FOLD) {
            self.folded = self.folded.saturating_add(1);
            return None;
        }
        self.last_line = Some(Instant::now());
        Some(take(&mut self.folded))
    }

    pub(crate) fn note(&mut self, Closed { identity, why }: &Closed) {
        if let Some(more_since_last_line) = self.may_say() {
            info!(peer = %identity, more_since_last_line, "connection closed: it {why}");
        }
    }
}
