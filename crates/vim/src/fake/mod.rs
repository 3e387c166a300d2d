//! A small fake of hostd, for what simulators do not do: sessions that end, connections that break at chosen places,
//! 503, answers that are cut, late or nonsense, local tickets. Only for tests; it panics.
//!
//! It speaks HTTP/1.1 in the clear on a port of 127.0.0.1. It knows the calls of logging in; every other call is answered
//! by what a test put there with [`Fake::will`] or [`Fake::always`], or refused with `MethodNotFound`. What it cannot
//! show: how a real hostd behaves.

mod http;
mod reply;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use http::serve;
pub use reply::Reply;

/// A request as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The call's name.
    pub call: String,
    /// `SOAPAction`
    pub action: String,
    /// The session's cookie.
    pub cookie: Option<String>,
    /// The body of the envelope.
    pub body: String,
    /// Which connection, counted from 0.
    pub connection: usize,
}

/// The fake.
#[derive(Debug)]
pub struct Fake {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: TaskTracker,
    up: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    script: HashMap<String, VecDeque<Reply>>,
    standing: HashMap<String, Reply>,
    sessions: HashSet<String>,
    logins: usize,
    connections: usize,
    tickets: Option<PathBuf>,
    versions: Option<String>,
}

impl Fake {
    /// Starts one on a free port.
    ///
    /// # Panics
    /// When 127.0.0.1 has none.
    pub async fn start() -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(any)
            .await
            .expect("127.0.0.1 has a free port");
        let fake = Self {
            address: listener.local_addr().expect("it is bound"),
            state: Arc::default(),
            tasks: TaskTracker::new(),
            up: CancellationToken::new(),
        };
        fake.listen(listener);
        fake
    }

    /// Its address, as a client takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/sdk", self.address)
    }

    /// Closes port and connections, as a hostd that was killed. Sessions are forgotten.
    pub async fn stop(&mut self) {
        self.up.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.lock().sessions.clear();
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    /// When somebody took the port meanwhile.
    pub async fn start_again(&mut self) -> io::Result<()> {
        let listener = TcpListener::bind(self.address).await?;
        self.up = CancellationToken::new();
        self.tasks = TaskTracker::new();
        self.listen(listener);
        Ok(())
    }

    /// Closes the connections and goes on listening, as hostd does with idle ones.
    pub async fn hang_up(&mut self) {
        self.stop_connections().await;
    }

    /// The next call of this name is answered so; several are answered in the order given.
    pub fn will(&self, call: &str, reply: Reply) {
        let mut state = self.lock();
        state
            .script
            .entry(call.to_owned())
            .or_default()
            .push_back(reply);
    }

    /// Every call of this name is answered so, unless [`Fake::will`] says otherwise.
    pub fn always(&self, call: &str, reply: Reply) {
        self.lock().standing.insert(call.to_owned(), reply);
    }

    /// Ends all sessions.
    pub fn forget_sessions(&self) {
        self.lock().sessions.clear();
    }

    /// Leaves tickets in this folder.
    pub fn leave_tickets_in(&self, folder: &Path) {
        self.lock().tickets = Some(folder.to_owned());
    }

    /// What `vimServiceVersions.xml` holds; there is none before.
    pub fn list_versions(&self, document: &str) {
        self.lock().versions = Some(document.to_owned());
    }

    /// Every request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How often a call came in.
    #[must_use]
    pub fn count(&self, call: &str) -> usize {
        self.lock().seen.iter().filter(|s| s.call == call).count()
    }

    /// Successful logins so far.
    #[must_use]
    pub fn logins(&self) -> usize {
        self.lock().logins
    }

    async fn stop_connections(&mut self) {
        let state = Arc::clone(&self.state);
        let sessions = state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sessions
            .clone();
        self.stop().await;
        self.start_again()
            .await
            .expect("the port was ours a moment ago");
        self.lock().sessions = sessions;
    }

    fn listen(&self, listener: TcpListener) {
        let (state, tasks, up) = (Arc::clone(&self.state), self.tasks.clone(), self.up.clone());
        let accepting = async move {
            while let Some(Ok((stream, _))) = up.run_until_cancelled(listener.accept()).await {
                let number = {
                    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                    state.connections += 1;
                    state.connections - 1
                };
                let (state, up) = (Arc::clone(&state), up.clone());
                tasks.spawn(async move {
                    up.run_until_cancelled(serve(stream, number, state)).await;
                });
            }
        };
        self.tasks.spawn(accepting);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.up.cancel();
    }
}
