//! The plugin's own call to dockerd.
//!
//! Swarm schedules a task with a volume of ours only onto nodes whose dockerd *knows* the driver, and dockerd knows a
//! driver only once something has used it (and forgets at its restart). So whenever dockerd comes up it is asked for
//! its volumes, which makes it ask us. That it came up is seen from a held `GET /events`, which ends when it goes.
//!
//! Nothing else depends on dockerd: it may be absent for ever.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

/// Between two tries to reach dockerd: well below the seconds swarm needs to tell its manager of a driver.
const RETRY: Duration = Duration::from_millis(500);

/// For dockerd to list its volumes. It asks every driver, and gives each one a minute.
const LIST_TIME: Duration = Duration::from_secs(90);

/// For dockerd to begin an answer of the held call.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Only these are sent: there is nothing we want to know of containers. `{"type":["daemon"]}`
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22daemon%22%5D%7D";

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("no connection: {0}")]
    Connect(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no answer in time")]
    Slow,
    #[error("status {0}")]
    Status(u16),
}

/// Makes every dockerd that comes up on this socket know the driver, until stopped.
pub async fn announce(socket: PathBuf, stop: CancellationToken) {
    loop {
        let ended = tokio::select! {
            ended = once(&socket) => ended,
            () = stop.cancelled() => return,
        };
        match ended {
            Ok(()) => info!("dockerd has gone"),
            Err(e) => debug!(error = %e, socket = %socket.display(), "dockerd"),
        }
        tokio::select! {
            () = sleep(RETRY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn once(socket: &Path) -> Result<(), Failed> {
    let tracker = TaskTracker::new();
    let alive = CancellationToken::new();
    let _ends_connections = alive.clone().drop_guard();
    // Held first: a dockerd that restarts between the two calls is noticed.
    let mut events = connect(socket, &tracker, &alive).await?;
    let held = timeout(ANSWER_TIME, get(&mut events, EVENTS))
        .await
        .map_err(|_| Failed::Slow)??;
    let mut volumes = connect(socket, &tracker, &alive).await?;
    let listed = async {
        let answer = get(&mut volumes, "/volumes").await?;
        drain(answer).await
    };
    timeout(LIST_TIME, listed)
        .await
        .map_err(|_| Failed::Slow)??;
    info!("dockerd is up and knows the driver");
    drain(held).await
}

async fn connect(
    socket: &Path,
    tracker: &TaskTracker,
    alive: &CancellationToken,
) -> Result<SendRequest<Empty<Bytes>>, Failed> {
    let stream = UnixStream::connect(socket).await?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let alive = alive.clone();
    tracker.spawn(async move {
        tokio::select! {
            ended = connection => drop(ended),
            () = alive.cancelled() => {}
        }
    });
    Ok(sender)
}

async fn get(
    sender: &mut SendRequest<Empty<Bytes>>,
    path: &str,
) -> Result<Response<Incoming>, Failed> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = path
        .parse()
        .expect("the paths of this module are valid URIs");
    request.headers_mut().insert(
        HOST,
        "docker"
            .parse()
            .expect("a plain word is a valid header value"),
    );
    let answer = sender.send_request(request).await?;
    if !answer.status().is_success() {
        return Err(Failed::Status(answer.status().as_u16()));
    }
    Ok(answer)
}

/// Reads to the end and keeps nothing.
async fn drain(mut answer: Response<Incoming>) -> Result<(), Failed> {
    while let Some(frame) = answer.frame().await {
        drop(frame?);
    }
    Ok(())
}
