//! Taking the service away. Volumes and what is in them are never touched.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::unistd::geteuid;

use super::files::{Machine, Taken};
use super::service::{self, Service};
use super::{DRY_RUN, Say, settings_of};
use crate::checks;

/// Files of the journal, and what it sets aside of damaged ones.
const JOURNAL: [&str; 3] = ["held", "known", "lock"];

/// Options of `uninstall`.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Also while volumes are mounted: they stay mounted, and nobody detaches them
    #[arg(long)]
    force: bool,
    /// Also the journal and settings that were changed since they were installed
    #[arg(long)]
    purge: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Uninstall from the image below this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[cfg(test)]
impl UninstallArgs {
    pub(super) fn of(root: &Path, purge: bool) -> Self {
        Self {
            force: false,
            purge,
            dry_run: false,
            root: root.to_owned(),
        }
    }
}

/// Removes what [`super::install`] put there.
///
/// # Errors
/// A volume is mounted, or a step fails; what was done so far may be done again.
pub fn uninstall(args: &UninstallArgs, say: Say<'_>) -> Result<()> {
    let here = args.root == Path::new("/");
    ensure!(
        !here || args.dry_run || geteuid().is_root(),
        "this needs root: run 'sudo vdvs-plugin uninstall'"
    );
    if args.dry_run {
        say("dry run", DRY_RUN);
    }
    let settings = settings_of(&args.root)?;
    let mounted = if here {
        mounted(&settings.mount_root, &settings.socket)?
    } else {
        Vec::new()
    };
    ensure!(
        mounted.is_empty() || args.force,
        "{} {} mounted here: {}. Stop the containers that use them, or say --force: then they stay mounted until this \
         machine is started anew, and nothing detaches them before",
        mounted.len(),
        if mounted.len() == 1 {
            "volume is"
        } else {
            "volumes are"
        },
        mounted.join(", ")
    );
    let mut machine = Machine::open(&args.root, args.dry_run)?;
    match Service::of(&args.root) {
        Service::Systemd if args.dry_run => say("would", "stop and disable vdvs-plugin.service"),
        Service::Systemd => {
            service::stop()?;
            say("stopped", "vdvs-plugin.service");
        }
        Service::Image => service::unlink(&machine)?,
        Service::None if checks::plugin_answers(&settings.socket) => say(
            "warning",
            &format!(
                "a plugin still runs and answers at {}; stop it yourself",
                settings.socket.display()
            ),
        ),
        Service::None => {}
    }
    for path in machine.installed() {
        let taken = machine.take(&path, args.purge);
        match taken.with_context(|| format!("remove {}", path.display()))? {
            Taken::Removed => say("removed", &path.display().to_string()),
            Taken::Absent => {}
            Taken::Kept => say(
                "kept",
                &format!("{}: changed by you (--purge removes it)", path.display()),
            ),
        }
    }
    machine.close().context("write the receipt")?;
    if Service::of(&args.root) == Service::Systemd && !args.dry_run {
        service::reload()?;
    }
    journal(&machine, &settings.state, args.purge, say)?;
    for volume in &mounted {
        say(
            "remains",
            &format!("{volume}, mounted and attached until this machine is started anew"),
        );
    }
    say(
        "remains",
        "volumes on the datastores, with everything in them",
    );
    if here {
        say(
            "remains",
            "Docker's memory of the driver, until Docker is started anew",
        );
    }
    Ok(())
}

/// Removes the journal's own files, and the folder if nothing else is in it.
fn journal(machine: &Machine, folder: &Path, purge: bool, say: Say<'_>) -> Result<()> {
    let entries = match fs::read_dir(machine.at(folder)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("look at {}", folder.display())),
    };
    let mut others = false;
    let mut ours = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let damaged = JOURNAL
            .iter()
            .any(|file| text.starts_with(&format!("{file}.damaged-")));
        if damaged || JOURNAL.contains(&text.as_ref()) {
            ours.push(folder.join(&name));
        } else {
            others = true;
        }
    }
    if !purge {
        if !ours.is_empty() {
            say(
                "remains",
                &format!("the journal in {} (--purge removes it)", folder.display()),
            );
        }
        return Ok(());
    }
    for path in &ours {
        machine.delete(path)?;
    }
    if !others && !machine.dry {
        fs::remove_dir(machine.at(folder))
            .with_context(|| format!("remove {}", folder.display()))?;
    }
    say("removed", &format!("the journal in {}", folder.display()));
    Ok(())
}

/// Names of the mounted volumes, as far as the running plugin can tell them.
fn mounted(mount_root: &Path, socket: &Path) -> Result<Vec<String>> {
    let mounts = checks::mounted(mount_root).context("see what is mounted")?;
    if mounts.is_empty() {
        return Ok(Vec::new());
    }
    let known = checks::plugin_volumes(socket).unwrap_or_default();
    Ok(mounts
        .iter()
        .map(|mount| {
            let name = known
                .iter()
                .find(|(_, at)| at.as_ref().is_some_and(|at| at.starts_with(&mount.at)));
            name.map_or_else(|| mount.at.display().to_string(), |(name, _)| name.clone())
        })
        .collect())
}
