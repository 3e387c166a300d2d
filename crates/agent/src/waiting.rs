//! What the administrator hears while the host cannot be opened: that it is being waited for, and why.
//!
//! Begins only when the host did not open at once, so an ordinary start binds the socket once, when all is there.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};
use vdvs_domain::Error;
use vdvs_transport::{Acceptor, BindError, Conn, Identity, Limits, UnixSocket, grpc};

use crate::config::Config;
use crate::doors::NotReady;
use crate::hosts::chain;

/// Connections on their way to their answer.
const CONNECTIONS: usize = 8;

/// The administrator's socket while nothing can be done yet.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    why: Arc<Mutex<String>>,
    socket: Option<JoinHandle<UnixSocket>>,
    over: CancellationToken,
    tasks: TaskTracker,
}

impl Waiting {
    /// From now on every call is answered with the reason. Once is enough.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn begin(&mut self, config: &Config) -> Result<(), BindError> {
        if self.socket.is_some() {
            return Ok(());
        }
        let socket = UnixSocket::bind(&config.admin_socket, 0o600)?;
        let (sink, conns) = mpsc::channel(CONNECTIONS);
        let (why, over) = (Arc::clone(&self.why), self.over.clone());
        self.tasks
            .spawn(answer(conns, NotReady::because(why), over.clone()));
        self.socket = Some(self.tasks.spawn(accept(socket, sink, over)));
        Ok(())
    }

    /// Why the host is not there. The log has the first reason, who asks hears the last.
    pub(crate) fn because(&self, why: String) {
        let mut known = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            warn!("{why}; trying again");
        }
        *known = why;
    }

    /// The host is there. The socket, where there is one already.
    pub(crate) async fn end(self) -> Option<UnixSocket> {
        self.over.cancel();
        self.socket?.await.ok()
    }
}

async fn accept(
    socket: UnixSocket,
    sink: mpsc::Sender<Conn>,
    over: CancellationToken,
) -> UnixSocket {
    let (tasks, limits) = (TaskTracker::new(), Limits::default());
    let stopped = CancellationToken::new();
    let acceptor = Acceptor::new(Identity::Admin, limits, sink, stopped, tasks);
    if let Err(e) = acceptor.run(&socket, &over).await {
        error!("the administrator's socket failed; restart this agent: {e}");
    }
    socket
}

async fn answer(conns: mpsc::Receiver<Conn>, service: NotReady, over: CancellationToken) {
    let served = grpc::server().serve_with_incoming_shutdown(
        service,
        grpc::incoming(conns),
        over.cancelled_owned(),
    );
    if let Err(e) = served.await {
        error!(
            "the administrator cannot be answered; restart this agent: {}",
            chain(&e)
        );
    }
}

/// The error of every call.
pub(crate) fn not_open(why: &str) -> Error {
    Error::HostFailed {
        verb: "answer its agent",
        why: match why {
            "" => "it has not answered since the agent started, which goes on asking".to_owned(),
            why => why.to_owned(),
        },
    }
}
