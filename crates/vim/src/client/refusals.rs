//! Passwords that the host refused.
//!
//! ESXi locks a user out after five failures within fifteen minutes, the administrator with it. Every call that finds no
//! session logs in, so a wrong password would do that within a second. After a refusal nobody tries for a while, and every
//! caller hears why.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::NotSent;

/// After the first refusal: it may have been a host that was not up yet.
const FIRST: Duration = Duration::from_secs(15);

/// After each further one: four within fifteen minutes at most.
const FURTHER: Duration = Duration::from_secs(300);

/// The refusal that is in force, shared by all clients of a host.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Option<Refusal>>);

#[derive(Debug)]
struct Refusal {
    until: Instant,
    why: NotSent,
}

impl Refusals {
    /// Why nobody should try now.
    pub(super) fn in_force(&self) -> Option<NotSent> {
        let refusal = self.lock();
        let refusal = refusal.as_ref().filter(|r| Instant::now() < r.until)?;
        Some(refusal.why.clone())
    }

    /// A password was refused.
    pub(super) fn note(&self, why: &NotSent) {
        let mut refusal = self.lock();
        let rest = if refusal.is_none() { FIRST } else { FURTHER };
        *refusal = Some(Refusal {
            until: Instant::now() + rest,
            why: why.clone(),
        });
    }

    /// Somebody was let in.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wrong_password_is_tried_four_times_in_fifteen_minutes_at_most() {
        let refusals = Refusals::default();
        let mut tries = 0;
        for _ in 0..900 {
            if refusals.in_force().is_none() {
                tries += 1;
                refusals.note(&NotSent::Unavailable);
            }
            advance(Duration::from_secs(1)).await;
        }
        assert_eq!(tries, 4);
        refusals.forget();
        assert_eq!(refusals.in_force(), None);
    }
}
