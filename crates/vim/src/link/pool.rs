//! Connections put away for the next call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::task::TaskTracker;

use super::Connection;

/// hostd closes idle connections: after this long ours are not trusted to be open any more.
const IDLE: Duration = Duration::from_secs(30);

/// The same for a call that must not be sent twice. If hostd closes the connection while such a call goes out, nobody
/// knows what became of it, so it goes out on a connection that carried an answer a moment ago, or on a new one.
const IDLE_FOR_CHANGES: Duration = Duration::from_secs(3);

/// Connections kept. More are opened under load and closed after their answer.
const MOST: usize = 32;

/// The connections, the one used last on top.
#[derive(Debug, Default)]
pub(crate) struct Pool(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    connections: Vec<Connection>,
    /// Somebody closes what nobody takes.
    swept: bool,
}

impl Pool {
    /// A connection that should be open still.
    pub(crate) fn take(&self, for_change: bool) -> Option<Connection> {
        let most = if for_change { IDLE_FOR_CHANGES } else { IDLE };
        let mut kept = lock(&self.0);
        kept.sweep();
        // The newest last: if that one is too old, all are.
        kept.connections.pop_if(|c| c.since.elapsed() < most)
    }

    /// Puts a connection away.
    pub(crate) fn put(&self, connection: Connection, tasks: &TaskTracker) {
        let mut kept = lock(&self.0);
        if kept.connections.len() < MOST {
            kept.connections.push(connection);
        }
        if kept.swept {
            return;
        }
        kept.swept = true;
        // Ends when the pool is gone or empty.
        let pool = Arc::downgrade(&self.0);
        tasks.spawn(async move {
            loop {
                sleep(IDLE).await;
                let Some(pool) = pool.upgrade() else { return };
                let mut kept = lock(&pool);
                kept.sweep();
                if kept.connections.is_empty() {
                    kept.swept = false;
                    return;
                }
            }
        });
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        lock(&self.0).connections.clear();
    }
}

impl Kept {
    fn sweep(&mut self) {
        self.connections
            .retain(|c| !c.is_closed() && c.since.elapsed() < IDLE);
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
