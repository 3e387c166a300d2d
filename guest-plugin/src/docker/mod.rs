//! Docker's volume plugin API on a Unix socket.
//!
//! Only bytes: requests are read and bounded, answers are written, and everything between is the service's. What real
//! engines send is looser than HTTP suggests, and all of it is taken: an empty `Host`, no `Content-Type`, `Opts: null`,
//! bodies with and without a line end, any method.
//!
//! * **A retried request comes with an empty body** (dockerd's reader is spent), and dockerd takes every error of a
//!   look-up for "no such volume". So where a body is needed and none is there, the connection is closed without an
//!   answer; dockerd reports a broken connection, and keeps what it knows.
//! * An error is HTTP 500 with `{"Err": text}`, as the original sent it.
//! * Idle connections stay open for ever: dockerd keeps them. Only a request that has begun must be complete in time.
//! * When a caller goes away its request is dropped, which the service takes for "nobody waits any more".

mod listen;
mod patience;
mod routes;
pub mod wire;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, warn};

pub use listen::{ListenError, bind, resolve_group};
pub use routes::Answer;

use crate::service::Volumes;
use patience::{Patient, Turn};

/// Open connections. dockerd uses a handful; a Mount holds one for up to two minutes.
const MAX_CONNECTIONS: usize = 512;

/// Requests under way. Beyond it callers are cut off, which dockerd retries.
const MAX_REQUESTS: usize = 256;

/// For a request's head and body to arrive once its first byte did.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// After an accept that failed for want of something on this machine.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The front end.
#[derive(Debug)]
pub struct Server {
    volumes: Volumes,
    /// Requests under way.
    busy: AtomicUsize,
}

impl Server {
    /// A front end of this service.
    #[must_use]
    pub fn new(volumes: Volumes) -> Arc<Self> {
        Arc::new(Self {
            volumes,
            busy: AtomicUsize::new(0),
        })
    }

    /// Follows the agent and the clock, and serves until `stop`, then lets requests under way end. Whoever cannot wait
    /// for them drops the future. In this order: what was left of before is being asked about when the first request
    /// comes, which may wait in the socket already.
    pub fn serve(
        self: Arc<Self>,
        listener: UnixListener,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        self.volumes.follow();
        self.accept_all(listener, stop)
    }

    async fn accept_all(self: Arc<Self>, listener: UnixListener, stop: CancellationToken) {
        let tracker = TaskTracker::new();
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &free) => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let server = Arc::clone(&self);
                    let stop = stop.clone();
                    tracker.spawn(async move {
                        server.connection(stream, stop).await;
                        drop(permit);
                    });
                }
                Err(e) => {
                    warn!(error = %e, "a connection of Docker's could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        tracker.close();
        tracker.wait().await;
    }

    async fn connection(self: Arc<Self>, stream: UnixStream, stop: CancellationToken) {
        let turn = Turn::new();
        let io = TokioIo::new(Patient::new(stream, turn.clone(), REQUEST_TIME));
        let server = Arc::clone(&self);
        let service = service_fn(move |request| {
            let server = Arc::clone(&server);
            let turn = turn.clone();
            async move { server.request(request, &turn).await }
        });
        let connection = http1::Builder::new()
            .max_buf_size(64 * 1024)
            .serve_connection(io, service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(e) = ended {
            debug!(error = %e, "connection ended");
        }
    }

    /// Takes a place among the requests under way.
    fn enter(&self) -> Option<Entered<'_>> {
        let before = self.busy.fetch_add(1, Ordering::SeqCst);
        let entered = Entered(&self.busy);
        if before >= MAX_REQUESTS {
            error!("{MAX_REQUESTS} requests of Docker's are under way; this one is cut off");
            return None;
        }
        Some(entered)
    }
}

struct Entered<'a>(&'a AtomicUsize);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn accept(
    listener: &UnixListener,
    free: &Arc<Semaphore>,
) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(free)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// Closing the connection is the answer.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer: {0}")]
pub struct HangUp(String);

impl From<Infallible> for HangUp {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
