//! The administrator's command line, with what it tells of itself: completions and manual pages.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use vdvs_testkit::process::Cmd;

use super::build::{self, Libc, Quality};
use super::{shown, size};

/// Largest program that may ship.
const LARGEST: u64 = 6_000_000;
/// The shells, with the names their folders of completions want.
const SHELLS: &[(&str, &str)] = &[("bash", "vdvs"), ("zsh", "_vdvs"), ("fish", "vdvs.fish")];
/// The original's name for it; called so, it speaks the original's language.
const SCRIPT: &str = "vmdkops_admin.py";

/// Builds it into the folder. False: cargo failed and said why.
pub(super) fn make(folder: &Path, libc: Libc) -> Result<bool> {
    let Some(built) = build::build(build::ADMIN, libc, Quality::Release)? else {
        return Ok(false);
    };
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let completions = folder.join("completions");
    fs::create_dir_all(&completions).with_context(|| format!("make {}", folder.display()))?;
    let program = folder.join("vdvs");
    let bytes = build::strip(&built, &program)?;
    ensure!(
        bytes <= LARGEST,
        "vdvs has {bytes} bytes, more than {LARGEST}"
    );
    symlink("vdvs", folder.join(SCRIPT))?;
    fs::write(
        folder.join("THIRD-PARTY"),
        build::crates(build::ADMIN, libc)?,
    )?;
    for (shell, name) in SHELLS {
        let said = Cmd::new(&program).args(["completions", shell]).run()?;
        fs::write(completions.join(name), said)?;
    }
    Cmd::new(&program)
        .args(["man", "--dir"])
        .arg(folder.join("man"))
        .run()?;
    let pages = fs::read_dir(folder.join("man"))?.count();
    println!("{:<52} {:>9}", shown(&program)?, size(bytes));
    println!(
        "{:<52} {pages:>9}",
        format!("{} (pages)", shown(&folder.join("man"))?)
    );
    Ok(true)
}
