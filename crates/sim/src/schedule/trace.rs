//! What happened in a run, in order: always as a hash, and as lines for who wants to read them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Longest story kept for a reader.
const MOST_LINES: usize = 200_000;

#[derive(Debug)]
struct Kept {
    hash: u64,
    events: u64,
    lines: Option<Vec<String>>,
}

/// Cloning gives the same trace.
#[derive(Debug, Clone)]
pub struct Trace {
    begun: Instant,
    kept: Arc<Mutex<Kept>>,
}

impl Trace {
    /// A trace from now on; `told`: its lines are kept.
    #[must_use]
    pub fn new(told: bool) -> Self {
        Self {
            begun: Instant::now(),
            kept: Arc::new(Mutex::new(Kept {
                // FNV-1a's.
                hash: 0xcbf2_9ce4_8422_2325,
                events: 0,
                lines: told.then(Vec::new),
            })),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self) -> u64 {
        let since = Instant::now().saturating_duration_since(self.begun);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Something happened.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let millis = self.millis();
        let mut kept = self.kept();
        let text = what.to_string();
        kept.mix(&millis.to_le_bytes());
        kept.mix(text.as_bytes());
        kept.events += 1;
        if let Some(lines) = &mut kept.lines
            && lines.len() < MOST_LINES
        {
            lines.push(format!("{:>5}.{:03} {text}", millis / 1000, millis % 1000));
        }
    }

    /// Something happened that no reader needs: only the hash has it.
    pub fn count(&self, bytes: &[u8]) {
        let millis = self.millis();
        let mut kept = self.kept();
        kept.mix(&millis.to_le_bytes());
        kept.mix(bytes);
        kept.events += 1;
    }

    /// The same for the same story.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.kept().hash
    }

    /// How much happened.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.kept().events
    }

    /// The story, where it was kept.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.kept().lines.clone().unwrap_or_default()
    }
}

impl Kept {
    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
