//! A seed, its steps and their faults; running, shrinking and replaying them.
//!
//! ```text
//!  seed ──► Plan: a shape of the world, and steps, each with the pause before it
//!            │
//!            ├─ run ──► Report: what the checker says, the trace's hash, edges of the ownership table taken
//!            │
//!            └─ shrink: leave out steps as long as the same promise breaks
//! ```
//! A step carries all numbers it needs, so leaving one out changes no other. Everything that is drawn while a plan runs
//! is drawn from a die of its own part (a guest, the scheduler), seeded by the plan's seed and the part's name, so the
//! parts do not shift each other's luck more than their own steps do.

mod coverage;
mod dice;
mod draw;
mod guests;
mod many;
mod plan;
mod run;
mod shrink;
mod stage;
mod step;
mod takeover;
mod trace;

pub use coverage::{Coverage, Edge};
pub use dice::Dice;
pub use many::{Listener, Slowest, Sum, Wanted, many};
pub use plan::{Plan, Shape};
pub use run::{Report, Takeover, run, run_told, tell_logs};
pub use shrink::{Shrunk, shrink};
pub use step::{Admin, Death, Link, Step, Timed};
pub use trace::Trace;
