//! The programs a lab runs: taken from the clone's target folder and copied into the lab, so that a build does not
//! change what a running lab runs, and a node needs to see one folder only.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::layout::{Layout, workspace_dir};
use super::state::rename;

/// The hypervisor's stand-in.
pub const LABHV: &str = "vdvs-labhv";
/// The agent on the host.
pub const AGENT: &str = "vdvsd";
/// The administrator's command.
pub const ADMIN: &str = "vdvs";
/// The guest's plugin.
pub const PLUGIN: &str = "vdvs-plugin";

/// Names another agent for the suites than the one cargo built: the one that ships, on a kernel like its host's.
pub const AGENT_VARIABLE: &str = "VDVS_AGENT";

/// Packages that make the programs, for `cargo build`.
pub const PACKAGES: &[&str] = &["vdvs-host-lab", "vdvs-agent", "vdvs-admin", "vdvs-plugin"];

/// Which build is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// `target/debug`
    #[default]
    Debug,
    /// `target/release`
    Release,
}

impl Profile {
    fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }
}

/// Cargo's target folder of this clone.
///
/// # Errors
/// The clone has been moved.
pub fn target_dir() -> Result<PathBuf> {
    let workspace = workspace_dir()?;
    Ok(match env::var_os("CARGO_TARGET_DIR") {
        // Relative to where cargo was called, which is the clone.
        Some(dir) => workspace.join(dir),
        None => workspace.join("target"),
    })
}

/// A program as it was built.
///
/// # Errors
/// It has not been built.
pub fn built(profile: Profile, program: &str) -> Result<PathBuf> {
    if let (AGENT, Some(agent)) = (program, env::var_os(AGENT_VARIABLE)) {
        return Ok(agent.into());
    }
    let path = target_dir()?.join(profile.folder()).join(program);
    if !path.exists() {
        let packages = PACKAGES.join(" -p ");
        bail!(
            "{} is not there: run 'cargo build -p {packages}'",
            path.display()
        );
    }
    Ok(path)
}

/// Copies the built programs into the lab; those that have not changed since are left alone.
pub(super) fn install(layout: &Layout, profile: Profile) -> Result<()> {
    let dir = layout.bin_dir();
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    for program in [LABHV, AGENT, ADMIN, PLUGIN] {
        let from = built(profile, program)?;
        copy_if_changed(&from, &dir.join(program))
            .with_context(|| format!("copy {} to {}", from.display(), dir.display()))?;
    }
    Ok(())
}

fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let source = fs::metadata(from)?;
    let same = match fs::metadata(to) {
        Ok(copy) => copy.len() == source.len() && copy.modified()? == source.modified()?,
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => return Err(error.into()),
    };
    if same {
        return Ok(());
    }
    // Beside it and then renamed: a program that runs cannot be written to.
    let temp = to.with_extension("new");
    fs::copy(from, &temp)?;
    fs::File::options()
        .write(true)
        .open(&temp)?
        .set_modified(source.modified()?)?;
    rename(&temp, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&from, "one").unwrap();
        copy_if_changed(&from, &to).unwrap();
        fs::write(&from, "three").unwrap();
        copy_if_changed(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "three");
    }
}
