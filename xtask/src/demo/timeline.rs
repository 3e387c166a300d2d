//! The demo's voice: one line per event with the seconds since the start, and progress while something long runs.
//!
//! On a terminal the line of a running step is redrawn in place; elsewhere a step that takes long says so every few
//! seconds, so that a log shows it is alive.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

/// How often a running step is redrawn on a terminal.
const REDRAW: Duration = Duration::from_millis(120);
/// How often a running step is mentioned elsewhere.
const MENTION: Duration = Duration::from_secs(10);
const SPINNER: [char; 4] = ['|', '/', '-', '\\'];

/// Prints events with their time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeline {
    start: Instant,
    terminal: bool,
}

impl Timeline {
    pub(crate) fn start() -> Self {
        Self {
            start: Instant::now(),
            terminal: io::stdout().is_terminal(),
        }
    }

    /// A heading between two acts.
    pub(crate) fn act(&self, title: &str) {
        self.line(&format!(
            "\n== {title} {}",
            "=".repeat(74usize.saturating_sub(title.len()))
        ));
    }

    /// Something happened.
    pub(crate) fn event(&self, who: &str, what: &str) {
        self.line(&format!(
            "[{:7.2}s] {who:<9} {what}",
            self.start.elapsed().as_secs_f64()
        ));
    }

    /// Text that belongs to the last event, indented.
    pub(crate) fn quote(&self, text: &str) {
        for line in text.lines() {
            self.line(&format!("             {line}"));
        }
    }

    /// Runs a long step; shows that it runs, and how long it took.
    pub(crate) fn step<T: Send>(
        &self,
        who: &str,
        what: &str,
        work: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        let begun = Instant::now();
        let (done, waiting) = mpsc::channel::<()>();
        let result = thread::scope(|scope| {
            let shown = scope.spawn(move || self.show(who, what, begun, &waiting));
            let result = work();
            drop(done);
            // The display has nothing to say about the work; a panic there must not hide its result.
            drop(shown.join());
            result
        });
        let verdict = if result.is_ok() { "" } else { " -- failed" };
        self.event(
            who,
            &format!("{what} ({:.1} s){verdict}", begun.elapsed().as_secs_f64()),
        );
        result
    }

    fn show(&self, who: &str, what: &str, begun: Instant, waiting: &mpsc::Receiver<()>) {
        let pause = if self.terminal { REDRAW } else { MENTION };
        for turn in 0usize.. {
            match waiting.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => break,
            }
            let seconds = begun.elapsed().as_secs_f64();
            if self.terminal {
                let sign = SPINNER.get(turn % SPINNER.len()).unwrap_or(&' ');
                self.raw(&format!(
                    "\r  {sign} {who:<9} {what} ... {seconds:.0} s \x1b[K"
                ));
            } else {
                self.event(who, &format!("{what} ... {seconds:.0} s"));
            }
        }
        if self.terminal {
            self.raw("\r\x1b[K");
        }
    }

    pub(crate) fn line(&self, text: &str) {
        self.raw(&format!("{text}\n"));
    }

    fn raw(&self, text: &str) {
        let mut out = io::stdout().lock();
        // A reader that went away (a closed pipe) must not end the demo half way: the lab would stay up.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}
