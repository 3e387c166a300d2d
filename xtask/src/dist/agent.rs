//! The agent, as a hypervisor runs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::build::{self, Libc, Quality};
use super::{shown, size};

/// Largest program that may ship.
const LARGEST: u64 = 8_000_000;
/// What must not be in it: a web framework and a parser of command lines, for which it has no use.
const ABSENT: &[&str] = &["axum", "clap"];

/// Builds it into the folder. False: cargo failed and said why.
pub(super) fn make(folder: &Path, libc: Libc) -> Result<bool> {
    let crates = build::crates(build::AGENT, libc)?;
    ensure!(
        !has_any(&crates, ABSENT),
        "one of {ABSENT:?} is linked into vdvsd:\n{crates}"
    );
    let Some(built) = build::build(build::AGENT, libc, Quality::Release)? else {
        return Ok(false);
    };
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let program = folder.join("vdvsd");
    let bytes = build::strip_bare(&built, &program)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    ensure!(
        bytes <= LARGEST,
        "vdvsd has {bytes} bytes, more than {LARGEST}"
    );
    fs::write(folder.join("THIRD-PARTY"), crates)?;
    println!(
        "{:<52} {:>9} of at most {}",
        shown(&program)?,
        size(bytes),
        size(LARGEST)
    );
    Ok(true)
}

/// Whether a list of crates names one of these.
fn has_any(crates: &str, names: &[&str]) -> bool {
    crates
        .lines()
        .filter_map(|line| line.split(' ').next())
        .any(|name| names.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_found_by_its_whole_name() {
        let crates = "Linked into vdvsd:\n\naxum-core v0.5.6 MIT\nclap_lex v1 MIT\n";
        assert!(!has_any(crates, ABSENT));
        assert!(has_any(&format!("{crates}clap v4.6.7 MIT\n"), ABSENT));
    }
}
