//! The accept loop of one listener.
//!
//! ```text
//!   place free? ──► accept ──┬─ connection ──► own task: first bytes ──► Conn into the sink
//!        ▲                   ├─ that connection failed ──► next
//!        └───────────────────┼─ host short of descriptors or memory ──► pause, next
//!                            └─ listener broken ──► the loop ends; its owner makes a new one
//! ```
//! A place is taken before `accept`, so a peer beyond its bound waits in the kernel's queue and costs us nothing.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::conn::Conn;
use crate::peer::{Identity, Peer};
use crate::sniff::{self, Protocol, Unspoken};
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
const PAUSE: Duration = Duration::from_millis(200);
/// One line about refused connections per listener and this span; the rest is counted.
const FOLD: Duration = Duration::from_secs(30);

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
    places: Arc<Semaphore>,
    sink: mpsc::Sender<Conn>,
    /// For the original's frames; without it they are refused.
    legacy: Option<mpsc::Sender<Conn>>,
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
            places: Arc::new(Semaphore::new(limits.connections)),
            sink,
            legacy: None,
            close,
            tasks,
        }
    }

    /// Hands connections that speak the original's protocol to `sink`.
    #[must_use]
    pub fn with_legacy(self, sink: mpsc::Sender<Conn>) -> Self {
        Self {
            legacy: Some(sink),
            ..self
        }
    }

    /// Counts the connections that exist; stays valid after the loop ended.
    #[must_use]
    pub fn gauge(&self) -> Gauge {
        Gauge {
            places: Arc::clone(&self.places),
            all: self.limits.connections,
        }
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
                Some(why) = told.recv() => {
                    refused.note(&self.identity, why);
                    continue;
                }
                accepted = next(&self.places, socket) => accepted,
            };
            match accepted {
                Ok((stream, place)) => {
                    number = number.saturating_add(1);
                    let uid = stream.peer_cred().ok().map(|c| c.uid());
                    let peer = Peer::new(Arc::clone(&self.identity), number, uid);
                    let greeting = Greeting {
                        peer,
                        patience: self.limits.patience,
                        sink: self.sink.clone(),
                        legacy: self.legacy.clone(),
                        close: self.close.clone(),
                        tell: tell.clone(),
                    };
                    self.tasks.spawn(greeting.run(stream, place));
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

/// How many connections a listener has.
#[derive(Debug, Clone)]
pub struct Gauge {
    places: Arc<Semaphore>,
    all: usize,
}

impl Gauge {
    /// Connections now, those included that have not said their protocol yet.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.all.saturating_sub(self.places.available_permits())
    }
}

async fn next(
    places: &Arc<Semaphore>,
    socket: &UnixSocket,
) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    // Waits for room, but takes the place only for a connection that is there: places taken are connections counted.
    drop(places.acquire().await.map_err(io::Error::other)?);
    let (stream, _) = socket.listener().accept().await?;
    // Only this loop takes places, so the room is still there.
    let place = Arc::clone(places)
        .try_acquire_owned()
        .map_err(io::Error::other)?;
    Ok((stream, place))
}

/// A connection whose protocol is not known yet.
struct Greeting {
    peer: Peer,
    patience: Duration,
    sink: mpsc::Sender<Conn>,
    legacy: Option<mpsc::Sender<Conn>>,
    close: CancellationToken,
    tell: mpsc::Sender<String>,
}

impl Greeting {
    async fn run(self, mut stream: UnixStream, place: OwnedSemaphorePermit) {
        let first = tokio::select! {
            () = self.close.cancelled() => return,
            first = sniff::first_bytes(&mut stream, self.patience) => first,
        };
        let why = match first {
            Ok((protocol @ (Protocol::Grpc | Protocol::Legacy), first)) => {
                let sink = match protocol {
                    Protocol::Legacy => self.legacy.as_ref(),
                    _ => Some(&self.sink),
                };
                match sink {
                    Some(sink) => {
                        let conn = Conn::new(stream, first, self.peer, self.close, place);
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
        self.tell.try_send(why).ok();
    }
}

/// Folds lines about refused connections, so that no peer fills the log.
#[derive(Debug, Default)]
struct Refused {
    last_line: Option<Instant>,
    folded: u64,
}

impl Refused {
    fn note(&mut self, identity: &Identity, why: String) {
        if self.last_line.is_some_and(|at| at.elapsed() < FOLD) {
            self.folded = self.folded.saturating_add(1);
            return;
        }
        info!(peer = %identity, more_since_last_line = self.folded, "connection closed: it {why}");
        self.last_line = Some(Instant::now());
        self.folded = 0;
    }
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
