//! The accept loop of one listener.
//!
//! ```text
//!   place free? ──► accept ──┬─ connection ──► own task: first bytes ──► Conn into the sink
//!        ▲                   ├─ that connection failed ──► next
//!        └───────────────────┼─ host short of descriptors or memory ──► pause, next
//!                            └─ listener broken ──► the loop ends; its owner makes a new one
//! ```
//! Room is found before `accept`, so a peer whose connections are all in use waits in the kernel's queue and costs us
//! nothing. Connections that have said nothing give way to new ones (see [`crate::places`]), and a peer that connects
//! without end is served at a pace.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::conn::Conn;
use crate::greeting::{Greeting, Refused, Sinks};
use crate::peer::{Identity, Peer};
use crate::places::Places;
use crate::unix::UnixSocket;

/// Bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once. A guest holds one; a restart overlaps two, and a person may look with a second program.
    pub connections: usize,
    /// How long a peer may take to say which protocol it speaks.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8,
            patience: Duration::from_secs(10),
        }
    }
}

/// Pause when the host is short of something; descriptors come back when connections end.
pub(crate) const PAUSE: Duration = Duration::from_millis(200);

/// What an error of `accept` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptFailure {
    /// The pending connection, which is gone.
    Connection,
    /// The host, which is short of something.
    Host,
    /// The listener, which will not recover.
    Listener,
}

/// Judges an error of `accept`.
#[must_use]
pub fn judge(error: &io::Error) -> AcceptFailure {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(
            Errno::ECONNABORTED
            | Errno::EINTR
            | Errno::EAGAIN
            | Errno::EPROTO
            | Errno::EPERM
            | Errno::ECONNRESET
            | Errno::ETIMEDOUT,
        ) => AcceptFailure::Connection,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM) => AcceptFailure::Host,
        _ => AcceptFailure::Listener,
    }
}

/// Accepts connections on one listener and hands them on.
#[derive(Debug)]
pub struct Acceptor {
    identity: Arc<Identity>,
    limits: Limits,
    places: Arc<Places>,
    sinks: Sinks,
    close: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    /// Serves `identity`. Connections go to `sink`; `close` ends the loop **and** the connections it made; `tasks`
    /// holds the tasks that wait for first bytes.
    #[must_use]
    pub fn new(
        identity: Identity,
        limits: Limits,
        sink: mpsc::Sender<Conn>,
        close: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            identity: Arc::new(identity),
            limits,
            places: Places::new(limits.connections),
            sinks: Sinks {
                grpc: sink,
                legacy: None,
            },
            close,
            tasks,
        }
    }

    /// Hands connections that speak the original's protocol to `sink`.
    #[must_use]
    pub fn with_legacy(mut self, sink: mpsc::Sender<Conn>) -> Self {
        self.sinks.legacy = Some(sink);
        self
    }

    /// Counts the connections that exist; stays valid after the loop ended.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        Gauge::of(&self.places)
    }

    /// Runs until `close` is cancelled, or `stop_accepting` is, which leaves the connections alone.
    ///
    /// # Errors
    /// The listener's own failure.
    pub async fn run(
        self,
        socket: &UnixSocket,
        stop_accepting: &CancellationToken,
    ) -> io::Result<()> {
        let mut refused = Refused::default();
        let (tell, mut told) = mpsc::channel(self.limits.connections.max(1));
        let mut number: u64 = 0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.close.cancelled() => return Ok(()),
                () = stop_accepting.cancelled() => return Ok(()),
                Some(closed) = told.recv() => {
                    refused.note(&closed);
                    continue;
                }
                accepted = next(&self.places, socket) => accepted,
            };
            match accepted {
                Ok(stream) => {
                    // Room there was; those that were waiting then may have settled since.
                    let place = loop {
                        if let Some(place) = self.places.take(&self.close) {
                            break place;
                        }
                        tokio::select! {
                            biased;
                            () = self.close.cancelled() => return Ok(()),
                            () = stop_accepting.cancelled() => return Ok(()),
                            () = self.places.room() => {}
                        }
                    };
                    number = number.saturating_add(1);
                    let uid = stream.peer_cred().ok().map(|c| c.uid());
                    let greeting = Greeting {
                        stream,
                        peer: Peer::new(Arc::clone(&self.identity), number, uid),
                        place,
                        patience: self.limits.patience,
                        sinks: self.sinks.clone(),
                        departure: None,
                        tell: tell.clone(),
                    };
                    self.tasks.spawn(greeting.run());
                }
                Err(e) => match judge(&e) {
                    AcceptFailure::Connection => debug!(peer = %self.identity, "accept: {e}"),
                    AcceptFailure::Host => {
                        warn!(peer = %self.identity, "accept: {e}; waiting until the host has some again");
                        sleep(PAUSE).await;
                    }
                    AcceptFailure::Listener => return Err(e),
                },
            }
        }
    }
}

/// How many connections a peer has.
#[derive(Debug, Clone)]
pub struct Gauge(Arc<Places>);

impl Gauge {
    pub(crate) fn of(places: &Arc<Places>) -> Self {
        Self(Arc::clone(places))
    }

    /// Connections now, those included that have not said their protocol yet.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.taken()
    }
}

async fn next(places: &Arc<Places>, socket: &UnixSocket) -> io::Result<UnixStream> {
    // Waits for room, but takes the place only for a connection that is there: places taken are connections counted.
    places.room().await;
    sleep_until(places.pace().due()).await;
    let (stream, _) = socket.listener().accept().await?;
    places.pace().count();
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tempfile::{TempDir, tempdir};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;
    use crate::sniff::{HTTP2_PREFACE, LEGACY_MAGIC};

    struct World {
        _dir: TempDir,
        path: PathBuf,
        conns: mpsc::Receiver<Conn>,
        close: CancellationToken,
        gauge: Gauge,
    }

    fn listen(limits: Limits) -> World {
        let dir = tempdir().unwrap();
        let path = dir.path().join("s");
        let socket = UnixSocket::bind(&path, 0o600).unwrap();
        let (sink, conns) = mpsc::channel(4);
        let close = CancellationToken::new();
        let tasks = TaskTracker::new();
        let acceptor = Acceptor::new(Identity::Admin, limits, sink, close.clone(), tasks.clone());
        let gauge = acceptor.gauge();
        tasks.spawn(async move { acceptor.run(&socket, &CancellationToken::new()).await });
        World {
            _dir: dir,
            path,
            conns,
            close,
            gauge,
        }
    }

    /// Far above what any step here takes.
    const LONG: Duration = Duration::from_secs(20);

    async fn is_closed(stream: &mut UnixStream) {
        let read = timeout(LONG, stream.read(&mut [0; 8])).await;
        // Closing with unread bytes in our queue may also show as a reset.
        assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
    }

    #[tokio::test]
    async fn a_grpc_peer_is_handed_on_with_every_byte() {
        let mut world = listen(Limits::default());
        let nobody = timeout(Duration::from_millis(100), world.conns.recv()).await;
        assert!(nobody.is_err());
        assert_eq!(
            world.gauge.connections(),
            0,
            "waiting for a peer is no peer"
        );
        let mut guest = UnixStream::connect(&world.path).await.unwrap();
        guest.write_all(HTTP2_PREFACE).await.unwrap();
        guest.write_all(b"more").await.unwrap();
        let mut conn = world.conns.recv().await.unwrap();
        assert_eq!(*conn.peer().identity(), Identity::Admin);
        assert_eq!(world.gauge.connections(), 1);
        let mut got = [0; 28];
        conn.read_exact(&mut got).await.unwrap();
        assert_eq!(&got[24..], b"more");
    }

    #[tokio::test]
    async fn unknown_legacy_and_silent_peers_are_closed_and_the_next_is_served() {
        let limits = Limits {
            patience: Duration::from_millis(100),
            ..Limits::default()
        };
        let mut world = listen(limits);
        let mut strange = UnixStream::connect(&world.path).await.unwrap();
        strange.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut old = UnixStream::connect(&world.path).await.unwrap();
        old.write_all(&LEGACY_MAGIC).await.unwrap();
        let mut silent = UnixStream::connect(&world.path).await.unwrap();
        for stream in [&mut strange, &mut old, &mut silent] {
            is_closed(stream).await;
        }
        let mut guest = UnixStream::connect(&world.path).await.unwrap();
        guest.write_all(HTTP2_PREFACE).await.unwrap();
        assert!(timeout(LONG, world.conns.recv()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_peer_beyond_its_bound_waits_until_one_of_its_connections_ends() {
        let limits = Limits {
            connections: 1,
            ..Limits::default()
        };
        let mut world = listen(limits);
        let mut one = UnixStream::connect(&world.path).await.unwrap();
        one.write_all(HTTP2_PREFACE).await.unwrap();
        let first = world.conns.recv().await.unwrap();
        assert_eq!(world.gauge.connections(), 1);
        let mut two = UnixStream::connect(&world.path).await.unwrap();
        two.write_all(HTTP2_PREFACE).await.unwrap();
        let early = timeout(Duration::from_millis(100), world.conns.recv()).await;
        assert!(early.is_err(), "the second came while the first was there");
        drop(first);
        assert!(timeout(LONG, world.conns.recv()).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn silent_peers_give_way_to_one_that_speaks() {
        let limits = Limits {
            connections: 2,
            patience: LONG * 100,
        };
        let mut world = listen(limits);
        let mut crowd = Vec::new();
        for _ in 0..20 {
            crowd.push(UnixStream::connect(&world.path).await.unwrap());
        }
        let mut guest = UnixStream::connect(&world.path).await.unwrap();
        guest.write_all(HTTP2_PREFACE).await.unwrap();
        let conn = timeout(LONG, world.conns.recv()).await.unwrap().unwrap();
        for silent in crowd.iter_mut().take(18) {
            is_closed(silent).await;
        }
        assert!(world.gauge.connections() <= 2);
        drop(conn);
    }

    #[tokio::test]
    async fn closing_the_listener_ends_its_connections() {
        let mut world = listen(Limits::default());
        let mut guest = UnixStream::connect(&world.path).await.unwrap();
        guest.write_all(HTTP2_PREFACE).await.unwrap();
        let mut conn = world.conns.recv().await.unwrap();
        conn.read_exact(&mut [0; 24]).await.unwrap();
        world.close.cancel();
        let read = timeout(LONG, conn.read(&mut [0; 8])).await.unwrap();
        assert_eq!(read.unwrap(), 0);
    }

    #[test]
    fn only_the_listeners_own_failure_ends_the_loop() {
        let judge = |e: Errno| judge(&io::Error::from(e));
        assert_eq!(judge(Errno::ECONNABORTED), AcceptFailure::Connection);
        assert_eq!(judge(Errno::EINTR), AcceptFailure::Connection);
        assert_eq!(judge(Errno::EMFILE), AcceptFailure::Host);
        assert_eq!(judge(Errno::ENOMEM), AcceptFailure::Host);
        assert_eq!(judge(Errno::EBADF), AcceptFailure::Listener);
        assert_eq!(judge(Errno::EINVAL), AcceptFailure::Listener);
    }
}
