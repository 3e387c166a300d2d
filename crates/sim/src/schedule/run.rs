//! One plan from its beginning to the verdict.
//!
//! Two parts: the steps, with whatever goes wrong; then everything is healed, and the world must come to rest: every
//! wanted service runs, then none does, then every volume is mounted once more and read back, then the checker looks at
//! what lies around. The whole takes place on one thread under a paused clock.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::Instant;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::coverage::Coverage;
use super::plan::Plan;
use super::step::Death;
use super::trace::Trace;
use crate::check::Violation;
use crate::schedule::stage::Stage;
use crate::universe::Universe;

/// A takeover that was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeover {
    /// How the owner ended.
    pub death: Death,
    /// The volume is `failover=fence`.
    pub fenced: bool,
    /// From the request to the running service.
    pub took: Duration,
}

/// What came of a plan.
#[derive(Debug, Default)]
pub struct Report {
    /// The plan's seed.
    pub seed: u64,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// Panics anywhere in it.
    pub panics: Vec<String>,
    /// The hash of the second run's trace, where it differs.
    pub differs: Option<u64>,
    /// The trace's hash.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// How long it took there.
    pub simulated: Duration,
    /// Edges of the ownership table taken.
    pub coverage: Coverage,
    /// Takeovers measured.
    pub takeovers: Vec<Takeover>,
    /// The story, where it was asked for.
    pub story: Vec<String>,
}

impl Report {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.violations.is_empty()
            && self.panics.is_empty()
            && self.differs.is_none()
            && self.coverage.forbidden().is_empty()
    }

    /// The first thing that is wrong, in one line.
    #[must_use]
    pub fn first_words(&self) -> String {
        let violation = self.violations.first().map(ToString::to_string);
        let panic = || self.panics.first().map(|text| format!("panic: {text}"));
        let forbidden = || self.coverage.forbidden().first().cloned();
        let differs = || "two runs differ".to_owned();
        let words = violation.or_else(panic).or_else(forbidden);
        words.unwrap_or_else(differs).replace('\n', " ")
    }

    /// Compares with another run of the same plan.
    pub fn compare(&mut self, other: &Self) {
        if other.hash != self.hash {
            self.differs = Some(other.hash);
        }
    }
}

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static RUNNING: Cell<bool> = const { Cell::new(false) };
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Panics of a plan are kept for its report; others are shown as always.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let shown = take_hook();
        set_hook(Box::new(move |info| {
            let running = RUNNING.try_with(Cell::get).unwrap_or_default();
            let text = info.to_string();
            let keep = |kept: &RefCell<Vec<String>>| kept.borrow_mut().push(text);
            if !running || PANICS.try_with(keep).is_err() {
                shown(info);
            }
        }));
    });
}

/// Runs a plan.
#[must_use]
pub fn run(plan: &Plan) -> Report {
    run_as(plan, false)
}

/// Runs a plan and keeps its story.
#[must_use]
pub fn run_told(plan: &Plan) -> Report {
    run_as(plan, true)
}

fn run_as(plan: &Plan, told: bool) -> Report {
    keep_panics();
    PANICS.with(|kept| kept.borrow_mut().clear());
    RUNNING.with(|running| running.set(true));
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without threads and sockets needs nothing that could be missing");
    let done = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(Box::pin(play(plan, told)))
    }));
    drop(runtime);
    RUNNING.with(|running| running.set(false));
    let mut report = done.unwrap_or_default();
    report.seed = plan.seed;
    report.panics = PANICS.with(RefCell::take);
    report
}

async fn play(plan: &Plan, told: bool) -> Report {
    let begun = Instant::now();
    BEGUN.with(|b| b.set(Some(begun)));
    let trace = Trace::new(told);
    let universe = Universe::new(&plan.shape, plan.seed, trace.clone());
    let mut stage = Stage::new(&universe, plan);
    stage.steps(&plan.steps).await;
    stage.heal().await;
    stage.rest().await;
    let violations = universe.checker().verdict();
    universe.end();
    Report {
        violations,
        hash: trace.hash(),
        events: trace.events(),
        simulated: begun.elapsed(),
        coverage: universe.coverage(),
        takeovers: stage.takeovers(),
        story: trace.lines(),
        ..Report::default()
    }
}

/// Shows what the programs log, with simulated time, from now on.
pub fn tell_logs() {
    let shown = tracing_subscriber::fmt()
        .with_timer(SimulatedTime)
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .try_init();
    if let Err(why) = shown {
        tracing::warn!(%why, "logs are shown somewhere else already");
    }
}

struct SimulatedTime;

impl FormatTime for SimulatedTime {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let begun = BEGUN.with(Cell::get);
        let since = begun.map(|begun| begun.elapsed()).unwrap_or_default();
        write!(writer, "{:>9.3}", since.as_secs_f64())
    }
}
