//! `cargo xtask bench`: the budgets beside the figures, with what they are compared to measured in the same run.
//!
//! The programs are built as they ship; the measuring itself is a program of its own (`crates/testkit/examples/bench`),
//! so that this tool need not be built with the wire protocol in it. Absolute figures depend on the machine and are
//! never asserted: `--check` fails beyond three times a budget, which no noisy neighbour explains.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Args;
use vdvs_testkit::lab::{ADMIN, AGENT, BINARY_PACKAGES, Profile, built, target_dir};
use vdvs_testkit::process::Cmd;

use crate::program;
use table::{Figure, NOT_BUILT, Table};

/// The program that measures.
const DRIVER: &str = "vdvs-bench";

/// What the product costs, beside what it may cost.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Write the table to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when a figure is beyond three times its budget.
    #[arg(long)]
    check: bool,
    /// Only this: get, create, mount, clone, takeover, hostile, cli, list, memory or esxi.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// How many volumes are many.
    #[arg(long, default_value_t = 10_000)]
    volumes: usize,
}

/// Builds, measures, prints. False: `--check` found a figure beyond bounds.
pub(crate) fn run(args: &BenchArgs) -> Result<bool> {
    build()?;
    let file = target_dir()?.join("bench.jsonl");
    let volumes = args.volumes.to_string();
    let mut driver = Cmd::new(built(Profile::Release, &format!("examples/{DRIVER}"))?)
        .arg("--figures")
        .arg(&file)
        .args(["--volumes", &volumes]);
    if let Some(only) = &args.only {
        driver = driver.args(["--only", only]);
    }
    let begun = Instant::now();
    let status = driver.interactive()?;
    ensure!(status.success(), "the measuring ended with {status}");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let mut figures = Figure::parse(&text)?;
    if args.only.is_none() {
        figures.push(size("size", AGENT)?);
        figures.push(size("cli.size", ADMIN)?);
        figures.push(package()?);
    }
    let table = Table::of(&figures);
    println!("\n{}measured in {:.0?}", table.text(), begun.elapsed());
    if let Some(path) = &args.json {
        fs::write(path, serde_json::to_string_pretty(&table)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    let beyond = table.beyond();
    for row in &beyond {
        println!("beyond three times its budget: {row}");
    }
    Ok(!args.check || beyond.is_empty())
}

/// The programs as they ship, and the one that measures, in one go: so that they share what they are built from.
fn build() -> Result<()> {
    let mut args = vec!["build", "--release", "--locked", "--bins"];
    for package in BINARY_PACKAGES {
        args.extend(["--package", package]);
    }
    args.extend(["--package", "vdvs-testkit", "--example", DRIVER]);
    let begun = Instant::now();
    ensure!(program::cargo(&args, &[])?.ok, "the programs do not build");
    println!("release build: {:.0?}", begun.elapsed());
    Ok(())
}

/// A program as it is installed: the release profile strips it.
fn size(key: &str, program: &str) -> Result<Figure> {
    Ok(Figure {
        key: key.to_owned(),
        value: Some(megabytes(&built(Profile::Release, program)?)?),
        note: "built for this machine, dynamically linked".to_owned(),
    })
}

/// The package, where `cargo xtask vib` made one.
fn package() -> Result<Figure> {
    let name = format!("vdvs-{}.vib", env!("CARGO_PKG_VERSION"));
    let path = target_dir()?.join("dist/esxi").join(&name);
    let (value, note) = match path.exists() {
        true => (Some(megabytes(&path)?), name),
        false => (None, NOT_BUILT.to_owned()),
    };
    Ok(Figure {
        key: "vib".to_owned(),
        value,
        note,
    })
}

fn megabytes(path: &Path) -> Result<f64> {
    let bytes = fs::metadata(path).with_context(|| format!("look at {}", path.display()))?;
    // Sizes of programs are far below what a float holds exactly.
    let thousands = u32::try_from(bytes.len() / 1000).context("a huge file")?;
    Ok(f64::from(thousands) / 1e3)
}
