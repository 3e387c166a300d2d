//! `cargo xtask test`: the suites, stage by stage, cheapest first.
//!
//! The suites that drive a real engine or a swarm own the machine's devices and namespaces, so they run after the
//! others and one at a time (`.config/nextest.toml`). They are told apart by the names of their test binaries.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use vdvs_testkit::lab::qemu::{Availability, prepare};
use vdvs_testkit::lab::{AGENT_VARIABLE, PACKAGES, ensure_packages};
use vdvs_testkit::vcsim;

use crate::check;
use crate::dist;
use crate::program::{self, Ran};
use crate::reduced;
use crate::report::{Budget, Report, Skip};
use crate::sim;

/// A stage a person can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Programs and test binaries are built.
    Build,
    /// Unit, property and process tests.
    Unit,
    /// Examples in the documentation.
    Doc,
    /// The agent as it ships, and the suites of programs with it, on a kernel that lacks what a hypervisor's lacks.
    Dist,
    /// Fresh seeds of the simulated world for some minutes, and the exhaustive search of small ones.
    Sim,
    /// The real code stopped at every call to a port, in every operation: test binary `crash_matrix`.
    Crash,
    /// Suites with one real engine: test binaries `engine_*`.
    Engine,
    /// Suites with QEMU virtual machines: test binaries `qemu_*`.
    Qemu,
    /// Suites against a simulated hostd that others wrote: test binaries `vcsim_*`.
    Vcsim,
    /// Suites with a real swarm: test binaries `swarm_*`.
    Swarm,
    /// Schedules of faults and takeovers over two hosts with real engines: test binaries `schedules_*`.
    Schedules,
    /// Random work and kills for `VDVS_SOAK_MINUTES` (half of one, if not said): test binaries `soak_*`.
    Soak,
    /// Disks that fail under our programs: test binaries `faults_*`.
    Faults,
}

/// Runs the stages asked for, all if none is named. False: something failed.
pub(crate) fn run(only: &[Name]) -> Result<bool> {
    let mut report = Report::default();
    stages(&mut report, only);
    Ok(report.finish("test"))
}

/// Adds the stages to a report. None runs where none could pass.
pub(crate) fn stages(report: &mut Report, only: &[Name]) {
    let mut ready = false;
    report.stage("packages", Budget::Prepare, || {
        prerequisites()?;
        ready = true;
        Ok(Vec::new())
    });
    if !ready {
        return;
    }
    let wanted = |name| only.is_empty() || only.contains(&name);
    let lab = [
        Name::Engine,
        Name::Qemu,
        Name::Swarm,
        Name::Schedules,
        Name::Soak,
        Name::Faults,
    ];
    if wanted(Name::Build) || lab.into_iter().any(wanted) {
        let args = ["build", "--locked", "--workspace", "--bins"];
        report.cargo("build programs", Budget::Build, || {
            program::cargo(&args, &[])
        });
    }
    if wanted(Name::Build) || wanted(Name::Engine) || wanted(Name::Qemu) {
        report.stage("managed plugin", Budget::Build, || {
            let failed = || vec!["the build failed; its output is above".to_owned()];
            Ok(if dist::for_suites()? {
                Vec::new()
            } else {
                failed()
            })
        });
    }
    if wanted(Name::Build) {
        let args = ["nextest", "run", "--locked", "--workspace", "--no-run"];
        report.cargo("build tests", Budget::Build, || program::cargo(&args, &[]));
    }
    if wanted(Name::Unit) {
        report.cargo("unit and process tests", Budget::Unit, || {
            nextest(Suite::Plain)
        });
    }
    if wanted(Name::Doc) {
        let args = ["test", "--locked", "--workspace", "--doc", "--quiet"];
        report.cargo("documentation tests", Budget::Unit, || {
            program::cargo(&args, &[])
        });
    }
    if wanted(Name::Sim) {
        report.cargo("build simulation", Budget::Simulation, sim::build);
        let spent = report.spent(Budget::Simulation);
        report.cargo("simulation", Budget::Simulation, || sim::fresh(spent));
        report.cargo("small worlds", Budget::Simulation, sim::small_worlds);
    }
    if wanted(Name::Crash) {
        report.cargo("crash matrix", Budget::Crash, crash_matrix);
    }
    if wanted(Name::Vcsim) {
        report.cargo("simulated hostd", Budget::Vcsim, vcsim_suites);
    }
    if wanted(Name::Dist) {
        report.stage("agent as it ships", Budget::Dist, || {
            let failed = || vec!["the build failed; its output is above".to_owned()];
            Ok(if dist::host()? { Vec::new() } else { failed() })
        });
        report.cargo("reduced kernel", Budget::Dist, reduced_kernel);
    }
    if wanted(Name::Engine) {
        report.cargo("one engine", Budget::Engine, || {
            nextest(Suite::Prefixed("engine_"))
        });
    }
    if wanted(Name::Qemu) {
        report.cargo("QEMU virtual machines", Budget::Qemu, qemu);
    }
    if wanted(Name::Swarm) {
        report.cargo("swarm", Budget::Swarm, || {
            nextest(Suite::Prefixed("swarm_"))
        });
    }
    for (name, title, budget, prefix) in HARD {
        if wanted(name) {
            report.cargo(title, budget, || nextest(Suite::Prefixed(prefix)));
        }
    }
}

/// What machines, programs and disks do to each other, one lab each.
const HARD: [(Name, &str, Budget, &str); 3] = [
    (Name::Faults, "disks that fail", Budget::Faults, "faults_"),
    (
        Name::Schedules,
        "schedules of two hosts",
        Budget::Schedules,
        "schedules_",
    ),
    (Name::Soak, "soak", Budget::Soak, "soak_"),
];

/// Suites that the shipped agent passes on a reduced kernel. The others of `process_` measure a debug build.
const REDUCED: &[&str] = &[
    "process_admin",
    "process_door",
    "process_legacy",
    "process_vmgroups",
];

/// Optimised as the simulation is: it is thousands of small worlds.
fn crash_matrix() -> Result<Ran> {
    let built = sim::build()?;
    if !built.ok {
        return Ok(built);
    }
    let args = ["nextest", "run", "--locked", "--cargo-profile", "sim"];
    let how = ["--no-tests=fail"];
    program::cargo(
        &[&args[..], &sim::PACKAGES, &sim::MATRIX, &how].concat(),
        &[],
    )
}

/// The suites with the agent as it ships. A call of the kernel that nobody listed fails them, too.
fn reduced_kernel() -> Result<Ran> {
    let (agent, report) = reduced::launcher()?;
    let agent = agent.to_str().context("the clone's path is UTF-8")?;
    let mut ran = nextest_with(Suite::Named(REDUCED), &[(AGENT_VARIABLE, agent)])?;
    let new = reduced::new_calls(&report);
    ran.ok &= new.is_empty();
    ran.failures.extend(new);
    Ok(ran)
}

/// QEMU virtual machines, where this machine can have them.
fn qemu() -> Result<Ran> {
    match prepare(true, &|line| println!("{line}"))? {
        Availability::Ready(_) => nextest(Suite::Prefixed("qemu_")),
        Availability::Unavailable(why) => Err(Skip(why).into()),
    }
}

/// The simulator is built and its witness installed here; where that cannot be, the stage says so.
fn vcsim_suites() -> Result<Ran> {
    let ready = ensure_packages(vcsim::PACKAGES, &|progress| println!("{progress}"))
        .and_then(|_| Ok(vcsim::prepare()?));
    match ready {
        // Now a test that does not find them fails instead of saying that it is skipped.
        Ok(_) => nextest_with(Suite::Prefixed("vcsim_"), &[(vcsim::REQUIRED, "1")]),
        Err(why) => Err(Skip(format!("{why:#}")).into()),
    }
}

/// Which test binaries a stage runs.
#[derive(Debug, Clone, Copy)]
enum Suite {
    /// All that belong to no other stage.
    Plain,
    /// Those whose name starts so.
    Prefixed(&'static str),
    /// These.
    Named(&'static [&'static str]),
}

/// Prefixes of the binaries with a stage of their own.
const OWN_STAGE: [&str; 8] = [
    "crash_matrix",
    "engine_",
    "faults_",
    "qemu_",
    "schedules_",
    "soak_",
    "swarm_",
    "vcsim_",
];

/// No test at all is a failure: a suite that vanished must not look like one that passed.
fn nextest(suite: Suite) -> Result<Ran> {
    nextest_with(suite, &[])
}

fn nextest_with(suite: Suite, vars: &[(&str, &str)]) -> Result<Ran> {
    let filter = filter(suite, &check::test_binaries()?)?;
    let args = [
        "nextest",
        "run",
        "--locked",
        "--workspace",
        "--no-tests=fail",
        "--filterset",
        &filter,
    ];
    program::cargo(&args, vars)
}

/// The runner's filter for a suite. Binaries are named one by one: the runner takes a pattern that matches none of
/// them for a mistake.
fn filter(suite: Suite, binaries: &[String]) -> Result<String> {
    let named = |prefixes: &[&str]| -> Vec<String> {
        binaries
            .iter()
            .filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
            .map(|name| format!("binary(={name})"))
            .collect()
    };
    match suite {
        Suite::Plain => {
            let others = named(&OWN_STAGE);
            let none = others.is_empty();
            Ok(if none {
                "all()".to_owned()
            } else {
                format!("not ({})", others.join(" + "))
            })
        }
        Suite::Named(names) => {
            let gone = names.iter().find(|n| !binaries.iter().any(|b| b == *n));
            ensure!(gone.is_none(), "there is no test binary {gone:?}");
            Ok(named(names).join(" + "))
        }
        Suite::Prefixed(prefix) => {
            let own = named(&[prefix]);
            ensure!(!own.is_empty(), "there is no test binary {prefix}*");
            Ok(own.join(" + "))
        }
    }
}

fn prerequisites() -> Result<()> {
    // The owner of our own folder in /proc is our effective user.
    let uid = fs::metadata("/proc/self")
        .context("look at /proc/self")?
        .uid();
    ensure!(
        uid == 0,
        "the suites make namespaces, mounts and loop devices and need root (we are uid {uid}); \
         run `sudo --preserve-env=PATH cargo xtask test`, or `cargo nextest run -p <crate>` for one crate"
    );
    ensure_packages(PACKAGES, &|progress| println!("{progress}"))?;
    if !program::cargo_has(&["nextest", "--version"]) {
        println!("cargo-nextest is missing; building it takes some minutes, once");
        let ran = program::cargo(&["install", "--locked", "cargo-nextest"], &[])?;
        ensure!(
            ran.ok,
            "cargo-nextest could not be installed; run `cargo install --locked cargo-nextest`"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binaries(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn every_test_binary_belongs_to_one_stage() {
        let all = binaries(&["labhv", "engine_one", "swarm_story", "engine_kill"]);
        let plain = filter(Suite::Plain, &all).unwrap();
        assert_eq!(
            plain,
            "not (binary(=engine_one) + binary(=swarm_story) + binary(=engine_kill))"
        );
        let engine = filter(Suite::Prefixed("engine_"), &all).unwrap();
        assert_eq!(engine, "binary(=engine_one) + binary(=engine_kill)");
        assert_eq!(
            filter(Suite::Prefixed("swarm_"), &all).unwrap(),
            "binary(=swarm_story)"
        );
    }

    #[test]
    fn a_suite_that_vanished_is_a_failure() {
        let all = binaries(&["labhv"]);
        assert!(filter(Suite::Prefixed("engine_"), &all).is_err());
        assert_eq!(filter(Suite::Plain, &all).unwrap(), "all()");
    }
}
