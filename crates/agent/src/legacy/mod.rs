//! Guests that run the original's plugin: one request in a frame, one reply, the end (see `vdvs_transport::legacy`).
//!
//! ```text
//!   Conn (Peer = VM) ─► request ─► version ─► caller ─► engine, as for our own plugin ─► reply
//! ```
//! * **The VM is the listener's.** The message names none, and cannot.
//! * Every verb goes through the engine's own gate, with its texts and its audit; here stands only what that plugin
//!   expects otherwise: shapes, what counts as success, the size it takes for granted (docs/adr/0065).
//! * It sends no request ids, so each request is a new one: every verb is answered so that asking again is harmless.
//!   *Create* of a volume that exists is never answered as new, because the plugin would format it.
//! * One reply by construction: the connection is taken, answered, and dropped here.
//! * Its requests take places of the VM's classes of calls, like all others. It asks for one at a time, so a wait for
//!   another VM is short here.

mod answers;
mod request;
mod shapes;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, copy, sink};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};
use vdvs_domain::VmId;
use vdvs_engine::Engine;
use vdvs_transport::legacy::{NoRequest, answer, frame, receive};
use vdvs_transport::{Conn, Identity};

use self::request::Request;
use crate::calls::Calls;
use crate::guests::{Guests, vm_of};
use crate::ids::RandomIds;

/// How long a request may take to come, and a reply to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes after a request that are read past before its sender counts as gone.
const CHATTER: u64 = 4096;
/// What the plugin is called where plugins name themselves.
const PROGRAM: &str = "vSphere Docker Volume Service plugin (the original's protocol 2)";
/// The original's words for a service that stops.
const STOPPING: &str = "Service is being stopped: operation declined!";

/// The original's words while its hypervisor does not answer.
const UNAVAILABLE: &str =
    "Service is presently unavailable, ensure the ESXi Host Agent is running on this host";

/// The reply to any request while nobody can say whose it is.
pub(crate) fn unavailable() -> String {
    shapes::error(UNAVAILABLE)
}

/// The service for the original's frames.
#[derive(Debug, Clone)]
pub struct LegacyFront {
    engine: Arc<Engine>,
    guests: Arc<Guests>,
    calls: Calls,
    ids: Arc<RandomIds>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct From {
    pub(crate) vm: VmId,
    /// For lines in the log.
    pub(crate) name: String,
}

impl LegacyFront {
    /// The service over the engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>, guests: Arc<Guests>, calls: Calls) -> Self {
        Self {
            engine,
            guests,
            calls,
            ids: Arc::new(RandomIds),
        }
    }

    /// Serves connections until draining begins, then ends those there are.
    pub async fn serve(self, mut conns: mpsc::Receiver<Conn>, draining: CancellationToken) {
        // As many as the listeners admit, which is bounded for each VM.
        let tasks = TaskTracker::new();
        loop {
            let conn = tokio::select! {
                biased;
                () = draining.cancelled() => break,
                conn = conns.recv() => conn,
            };
            let Some(conn) = conn else { break };
            tasks.spawn(self.clone().one(conn));
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn one(self, mut conn: Conn) {
        let peer = conn.peer().clone();
        let draining = self.calls.draining().clone();
        let request = tokio::select! {
            biased;
            request = receive(&mut conn, PATIENCE) => request,
            () = draining.cancelled() => return reply(&mut conn, &shapes::error(STOPPING)).await,
        };
        let text = match request {
            Ok(text) => text,
            Err(NoRequest::Refused(why)) => {
                info!(%peer, "refused: {why}");
                return reply(&mut conn, &shapes::error(&why)).await;
            }
            Err(why) => return debug!(%peer, "no request: it {why}"),
        };
        if !conn.settle() {
            return debug!(%peer, "its request came too late: another connection has its place");
        }
        let (Some(vm), Identity::Vm { name, .. }) = (vm_of(peer.identity()), peer.identity())
        else {
            let nobody = "the connection came through no VM's socket";
            return reply(&mut conn, &shapes::error(nobody)).await;
        };
        let from = From {
            vm,
            name: name.clone(),
        };
        let said = match Request::parse(&text) {
            Ok(request) => {
                if self.guests.hello(&from.vm, PROGRAM) {
                    info!(vm = %from.name, program = PROGRAM, "hello");
                }
                self.carry_out(&from, request, hung_up(&mut conn)).await
            }
            Err(why) => Some(shapes::error(&why)),
        };
        if let Some(said) = said {
            reply(&mut conn, &said).await;
        }
    }
}

/// Returns when the peer is gone, or goes on talking: what it says after its request is not read.
async fn hung_up(conn: &mut Conn) {
    let mut rest = conn.take(CHATTER);
    copy(&mut rest, &mut sink()).await.ok();
}

async fn reply(conn: &mut Conn, said: &str) {
    let frame = frame(said).or_else(|| {
        warn!(peer = %conn.peer(), bytes = said.len(), "a reply was too long for any reader");
        frame(&shapes::error(
            "the reply is too long; upgrade the plugin in this VM",
        ))
    });
    let Some(frame) = frame else { return };
    let peer = conn.peer().clone();
    if let Err(why) = answer(conn, &frame, PATIENCE).await {
        debug!(%peer, "its reply was not taken: {why}");
    }
}
