//! systemd, where there is one.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::files::Machine;
use super::process;
use crate::checks;

/// The unit, with a place for the program's folder.
pub(super) const UNIT: &str = include_str!("../../packaging/systemd/vdvs-plugin.service");
/// The administrator's folder for units; works on machines whose `/usr` cannot be written.
pub(super) const UNIT_NAME: &str = "/etc/systemd/system/vdvs-plugin.service";
/// What `systemctl enable` makes.
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/vdvs-plugin.service";
/// There while systemd runs the machine.
const RUNNING: &str = "/run/systemd/system";
const SERVICE: &str = "vdvs-plugin.service";

/// Who starts services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// systemd runs this machine.
    Systemd,
    /// An image: nothing runs.
    Image,
    /// Something else.
    None,
}

impl Service {
    pub(super) fn of(root: &Path) -> Self {
        if root != Path::new("/") {
            Self::Image
        } else if Path::new(RUNNING).is_dir() && systemctl().is_some() {
            Self::Systemd
        } else {
            Self::None
        }
    }
}

fn systemctl() -> Option<PathBuf> {
    checks::program(Path::new("/"), "systemctl")
}

fn run(args: &[&str]) -> Result<String> {
    let systemctl = systemctl().context("systemctl is not installed")?;
    Ok(process::run(&systemctl, args)?)
}

/// Has systemd read its units again.
pub(super) fn reload() -> Result<()> {
    run(&["daemon-reload"]).map(drop)
}

/// Enables and starts; a running one is started anew only if something about it changed.
pub(super) fn start(changed: bool) -> Result<()> {
    reload()?;
    run(&["enable", SERVICE])?;
    let verb = if changed { "restart" } else { "start" };
    run(&[verb, SERVICE])
        .map(drop)
        .context("the service does not start: see 'journalctl -u vdvs-plugin'")
}

/// Stops and disables. Not known: nothing to do.
pub(super) fn stop() -> Result<()> {
    if run(&["cat", SERVICE]).is_err() {
        return Ok(());
    }
    run(&["disable", "--now", SERVICE]).map(drop)
}

/// `active`, `inactive`, `failed` …
pub(super) fn state() -> Result<String> {
    // Fails, and prints the state all the same, unless it is active.
    run(&["show", "--property=ActiveState", "--value", SERVICE])
}

/// Enables the service in an image, as `systemctl enable` would. True: it was not before.
pub(super) fn link(machine: &Machine) -> io::Result<bool> {
    let link = machine.at(Path::new(WANTED));
    if link.symlink_metadata().is_ok() {
        return Ok(false);
    }
    if !machine.dry {
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder)?;
        }
        symlink(UNIT_NAME, &link)?;
    }
    Ok(true)
}

/// Undoes [`link`].
pub(super) fn unlink(machine: &Machine) -> io::Result<()> {
    machine.delete(Path::new(WANTED))
}
