//! Waiting for something to become true: a deadline and a poll instead of a sleep.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Looks until `look` returns a value; `what` names it in the error when it never does.
///
/// # Errors
/// `look` fails, or `limit` has passed.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("{what}: not within {limit:?}");
        }
        thread::sleep(POLL);
    }
}

/// As [`until`], for a condition.
///
/// # Errors
/// `look` fails, or `limit` has passed.
pub fn until_true(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(limit, what, || Ok(look()?.then_some(())))
}
