//! The line that shows how far long work is, on standard error while that is a terminal.

use std::io::{self, Write};

use rustix::stdio;
use rustix::termios::isatty;

use crate::ops::work::Progress;
use crate::render::one_line;
use crate::view::Work;

/// One line that is written over and over, and wiped at the end.
#[derive(Debug)]
pub struct Line {
    terminal: bool,
    shown: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            terminal: isatty(stdio::stderr()),
            shown: false,
        }
    }
}

impl Progress for Line {
    fn show(&mut self, work: &Work) {
        if !self.terminal {
            return;
        }
        self.wipe();
        if work.runs() {
            self.shown = true;
            write(&line(work));
        }
    }
}

impl Line {
    /// Takes the line away.
    pub fn wipe(&mut self) {
        if self.shown {
            self.shown = false;
            write("\r\u{1b}[K");
        }
    }
}

/// A terminal that is gone is nobody to show anything to.
fn write(text: &str) {
    let mut stderr = io::stderr();
    stderr.write_all(text.as_bytes()).ok();
    stderr.flush().ok();
}

fn line(work: &Work) -> String {
    let far = match (work.percent(), work.done) {
        (Some(percent), _) => format!("{percent} %"),
        (None, 0) => "under way".to_owned(),
        (None, done) => done.to_string(),
    };
    format!("{}: {far}", one_line(&work.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_and_how_far() {
        let mut work = Work {
            id: "w1".into(),
            what: "move volumes\u{1b}[2J".into(),
            done: 3,
            total: 12,
            state: "running".into(),
            lines: vec![],
            error: None,
            reason: None,
            started_at: None,
        };
        assert_eq!(line(&work), "move volumes\u{fffd}[2J: 25 %");
        work.total = 0;
        assert_eq!(line(&work), "move volumes\u{fffd}[2J: 3");
        work.total = 2;
        assert_eq!(line(&work), "move volumes\u{fffd}[2J: 100 %");
    }
}
