//! Who hears first that something changed: one waiter per host, with a session of its own.
//!
//! ```text
//!   deaf ── first updates ──► listening ── updates ──► generation + 1, list forgotten
//!    ▲                           │
//!    └────────── error ──────────┘        generation + 1 as well: anything may have happened unheard
//! ```
//!
//! A list of VMs read while listening is what hostd would answer, until the next updates. Deaf, no list is used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::select;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use vdvs_engine::ports::Vm;
use vdvs_vim::{Client, Watch};

/// What is listened to.
const PATHS: &[&str] = &[
    "name",
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.host",
    "config.instanceUuid",
    "config.files.vmPathName",
    "config.changeVersion",
];

/// One wait at the host; a network that swallows connections is noticed after it.
const WAIT: Duration = Duration::from_secs(60);
/// Between two tries to listen, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// For saying good-bye.
const BYE: Duration = Duration::from_secs(2);

#[derive(Debug, Default)]
struct State {
    listening: bool,
    list: Option<(u64, Arc<Vec<Vm>>)>,
}

/// What changed since when.
#[derive(Debug)]
pub(crate) struct Feed {
    generation: watch::Sender<u64>,
    state: Mutex<State>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            // Whoever knows of nothing yet (0) hears at once.
            generation: watch::Sender::new(1),
            state: Mutex::default(),
        }
    }
}

impl Feed {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present generation.
    pub(crate) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// The list of VMs, while it is bound to be true.
    pub(crate) fn list(&self) -> Option<Arc<Vec<Vm>>> {
        let state = self.state();
        let (generation, list) = state.list.as_ref()?;
        (state.listening && *generation == self.generation()).then(|| Arc::clone(list))
    }

    /// A list that was read after the generation was this.
    pub(crate) fn learn(&self, generation: u64, list: &Arc<Vec<Vm>>) {
        self.state().list = Some((generation, Arc::clone(list)));
    }

    /// Something changed, or may have.
    pub(crate) fn tell(&self, listening: bool) {
        {
            let mut state = self.state();
            state.listening = listening;
            state.list = None;
        }
        self.generation.send_modify(|g| *g += 1);
    }

    /// Waits for the end of a generation, at most until the deadline.
    pub(crate) async fn wait(&self, generation: u64, deadline: Instant) -> u64 {
        let mut news = self.generation.subscribe();
        let changed = news.wait_for(|now| *now != generation);
        match timeout_at(deadline, changed).await {
            Ok(Ok(now)) => *now,
            // The sender is ours, so it is there.
            Ok(Err(_)) | Err(_) => self.generation(),
        }
    }

    /// Listens until it is cancelled.
    pub(crate) async fn listen(&self, client: &Client, cancel: &CancellationToken) {
        let mut watch = Watch::new(client, "VirtualMachine", PATHS);
        let (mut pause, longest) = PAUSES;
        loop {
            let next = select! {
                () = cancel.cancelled() => break,
                next = watch.next(WAIT) => next,
            };
            match next {
                Ok(changes) => {
                    pause = PAUSES.0;
                    // Of an inventory that comes in parts the last one tells that all is heard.
                    match changes {
                        Some(changes) => self.tell(!changes.truncated),
                        None => self.state().listening = true,
                    }
                }
                Err(why) => {
                    if self.state().listening {
                        tracing::info!(%why, "not listening to hostd; looking instead until it answers");
                    }
                    self.tell(false);
                    select! {
                        () = cancel.cancelled() => break,
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(longest);
                }
            }
        }
        if let Err(why) = watch.close(Instant::now() + BYE).await {
            tracing::debug!(%why, "a session is left to expire");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_list_counts_only_while_somebody_listens_and_nothing_changed() {
        let (feed, list) = (Feed::default(), Arc::new(Vec::new()));
        feed.learn(feed.generation(), &list);
        assert!(feed.list().is_none(), "nobody listens");
        feed.tell(true);
        let before = feed.generation();
        feed.learn(before, &list);
        assert!(feed.list().is_some());
        feed.tell(true);
        feed.learn(before, &list);
        assert!(feed.list().is_none(), "it was read before the change");
        feed.learn(feed.generation(), &list);
        feed.tell(false);
        assert!(feed.list().is_none(), "nobody listens any more");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_hears_of_the_change_or_of_the_deadline() {
        let feed = Arc::new(Feed::default());
        let deadline = Instant::now() + Duration::from_secs(5);
        assert_eq!(
            feed.wait(0, deadline).await,
            1,
            "at once, when nothing is known"
        );
        assert_eq!(feed.wait(1, deadline).await, 1);
        assert!(Instant::now() >= deadline);
        let wait = feed.wait(1, Instant::now() + Duration::from_secs(5));
        let tell = async { feed.tell(true) };
        assert_eq!(tokio::join!(wait, tell).0, 2);
    }
}
