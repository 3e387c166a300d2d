//! How many lines one VM may write into the log with requests that are refused.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines about refusals of one VM within a [`SPAN`]. A person reads no more; a flood would push out what matters.
const LINES: u32 = 30;
/// The span.
const SPAN: Duration = Duration::from_secs(60);

/// One VM's share of the log.
#[derive(Debug, Default)]
pub struct Quiet {
    share: Mutex<Share>,
}

#[derive(Debug, Default)]
struct Share {
    since: Option<Instant>,
    said: u32,
    folded: u64,
}

impl Quiet {
    /// Whether the next line may be written, and how many were left out before it.
    pub fn may_say(&self) -> Option<u64> {
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        if share.since.is_none_or(|since| since.elapsed() >= SPAN) {
            share.since = Some(Instant::now());
            share.said = 0;
        }
        if share.said >= LINES {
            share.folded = share.folded.saturating_add(1);
            return None;
        }
        share.said = share.said.saturating_add(1);
        let folded = share.folded;
        share.folded = 0;
        Some(folded)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_the_next_span_says_how_long_it_was() {
        let quiet = Quiet::default();
        let said = (0..1000).filter(|_| quiet.may_say().is_some()).count();
        assert_eq!(said, 30);
        advance(SPAN).await;
        assert_eq!(quiet.may_say(), Some(970));
        assert_eq!(quiet.may_say(), Some(0));
    }
}
