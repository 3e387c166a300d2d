//! `cargo xtask fuzz`: each parser of outside bytes under the fuzzer, a while each (`docs/fuzzing.md`).
//!
//! The fuzzer needs the nightly toolchain. Where there is none the command says so and passes: the same functions run on
//! stable in every `cargo xtask test`, over the committed inputs and variations of them. What the fuzzer learns stays
//! below `fuzz/target`; only what it *finds* is meant to be committed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::program;

/// Longest input in bytes. No interesting one is longer: what is larger is refused by its length alone.
const MAX_LEN: u32 = 4096;

/// One input may take this many seconds; a parser that needs one is already a finding.
const TIMEOUT: u32 = 10;

/// Memory of one fuzzer in MiB: inputs are small, so a parser that needs more lets its peer choose how much.
const MEMORY: u32 = 1024;

#[derive(Debug, Args)]
pub(crate) struct FuzzArgs {
    /// Seconds per target.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    seconds: u32,
    /// Only these targets; all if none is named.
    #[arg(long = "target", value_name = "NAME")]
    targets: Vec<String>,
}

/// Runs the targets one after the other. False: one of them found something.
pub(crate) fn run(args: &FuzzArgs) -> Result<bool> {
    let targets = chosen(&targets()?, &args.targets)?;
    if !program::nightly_has(&["--version"]) {
        println!(
            "SKIPPED: the fuzzer needs the nightly toolchain, which is not here; \
             run `rustup toolchain install nightly --profile minimal`. Nothing was fuzzed."
        );
        return Ok(true);
    }
    if !program::nightly_has(&["fuzz", "--version"]) {
        println!("cargo-fuzz is missing; building it takes some minutes, once");
        let ran = program::cargo(&["install", "--locked", "cargo-fuzz"], &[])?;
        ensure!(ran.ok, "cargo-fuzz could not be installed");
    }
    // No sanitizer: the parsers are safe code, and without one the fuzzer tries twice as many inputs.
    let build = ["fuzz", "build", "--sanitizer", "none"];
    ensure!(program::nightly(&build)?.ok, "the targets do not build");
    let mut failed = Vec::new();
    for target in &targets {
        println!("fuzz {target} for {} s", args.seconds);
        if !fuzz(target, args.seconds)? {
            failed.push(target.as_str());
        }
    }
    println!(
        "fuzz: {} targets, {} with findings",
        targets.len(),
        failed.len()
    );
    for target in &failed {
        println!(
            "  {target}: the input lies in fuzz/artifacts/{target}; put it into fuzz/corpus/{target}"
        );
    }
    Ok(failed.is_empty())
}

fn fuzz(target: &str, seconds: u32) -> Result<bool> {
    // The first folder is where the fuzzer keeps what it learns; the committed one is only read.
    let learnt = format!("fuzz/target/learnt/{target}");
    fs::create_dir_all(program::root()?.join(&learnt)).with_context(|| format!("make {learnt}"))?;
    let committed = format!("fuzz/corpus/{target}");
    let limits = [
        format!("-max_total_time={seconds}"),
        format!("-max_len={MAX_LEN}"),
        format!("-timeout={TIMEOUT}"),
        format!("-rss_limit_mb={MEMORY}"),
        "-print_final_stats=1".to_owned(),
    ];
    let mut args = vec!["fuzz", "run", "--sanitizer", "none"];
    args.extend([target, learnt.as_str(), committed.as_str(), "--"]);
    args.extend(limits.iter().map(String::as_str));
    Ok(program::nightly(&args)?.ok)
}

/// The targets there are: one source file each.
fn targets() -> Result<Vec<String>> {
    names(&program::root()?.join("fuzz/fuzz_targets"))
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let stem = path.file_stem().context("a folder's entries have names")?;
        names.push(stem.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn chosen(all: &[String], asked: &[String]) -> Result<Vec<String>> {
    for name in asked {
        ensure!(
            all.contains(name),
            "there is no target '{name}'; there are {}",
            all.join(", ")
        );
    }
    let wanted = |name: &&String| asked.is_empty() || asked.contains(name);
    Ok(all.iter().filter(wanted).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_does_not_exist_is_named_with_those_that_do() {
        let all = ["a".to_owned(), "b".to_owned()];
        assert_eq!(chosen(&all, &[]).unwrap(), all);
        assert_eq!(chosen(&all, &["b".to_owned()]).unwrap(), ["b"]);
        let said = chosen(&all, &["c".to_owned()]).unwrap_err().to_string();
        assert_eq!(said, "there is no target 'c'; there are a, b");
    }

    #[test]
    fn each_target_is_built_has_inputs_runs_on_stable_and_is_documented() {
        let root = program::root().unwrap();
        let manifest = fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
        let page = fs::read_to_string(root.join("docs/fuzzing.md")).unwrap();
        let targets = targets().unwrap();
        for name in &targets {
            assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
        // `vdvs_corpus::check` fails a target without inputs; inputs without a target would be replayed by nobody.
        assert_eq!(names(&root.join("fuzz/corpus")).unwrap(), targets);
        let twins = program::tracked_files()
            .unwrap()
            .iter()
            .filter(|path| path.ends_with("src/fuzzing.rs"))
            .map(|path| fs::read_to_string(root.join(path)).unwrap())
            .collect::<String>();
        for name in &targets {
            let twin = format!("check(\"{name}\", super::{name})");
            assert!(twins.contains(&twin), "{name} has no twin on stable");
        }
    }
}
