//! Stages: each is announced, timed and remembered; all run, and what failed is said at the end.
//!
//! A budget is the time a kind of work may take on a plain machine. Beyond it the report warns and does not fail:
//! a noisy neighbour is no defect of the change.

use std::error::Error;
use std::fmt::{self, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::program::Ran;

/// Kinds of work with a ceiling of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Budget {
    Checks,
    Prepare,
    Build,
    Unit,
    Dist,
    Simulation,
    Crash,
    Engine,
    Qemu,
    Vcsim,
    Swarm,
    Schedules,
    Soak,
    Faults,
}

impl Budget {
    const ALL: [Self; 13] = [
        Self::Checks,
        Self::Build,
        Self::Unit,
        Self::Dist,
        Self::Simulation,
        Self::Crash,
        Self::Engine,
        Self::Qemu,
        Self::Vcsim,
        Self::Swarm,
        Self::Schedules,
        Self::Soak,
        Self::Faults,
    ];

    pub(crate) const fn ceiling(self) -> Duration {
        let minutes = match self {
            Self::Checks => 1,
            // Debian packages over a slow mirror, and the test runner built once.
            Self::Prepare => 10,
            // Two of schedules at most; the rest builds them optimised, and searches the small worlds.
            Self::Simulation => 8,
            // Half of it makes the guests' files, once per clone.
            Self::Qemu => 10,
            // Building and clippy together, from nothing.
            Self::Build | Self::Unit | Self::Dist | Self::Swarm => 8,
            Self::Engine | Self::Schedules => 5,
            Self::Crash | Self::Faults | Self::Soak | Self::Vcsim => 4,
        };
        Duration::from_secs(minutes * 60)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checks => "checks of the sources",
            Self::Prepare => "preparing the machine",
            Self::Build => "build and clippy",
            Self::Unit => "unit, property and process tests",
            Self::Dist => "the agent as it ships",
            Self::Simulation => "simulation",
            Self::Crash => "crash matrix",
            Self::Engine => "one engine",
            Self::Qemu => "QEMU virtual machines",
            Self::Vcsim => "simulated hostd",
            Self::Swarm => "swarm",
            Self::Schedules => "schedules of two hosts",
            Self::Soak => "soak",
            Self::Faults => "disks that fail",
        })
    }
}

/// How a stage ended.
#[derive(Debug)]
struct Done {
    name: String,
    budget: Budget,
    took: Duration,
    problems: Vec<String>,
    /// It could not run here, for this reason: neither passed nor failed.
    skipped: Option<String>,
}

impl Done {
    fn verdict(&self) -> &'static str {
        match &self.skipped {
            Some(_) => "SKIPPED",
            None if self.problems.is_empty() => "ok",
            None => "FAILED",
        }
    }
}

/// The error of a stage that this machine cannot run, with the reason: it has neither passed nor failed, and that is
/// said in the table and once more at the end.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Skip {}

/// All stages of one run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    stages: Vec<Done>,
    summaries: Vec<String>,
}

impl Report {
    /// Runs one check; its findings, or the error that kept it from looking, fail the stage.
    pub(crate) fn check(&mut self, name: &str, check: impl FnOnce() -> Result<Vec<String>>) {
        self.stage(name, Budget::Checks, check);
    }

    /// Runs one stage whose work returns what is wrong.
    pub(crate) fn stage(
        &mut self,
        name: &str,
        budget: Budget,
        work: impl FnOnce() -> Result<Vec<String>>,
    ) {
        println!("\n=== {name}");
        let start = Instant::now();
        let (problems, skipped) = match work() {
            Ok(problems) => (problems, None),
            Err(error) => match error.downcast::<Skip>() {
                Ok(Skip(why)) => (Vec::new(), Some(why)),
                Err(error) => (vec![format!("{error:#}")], None),
            },
        };
        let done = Done {
            name: name.to_owned(),
            budget,
            took: start.elapsed(),
            problems,
            skipped,
        };
        for problem in done.problems.iter().chain(&done.skipped) {
            println!("{problem}");
        }
        println!("--- {name}: {} in {}", done.verdict(), seconds(done.took));
        self.stages.push(done);
    }

    /// Runs one stage that is a cargo command, and keeps the test runner's summary for the end.
    pub(crate) fn cargo(&mut self, name: &str, budget: Budget, work: impl FnOnce() -> Result<Ran>) {
        let mut summaries = Vec::new();
        self.stage(name, budget, || {
            let ran = work()?;
            summaries = ran.summaries;
            let failed = || vec!["the command failed; its output is above".to_owned()];
            let (failures, reasons) = (ran.failures, ran.reasons);
            Ok(match ran.ok {
                true => Vec::new(),
                false if failures.is_empty() => failed(),
                false => failures.into_iter().chain(reasons).collect(),
            })
        });
        self.summaries.append(&mut summaries);
    }

    /// Everything is well.
    pub(crate) fn passed(&self) -> bool {
        self.stages.iter().all(|stage| stage.problems.is_empty())
    }

    /// Prints the table, what failed, what took too long, and last the test runner's own summaries.
    pub(crate) fn finish(self, what: &str) -> bool {
        print!("{}", self.text(what));
        self.passed()
    }

    fn text(&self, what: &str) -> String {
        let mut text = format!("\n{:<28} {:>8} {:>9}  result\n", "stage", "time", "ceiling");
        for stage in &self.stages {
            let ceiling = stage.budget.ceiling().as_secs() / 60;
            let took = seconds(stage.took);
            // Writing to a string cannot fail.
            writeln!(
                text,
                "{:<28} {took:>8} {ceiling:>5} min  {}",
                stage.name,
                stage.verdict()
            )
            .ok();
        }
        let all = self.overruns().into_iter().chain(self.skips());
        for line in all.chain(self.failures()) {
            writeln!(text, "{line}").ok();
        }
        let verdict = if self.passed() { "PASS" } else { "FAIL" };
        writeln!(text, "{what}: {verdict}").ok();
        for summary in &self.summaries {
            writeln!(text, "{summary}").ok();
        }
        text
    }

    fn skips(&self) -> Vec<String> {
        let said = |stage: &Done| {
            Some(format!(
                "SKIPPED: {}: {}",
                stage.name,
                stage.skipped.as_ref()?
            ))
        };
        self.stages.iter().filter_map(said).collect()
    }

    fn failures(&self) -> Vec<String> {
        let failed = self
            .stages
            .iter()
            .filter(|stage| !stage.problems.is_empty());
        failed
            .flat_map(|stage| {
                stage
                    .problems
                    .iter()
                    .map(|problem| format!("{}: {problem}", stage.name))
            })
            .collect()
    }

    /// What the stages of one budget took so far. They count together.
    pub(crate) fn spent(&self, budget: Budget) -> Duration {
        let these = self.stages.iter().filter(|stage| stage.budget == budget);
        these.map(|stage| stage.took).sum()
    }

    fn overruns(&self) -> Vec<String> {
        Budget::ALL
            .into_iter()
            .filter(|budget| self.spent(*budget) > budget.ceiling())
            .map(|budget| {
                let ceiling = budget.ceiling().as_secs() / 60;
                let took = seconds(self.spent(budget));
                format!("WARNING: {budget} took {took}, above its ceiling of {ceiling} min")
            })
            .collect()
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(name: &str, budget: Budget, minutes: u64, problems: &[&str]) -> Done {
        let problems = problems.iter().map(|text| (*text).to_owned()).collect();
        Done {
            name: name.to_owned(),
            budget,
            took: Duration::from_secs(minutes * 60),
            problems,
            skipped: None,
        }
    }

    #[test]
    fn one_failed_stage_fails_the_run_and_the_others_still_count() {
        let mut report = Report::default();
        report.check("first", || Ok(vec!["wrong edge".to_owned()]));
        report.check("second", || Ok(Vec::new()));
        report.check("third", || anyhow::bail!("cannot look"));
        assert!(!report.passed());
        assert_eq!(
            report.failures(),
            ["first: wrong edge", "third: cannot look"]
        );
    }

    #[test]
    fn a_stage_that_cannot_run_here_is_never_called_passed() {
        let mut report = Report::default();
        report.stage("qemu", Budget::Qemu, || {
            Err(Skip("no QEMU".to_owned()).into())
        });
        let text = report.text("test");
        assert!(text.contains("SKIPPED\n"), "{text}");
        assert!(text.contains("SKIPPED: qemu: no QEMU"), "{text}");
        assert!(!text.contains(" ok"), "{text}");
    }

    #[test]
    fn stages_of_one_budget_count_together_and_an_overrun_only_warns() {
        let stages = vec![
            done("clippy", Budget::Build, 5, &[]),
            done("build", Budget::Build, 4, &[]),
        ];
        let report = Report {
            stages,
            summaries: Vec::new(),
        };
        assert_eq!(
            report.overruns(),
            ["WARNING: build and clippy took 540.0 s, above its ceiling of 8 min"]
        );
        assert!(report.passed());
    }

    #[test]
    fn the_output_ends_with_the_test_runners_summaries() {
        let stages = vec![done("unit", Budget::Unit, 1, &["FAIL a b"])];
        let summaries = vec!["Summary [ 1s] 2 tests run: 1 passed".to_owned()];
        let text = Report { stages, summaries }.text("test");
        assert!(
            text.ends_with("unit: FAIL a b\ntest: FAIL\nSummary [ 1s] 2 tests run: 1 passed\n")
        );
    }
}
