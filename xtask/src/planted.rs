//! `cargo xtask sim --planted`: the known mistakes, each caught by a schedule or by the crash matrix.
//!
//! One copy of the sources with all of them, in `target/planted`, with a build folder of its own. See
//! `crates/sim/src/planted`.

use std::fs;

use anyhow::{Context, Result, ensure};
use vdvs_testkit::lab::target_dir;

use crate::program::{self, Ran};

/// Schedules for each mistake, and the first one: the same in every run, so that a mistake that is caught stays caught
/// as long as nobody changes what a schedule does.
const SCHEDULES: &str = "600";
const FIRST: &str = "1";

/// Plants, builds and hunts. False: a mistake was not caught.
pub(crate) fn run(mistake: Option<usize>) -> Result<Ran> {
    let home = target_dir()?.join("planted");
    let copy = home.join("sources");
    fs::create_dir_all(&copy).with_context(|| format!("make {}", copy.display()))?;
    let folder = copy.to_string_lossy();
    let run = [
        "run",
        "--quiet",
        "--locked",
        "--profile",
        "sim",
        "--package",
        "vdvs-sim",
        "--",
    ];
    let ran = program::cargo(&[&run[..], &["--plant", &folder]].concat(), &[])?;
    if !ran.ok {
        return Ok(ran);
    }
    let manifest = copy.join("Cargo.toml");
    let built = home.join("target");
    let (manifest, built) = (manifest.to_string_lossy(), built.to_string_lossy());
    let vars = [("CARGO_TARGET_DIR", &*built)];
    let left = home.join("left");
    let left_at = left.to_string_lossy();
    let copied = [
        "--manifest-path",
        &manifest,
        "--profile",
        "sim",
        "--package",
        "vdvs-sim",
    ];
    let hunt = [
        "--",
        "--planted",
        "--seeds",
        SCHEDULES,
        "--first",
        FIRST,
        "--left",
        &left_at,
    ];
    let only = mistake.map(|number| number.to_string());
    let only = only.iter().flat_map(|number| ["--mistake", number]);
    let only: Vec<&str> = only.collect();
    let mut ran = program::cargo(
        &[&["run", "--quiet"], &copied[..], &hunt, &only].concat(),
        &vars,
    )?;
    if !ran.ok {
        return Ok(ran);
    }
    let numbers = fs::read_to_string(&left).context("read which mistakes are left")?;
    let matrix = [
        &["test", "--quiet"],
        &copied[..4],
        &["--package", "vdvs-matrix", "--test", "crash_matrix"],
    ]
    .concat();
    if !numbers.is_empty() {
        let sound = program::cargo(&matrix, &vars)?;
        ensure!(
            sound.ok,
            "the crash matrix fails without any mistake, so it catches none"
        );
    }
    let mut not_caught = Vec::new();
    for number in numbers.split_whitespace() {
        // It ends at the first that breaks; without a limit of time, so that not caught means that all of it ran.
        let awake = [
            vars[0],
            ("VDVS_PLANTED", number),
            ("VDVS_MATRIX_FIRST", "1"),
        ];
        if program::cargo(&matrix, &awake)?.ok {
            not_caught.push(number);
        } else {
            println!("{number:>3} caught by the crash matrix");
        }
    }
    for number in &not_caught {
        ran.failures
            .push(format!("mistake {number} was not caught"));
        println!("{number:>3} NOT CAUGHT");
    }
    ran.ok = not_caught.is_empty();
    Ok(ran)
}
