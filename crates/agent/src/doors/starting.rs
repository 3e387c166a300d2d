//! What a VM hears while nobody can say which one it is: that this host is not ready, in its own protocol.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tracing::{debug, error};
use vdvs_api::status;
use vdvs_domain::Error;
use vdvs_transport::legacy::{answer, frame, receive};
use vdvs_transport::{Conn, grpc};

use crate::hosts::chain;
use crate::legacy::unavailable;
use crate::waiting::not_open;

/// How long a frame may take to come, and its reply to be taken.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers every call alike.
#[derive(Debug, Clone)]
pub(crate) struct NotReady {
    /// Why the host is not there; none: it is not known who calls.
    why: Option<Arc<Mutex<String>>>,
}

impl NotReady {
    /// For those who are known; the reason may change.
    pub(crate) const fn because(why: Arc<Mutex<String>>) -> Self {
        Self { why: Some(why) }
    }

    const fn unnamed() -> Self {
        Self { why: None }
    }

    fn error(&self) -> Error {
        match &self.why {
            Some(why) => not_open(&why.lock().unwrap_or_else(PoisonError::into_inner)),
            None => Error::HostFailed {
                verb: "say which VM is calling",
                why: "the agent is starting, or hostd does not answer it".to_owned(),
            },
        }
    }
}

impl<B> Service<Request<B>> for NotReady {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(status::from_error(&self.error()).into_http()))
    }
}

/// Serves connections that cannot be named.
pub(super) async fn serve(
    conns: mpsc::Receiver<Conn>,
    legacy: mpsc::Receiver<Conn>,
    draining: CancellationToken,
) {
    let frames = serve_frames(legacy, draining.clone());
    let calls = grpc::server().serve_with_incoming_shutdown(
        NotReady::unnamed(),
        grpc::incoming(conns),
        draining.cancelled_owned(),
    );
    let (served, ()) = tokio::join!(calls, frames);
    if let Err(e) = served {
        error!(
            "the server for VMs that cannot be named failed; restart this agent: {}",
            chain(&e)
        );
    }
}

async fn serve_frames(mut conns: mpsc::Receiver<Conn>, draining: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let conn = tokio::select! {
            () = draining.cancelled() => return,
            conn = conns.recv() => conn,
        };
        let Some(mut conn) = conn else { return };
        tasks.spawn(async move {
            if let Err(why) = receive(&mut conn, PATIENCE).await {
                return debug!(peer = %conn.peer(), "no request: it {why}");
            }
            if let Some(frame) = frame(&unavailable()) {
                // Who does not take it asks again.
                answer(&mut conn, &frame, PATIENCE).await.ok();
            }
        });
    }
}
