//! Time. The only place of this program that asks the system for it.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use vdvs_domain::Timestamp;
use vdvs_engine::ports::Clock;

/// The system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one clock module of the program"
    )]
    fn now(&self) -> Timestamp {
        // A clock before 1970 is a clock that was never set.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}
