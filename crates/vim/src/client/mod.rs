//! The client: one session, its connections, and the rules of repetition.
//!
//! ```text
//! call ─► session there? ── no ──► log in (one at a time, the others wait for it)
//!           │ yes
//!           ▼
//!         breaker ─► connection ─► request ─► answer ─► result
//!           │            │            │          └── NotAuthenticated: session dropped; calls that may be
//!           │            │            │              repeated log in again and are sent once more
//!           │            │            └── closed unread on a used connection: those are sent once more
//!           │            └── refused: again with growing waits; nothing was sent
//!           └── resting: wait, at most the patience
//! ```
//!
//! What may be sent twice is said by each call. Everything else is sent once; if its answer is lost, the error says so.
//! A client that is dropped closes its connections; its session expires by itself unless [`Client::logout`] was called.

mod config;
mod exchange;
mod login;
mod refusals;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

pub use config::{Config, Credentials, Secret};
use login::Session;
use refusals::Refusals;

use crate::calls;
use crate::link::{Breaker, Pool, TlsSetup};
use crate::soap::{Answer, Call, Repeat};
use crate::{Error, Lost, NotSent, ServiceContent};

/// Calls at the host at once. hostd has some dozen threads; what waits here has not been sent.
const MOST_CALLS: usize = 32;

/// Calls that wait at the host for a change, at once. They have places of their own: a hundred clones must not keep a
/// detach from being sent.
const MOST_WAITS: usize = 64;

/// How long a session may have been silent before a call that must not be repeated is risked on it. hostd forgets
/// sessions after 30 minutes, and all of them when it restarts.
const FRESH_SESSION: Duration = Duration::from_secs(60);

/// A client of one hostd. Cheap to clone; clones share session and connections.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    config: Config,
    tls: TlsSetup,
    pool: Pool,
    breaker: Breaker,
    calls: Semaphore,
    waits: Semaphore,
    /// The session; swapped whole.
    session: Mutex<Option<Arc<Session>>>,
    /// Held while somebody logs in.
    login: AsyncMutex<()>,
    generation: AtomicU64,
    /// Shared with the clients beside this one: the host counts failures per user.
    refusals: Arc<Refusals>,
    tasks: TaskTracker,
}

impl Client {
    /// A client. Nothing is connected before the first call.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self::with(config, Arc::default())
    }

    fn with(config: Config, refusals: Arc<Refusals>) -> Self {
        Self(Arc::new(Shared {
            tls: TlsSetup::new(config.trust.clone()),
            config,
            pool: Pool::default(),
            breaker: Breaker::default(),
            calls: Semaphore::new(MOST_CALLS),
            waits: Semaphore::new(MOST_WAITS),
            session: Mutex::new(None),
            login: AsyncMutex::new(()),
            generation: AtomicU64::new(0),
            refusals,
            tasks: TaskTracker::new(),
        }))
    }

    /// The same host through connections and a session of its own, as someone who waits for updates needs.
    #[must_use]
    pub fn separate(&self) -> Self {
        Self::with(self.0.config.clone(), Arc::clone(&self.0.refusals))
    }

    /// How this client was configured.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Counts the sessions. When it changed, references to objects learnt before may mean nothing any more: hostd may
    /// have restarted.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Logs in unless there is a session.
    ///
    /// # Errors
    /// [`Error::NotSent`]
    pub async fn login(&self, deadline: Instant) -> Result<(), Error> {
        self.session("Login", deadline).await.map(drop)
    }

    /// `Logout`, and closes the connections put away.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn logout(&self, deadline: Instant) -> Result<(), Error> {
        let session = self.lock_session().take();
        let Some(session) = session else {
            return Ok(());
        };
        let manager = session.content.session_manager.clone();
        let done = match manager {
            Some(manager) => {
                let call = calls::session::logout(&manager);
                self.send(&call, &session, deadline).await.map(drop)
            }
            None => Ok(()),
        };
        self.0.pool.clear();
        done
    }

    /// What this host is and offers, as it said at the login of this session.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn service_content(&self, deadline: Instant) -> Result<Arc<ServiceContent>, Error> {
        let session = self.session("RetrieveServiceContent", deadline).await?;
        Ok(Arc::clone(&session.content))
    }

    /// Sends a call in the session and reads its answer.
    pub(crate) async fn invoke(&self, call: Call, deadline: Instant) -> Result<Answer, Error> {
        let place = if call.waits {
            &self.0.waits
        } else {
            &self.0.calls
        };
        let _place = match timeout_at(deadline, place.acquire()).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => return Err(not_sent(call.name, NotSent::Deadline)),
        };
        let session = self.session(call.name, deadline).await?;
        let session = if call.repeat == Repeat::Never {
            self.proven(session, call.name, deadline).await?
        } else {
            session
        };
        let answer = self.send(&call, &session, deadline).await;
        if !matches!(&answer, Err(why) if why.is_session_lost()) {
            return answer;
        }
        self.lose(&session);
        if call.repeat == Repeat::Never {
            // It had no effect, and whoever wants it again looks first. The next call logs in.
            return answer;
        }
        let session = self.session(call.name, deadline).await?;
        let answer = self.send(&call, &session, deadline).await;
        if matches!(&answer, Err(why) if why.is_session_lost()) {
            self.lose(&session);
        }
        answer
    }

    /// A session the host knows: one that has been silent for long is asked about first.
    async fn proven(
        &self,
        session: Arc<Session>,
        name: &'static str,
        deadline: Instant,
    ) -> Result<Arc<Session>, Error> {
        if session.silent_for() < FRESH_SESSION {
            return Ok(session);
        }
        let Some(call) = login::who_am_i(&session.content) else {
            return Ok(session);
        };
        match self.send(&call, &session, deadline).await {
            Ok(answer) if login::is_nobody(&answer) => {}
            Ok(_) => return Ok(session),
            Err(why) if why.is_session_lost() => {}
            // The call itself was not sent.
            Err(why) => {
                return Err(not_sent(
                    name,
                    NotSent::Connect {
                        address: self.0.config.endpoint.to_string(),
                        cause: why.to_string(),
                    },
                ));
            }
        }
        self.lose(&session);
        self.session(name, deadline).await
    }

    /// The session, after a login if there is none.
    async fn session(&self, name: &'static str, deadline: Instant) -> Result<Arc<Session>, Error> {
        if let Some(session) = self.lock_session().clone() {
            return Ok(session);
        }
        let Ok(_turn) = timeout_at(deadline, self.0.login.lock()).await else {
            return Err(not_sent(name, NotSent::Deadline));
        };
        if let Some(session) = self.lock_session().clone() {
            return Ok(session);
        }
        let session = self.open_session(name, deadline).await?;
        let session = Arc::new(session);
        self.0.generation.fetch_add(1, Ordering::AcqRel);
        *self.lock_session() = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Forgets a session, unless another has taken its place.
    pub(crate) fn lose(&self, session: &Arc<Session>) {
        let mut present = self.lock_session();
        if present.as_ref().is_some_and(|p| Arc::ptr_eq(p, session)) {
            *present = None;
        }
    }

    /// Forgets the session there is.
    pub(crate) fn lose_session(&self) {
        *self.lock_session() = None;
    }

    fn lock_session(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.0
            .session
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.0.config.endpoint)
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

const fn not_sent(call: &'static str, why: NotSent) -> Error {
    Error::NotSent { call, why }
}

const fn unknown(call: &'static str, why: Lost) -> Error {
    Error::Unknown { call, why }
}
