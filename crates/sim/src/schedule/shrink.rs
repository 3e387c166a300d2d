//! A failing schedule with everything left out that it fails without.

use std::time::Duration;

use super::plan::Plan;
use super::run::{Report, run};
use crate::check::Promise;

/// A plan that still breaks the same promise.
#[derive(Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// What it breaks.
    pub report: Report,
    /// How many schedules it took.
    pub tries: usize,
}

/// Leaves out runs of steps, halving their length, then single steps, then pauses, while `plan` still breaks one of the
/// promises it broke, at most `most` schedules long.
#[must_use]
pub fn shrink(plan: &Plan, first: Report, most: usize) -> Shrunk {
    let broken: Vec<Promise> = first.violations.iter().map(|v| v.promise).collect();
    let mut best = Shrunk {
        plan: plan.clone(),
        report: first,
        tries: 0,
    };
    let mut length = plan.steps.len().div_ceil(2);
    while length > 0 && best.tries < most {
        let mut at = 0;
        let mut shorter = false;
        while at < best.plan.steps.len() && best.tries < most {
            let mut steps = best.plan.steps.clone();
            let end = at.saturating_add(length).min(steps.len());
            steps.drain(at..end);
            match better(&mut best, steps, &broken) {
                true => shorter = true,
                false => at += length,
            }
        }
        // The last length again as long as it helps: a step may have been needed for another that is gone now.
        if !shorter || length > 1 {
            length /= 2;
        }
    }
    for at in 0..best.plan.steps.len() {
        if best.tries >= most {
            break;
        }
        let mut steps = best.plan.steps.clone();
        if let Some(step) = steps.get_mut(at).filter(|s| s.after > Duration::ZERO) {
            step.after = Duration::ZERO;
            better(&mut best, steps, &broken);
        }
    }
    best
}

fn better(best: &mut Shrunk, steps: Vec<super::Timed>, broken: &[Promise]) -> bool {
    best.tries += 1;
    let plan = best.plan.with(steps);
    let report = run(&plan);
    let same = report
        .violations
        .iter()
        .any(|v| broken.contains(&v.promise));
    if same {
        best.plan = plan;
        best.report = report;
    }
    same
}
