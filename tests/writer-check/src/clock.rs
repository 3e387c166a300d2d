//! The one clock: the machine's uptime, the same for every namespace on it.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// Time since the machine started.
///
/// # Errors
/// The kernel has no such clock.
pub(crate) fn uptime() -> Result<Duration> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).context("read the uptime")?;
    Ok(Duration::from(now))
}

/// In nanoseconds, as the writers' lines have it.
///
/// # Errors
/// As [`uptime`].
pub(crate) fn nanoseconds() -> Result<u64> {
    u64::try_from(uptime()?.as_nanos()).context("the machine runs for ever")
}
