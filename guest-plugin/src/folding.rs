//! The same line again and again is one line with a count: an idle plugin whose agent is away, or whose disk cannot
//! leave, writes a handful of lines an hour.
//!
//! Lines are the same if they differ in their time only. The first three within an hour are written as they come, the
//! following ones are counted; when the hour is over the count is written once, and if the line still comes, once an
//! hour from then on. What is counted is never lost silently: the next line of any kind brings the counts that are due.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

use crate::clock::{Clock, SystemClock};

const HOUR_MS: u64 = 3_600_000;

/// Written before a line is held for a repetition.
const AS_THEY_COME: u32 = 3;

/// Different lines watched at once. Beyond it lines are written as they come: nothing is lost, only longer.
const MOST: usize = 512;

/// Characters of a line that its count repeats.
const SHOWN: usize = 300;

#[derive(Debug)]
struct Seen {
    text: String,
    since: u64,
    written: u32,
    most: u32,
    held: u64,
}

/// Which lines were written lately. Pure: time is given.
#[derive(Debug, Default)]
struct Folds(HashMap<u64, Seen>);

impl Folds {
    /// What is to be written for this line: the counts that are due, and whether the line itself.
    fn take(&mut self, line: &str, now: u64) -> (Vec<String>, bool) {
        let due = self.due(now);
        // `<time> LEVEL text`: everything but the time.
        let text = line.split_once(' ').map_or(line, |(_, rest)| rest).trim();
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let key = hasher.finish();
        if let Some(seen) = self.0.get_mut(&key) {
            if seen.written < seen.most {
                seen.written += 1;
                return (due, true);
            }
            seen.held += 1;
            return (due, false);
        }
        if self.0.len() < MOST {
            let seen = Seen {
                text: text.chars().take(SHOWN).collect(),
                since: now,
                written: 1,
                most: AS_THEY_COME,
                held: 0,
            };
            self.0.insert(key, seen);
        }
        (due, true)
    }

    /// Counts whose hour is over. A line that was held begins another hour, in which it is only counted.
    fn due(&mut self, now: u64) -> Vec<String> {
        let mut counts = Vec::new();
        self.0.retain(|_, seen| {
            // A clock that was set back ends every hour.
            if now >= seen.since && now - seen.since < HOUR_MS {
                return true;
            }
            if seen.held == 0 {
                return false;
            }
            let minutes = now.saturating_sub(seen.since) / 60_000;
            counts.push(format!(
                "{} more in {minutes} min of: {}",
                seen.held, seen.text
            ));
            seen.since = now;
            seen.most = 0;
            seen.held = 0;
            true
        });
        counts
    }
}

/// A writer of log lines that folds them.
#[derive(Debug)]
pub struct Folding<M> {
    inner: M,
    folds: Arc<Mutex<Folds>>,
}

impl<M> Folding<M> {
    /// Before this writer.
    pub fn new(inner: M) -> Self {
        Self {
            inner,
            folds: Arc::default(),
        }
    }
}

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Folding<M> {
    type Writer = FoldingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        FoldingWriter {
            inner: self.inner.make_writer(),
            folds: Arc::clone(&self.folds),
        }
    }
}

/// One line's way through.
#[derive(Debug)]
pub struct FoldingWriter<W> {
    inner: W,
    folds: Arc<Mutex<Folds>>,
}

impl<W: Write> Write for FoldingWriter<W> {
    /// Takes one whole line: that is how the formatter writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let now = SystemClock.now();
        let (counts, itself) = {
            let mut folds = self.folds.lock().unwrap_or_else(PoisonError::into_inner);
            folds.take(&text, now.millis())
        };
        let time = text.split_once(' ').map_or("", |(time, _)| time);
        for count in counts {
            writeln!(self.inner, "{time}  INFO {count}")?;
        }
        if itself {
            self.inner.write_all(line)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    const MINUTE: u64 = 60_000;

    /// Lines written over some minutes, of one that comes each minute.
    fn written(folds: &mut Folds, minutes: Range<u64>) -> Vec<String> {
        let mut out = Vec::new();
        for minute in minutes {
            let line = format!("2026-01-01T{minute:05} WARN no agent\n");
            let (counts, itself) = folds.take(&line, minute * MINUTE);
            out.extend(counts);
            out.extend(itself.then_some(line));
        }
        out
    }

    #[test]
    fn a_line_that_repeats_is_written_three_times_and_then_counted_by_the_hour() {
        let mut folds = Folds::default();
        let first = written(&mut folds, 0..60);
        assert_eq!(first.len(), 3, "{first:?}");
        let second = written(&mut folds, 60..120);
        assert_eq!(second, ["57 more in 60 min of: WARN no agent"]);
        let third = written(&mut folds, 120..180);
        assert_eq!(third, ["60 more in 60 min of: WARN no agent"]);
        // It stops. The next line of any kind brings the count, and then it is forgotten.
        let (counts, itself) = folds.take("t INFO other", 600 * MINUTE);
        assert!(itself && counts.len() == 1 && counts[0].starts_with("60 more in 480 min"));
        let (counts, itself) = folds.take("t INFO other", 700 * MINUTE);
        assert!(itself && counts.is_empty());
        let again = written(&mut folds, 701..702);
        assert_eq!(again.len(), 1);
    }

    #[test]
    fn different_lines_are_never_held_and_the_table_is_bounded() {
        let mut folds = Folds::default();
        for number in 0..5000 {
            let (counts, itself) = folds.take(&format!("t INFO volume v{number} has left"), 5);
            assert!(itself && counts.is_empty());
        }
        assert!(folds.0.len() <= MOST);
        assert!(folds.take("", 6).1 && folds.take("no-time", 6).1);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_for_ever() {
        let mut folds = Folds::default();
        for _ in 0..10 {
            folds.take("t INFO x", 1000 * MINUTE);
        }
        let (counts, _) = folds.take("t INFO x", 0);
        assert_eq!(counts, ["7 more in 0 min of: INFO x"]);
    }

    #[test]
    fn lines_go_through_whole() {
        let mut writer = FoldingWriter {
            inner: Vec::new(),
            folds: Arc::default(),
        };
        for _ in 0..9 {
            writer.write_all(b"t  INFO ready\n").unwrap();
        }
        assert_eq!(writer.inner, b"t  INFO ready\n".repeat(3));
    }
}
