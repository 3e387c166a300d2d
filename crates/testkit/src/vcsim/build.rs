//! Building the simulator and installing pyvmomi, below cargo's target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{target_dir, workspace_dir};
use crate::process::Cmd;

/// Debian packages the simulator and its witness need.
pub const PACKAGES: &[&str] = &[
    "golang-go",
    "golang-github-vmware-govmomi-dev",
    "python3-venv",
];
/// The environment variable of a run in which nothing may be missing.
pub const REQUIRED: &str = "VDVS_VCSIM_REQUIRED";
/// The version of pyvmomi whose strict decoder the suites were made with.
const PYVMOMI: &str = "pyvmomi==9.1.1.0";
const GO: &str = "/usr/bin/go";
const GOPATH: &str = "/usr/share/gocode";
const PYTHON: &str = "/usr/bin/python3";
/// With a cold cache the build takes 35 s here.
const BUILD_LIMIT: Duration = Duration::from_secs(600);

/// Why there is no simulator here.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(String);

/// The simulator and its witness, ready to start.
#[derive(Debug, Clone)]
pub struct Peers {
    /// The simulator.
    pub vcsim: PathBuf,
    /// Python with pyvmomi.
    pub python: PathBuf,
    /// The program of [`super::Witness`].
    pub witness: PathBuf,
}

impl Peers {
    /// What [`prepare`] made.
    ///
    /// # Errors
    /// [`Missing`]: what is missing, and how to get it.
    pub fn find() -> Result<Self, Missing> {
        let peers = Self::paths().map_err(|e| Missing(format!("{e:#}")))?;
        for file in [&peers.vcsim, &peers.python] {
            if !file.exists() {
                return Err(Missing(format!(
                    "{} is not there: 'cargo xtask test --stage vcsim' makes it",
                    file.display()
                )));
            }
        }
        Ok(peers)
    }

    fn paths() -> Result<Self> {
        let dir = dir()?;
        Ok(Self {
            vcsim: dir.join("vcsim"),
            python: dir.join("venv/bin/python"),
            witness: sources()?.join("witness.py"),
        })
    }
}

fn dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("vcsim"))
}

fn sources() -> Result<PathBuf> {
    Ok(workspace_dir()?.join("tests/vcsim"))
}

/// Builds the simulator and installs pyvmomi where that was not done yet. The packages of [`PACKAGES`] must be there.
///
/// # Errors
/// [`Missing`]: something cannot be installed or built here.
pub fn prepare() -> Result<Peers, Missing> {
    let made = || -> Result<Peers> {
        let (peers, dir) = (Peers::paths()?, dir()?);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        build(&peers.vcsim, &dir).context("build the simulator")?;
        install(&peers.python, &dir).context("install pyvmomi")?;
        Ok(peers)
    };
    made().map_err(|e| Missing(format!("{e:#}")))
}

/// Go's own cache makes this half a second when nothing changed.
fn build(program: &Path, dir: &Path) -> Result<()> {
    let path = format!("{GOPATH}:{}", dir.join("gopath").display());
    Cmd::new(GO)
        .clean_env()
        .args(["build", "-o"])
        .arg(program)
        .arg(".")
        .current_dir(sources()?)
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOPATH", path)
        .env("GOCACHE", dir.join("gocache"))
        .limit(BUILD_LIMIT)
        .run()
        .map(drop)
}

fn install(python: &Path, dir: &Path) -> Result<()> {
    let is_there = || {
        let test = Cmd::new(python).args(["-c", "import pyVmomi"]).output();
        python.exists() && test.is_ok_and(|done| done.success())
    };
    if is_there() {
        return Ok(());
    }
    let venv = dir.join("venv");
    Cmd::new(PYTHON)
        .args(["-m", "venv", "--clear"])
        .arg(&venv)
        .limit(BUILD_LIMIT)
        .run()?;
    // The environment says which registry is used.
    Cmd::new(venv.join("bin/pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", PYVMOMI])
        .limit(BUILD_LIMIT)
        .run()
        .map(drop)
}
