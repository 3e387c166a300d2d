//! Connections put away for the next call.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Connection;

/// hostd closes idle connections: after this long ours are not trusted to be open any more.
const IDLE: Duration = Duration::from_secs(30);

/// The same for a call that must not be sent twice. If hostd closes the connection while such a call goes out, nobody
/// knows what became of it, so it goes out on a connection that carried an answer a moment ago, or on a new one.
const IDLE_FOR_CHANGES: Duration = Duration::from_secs(3);

/// Connections kept. More are opened under load and closed after their answer.
const MOST: usize = 16;

/// The connections, the one used last on top.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Connection>>);

impl Pool {
    /// A connection that should be open still.
    pub(crate) fn take(&self, for_change: bool) -> Option<Connection> {
        let most = if for_change { IDLE_FOR_CHANGES } else { IDLE };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|c| !c.is_closed() && c.since.elapsed() < IDLE);
        // The newest last: if that one is too old, all are.
        kept.pop_if(|c| c.since.elapsed() < most)
    }

    /// Puts a connection away.
    pub(crate) fn put(&self, connection: Connection) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST {
            kept.push(connection);
        }
    }

    /// Closes all.
    pub(crate) fn clear(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
