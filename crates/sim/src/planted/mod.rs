//! Known mistakes, each of which the simulation or the crash matrix must catch: a checker that cannot fail proves nothing.
//!
//! The code that ships knows nothing of this. [`plant`] makes one copy of the workspace's sources in which each place of
//! the [table](MISTAKES) reads *if this mistake is planted, then so, else as it was*; one build of the copy serves
//! all mistakes. Its simulation then runs each mistake's schedules until one catches it.
//!
//! ```text
//!  table ── plant ──► copy of the sources ── cargo ──► vdvs-sim with all mistakes asleep ──► one awake after the other
//! ```
//! A place that is not found exactly once is an error, and a unit test looks for all of them: the table cannot rot.
//! **A schedule counts only if it passes without the mistake**, so a defect of ours is not taken for a catch.

mod copy;
mod hunt;
mod table;

pub use copy::plant;
pub use hunt::{Caught, Hunt};
pub use table::MISTAKES;

/// A place, and what a mistaken engineer would have written there.
#[derive(Debug, Clone, Copy)]
pub struct Mistake {
    /// What is wrong then.
    pub name: &'static str,
    /// The promise that it breaks first.
    pub breaks: &'static str,
    /// Source file, below the workspace.
    pub file: &'static str,
    /// What stands before it.
    pub before: &'static str,
    /// The right text.
    pub original: &'static str,
    /// What stands after it.
    pub after: &'static str,
    /// The wrong one.
    pub instead: Instead,
}

/// How the wrong text is put there.
#[derive(Debug, Clone, Copy)]
pub enum Instead {
    /// Both are expressions of one type.
    Expression(&'static str),
    /// It holds the right text too, with `PLANTED` as the condition.
    Text(&'static str),
}

/// Whether this program is the copy's, where mistakes can be awake.
pub const IS_PLANTED: bool = false;

/// Lets one mistake be awake, by its number; 0: none.
pub fn wake(number: usize) {
    let _ = number;
}

/// How often the place of the mistake that is awake was passed.
#[must_use]
pub fn passed() -> u64 {
    0
}
