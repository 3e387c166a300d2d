//! The plugin as a service of a machine: putting it there, taking it away, saying how it is.
//!
//! ```text
//! /usr/local/bin/vdvs-plugin                    the program (--bin-dir)
//! /etc/systemd/system/vdvs-plugin.service       started before Docker, which is told when it listens
//! /etc/vsphere-storage-for-docker.conf          settings: the original's file; made only if there is none
//! /var/lib/vdvs/                                the journal, and the receipt of what was installed
//! ```
//! * Every step may run twice and says what it did. Installing over an older version is an update; containers that
//!   run keep their volumes, since a plugin that stops unmounts nothing.
//! * What a person changed is never overwritten and never removed ([`files`]).
//! * With `--root DIR` the machine is an image below that folder: files only, nothing is started.
//! * Where systemd does not run, the files are put there all the same and the person is told what to start.
//!
//! | module | concept |
//! |---|---|
//! | `files` | what is put where, and whose it is |
//! | `service` | systemd |
//! | `uninstall` | the way back |
//! | `status` | one screen |

mod files;
mod process;
mod service;
mod status;
mod uninstall;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::unistd::geteuid;

pub use status::{StatusArgs, status};
pub use uninstall::{UninstallArgs, uninstall};

use self::files::{Kind, Machine, Put, beside};
use self::service::{Service, UNIT, UNIT_NAME};
use crate::checks;
use crate::settings::{DEFAULT_FILE, Given, Settings, parse_file};

/// The settings a machine begins with.
const SETTINGS: &str = include_str!("../../packaging/vsphere-storage-for-docker.conf");
/// The program as it runs; the name it was started by may be gone.
const OWN_IMAGE: &str = "/proc/self/exe";
/// What the original's packages put there. Two services of one driver name fight for one socket.
const ORIGINALS: [&str; 3] = [
    "/lib/systemd/system/vsphere-storage-for-docker.service",
    "/usr/lib/systemd/system/vsphere-storage-for-docker.service",
    "/etc/systemd/system/vsphere-storage-for-docker.service",
];
/// Above the lines of a run that changes nothing.
const DRY_RUN: &str = "nothing is changed; without --dry-run this would be done:";
/// A start takes a tenth of a second; with many volumes to take over, seconds.
const LISTENS_WITHIN: Duration = Duration::from_secs(10);

/// Options of `install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Install into the image below this folder; nothing is started
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Where the program goes
    #[arg(long, value_name = "DIR", default_value = "/usr/local/bin")]
    bin_dir: PathBuf,
    /// Put the files there and start nothing
    #[arg(long)]
    no_start: bool,
}

/// Says what was done, a line each, the verbs in one column.
pub type Say<'a> = &'a mut dyn FnMut(&str, &str);

/// Installs the service, or brings an installed one up to this version.
///
/// # Errors
/// A step fails, or something is in the way; what was done so far stays and may be done again.
pub fn install(args: &InstallArgs, say: Say<'_>) -> Result<()> {
    let here = args.root == Path::new("/");
    ensure!(args.root.is_dir(), "{} is no folder", args.root.display());
    ensure!(
        args.bin_dir.is_absolute(),
        "--bin-dir has to be an absolute path"
    );
    ensure!(
        !here || args.dry_run || geteuid().is_root(),
        "this needs root: run 'sudo vdvs-plugin install'"
    );
    for unit in ORIGINALS {
        if checks::below(&args.root, Path::new(unit)).exists() {
            bail!(
                "the original's service is installed ({unit}) and serves the same socket. Remove its package first; \
                 volumes stay where they are, and its settings file is honoured"
            );
        }
    }
    if args.dry_run {
        say("dry run", DRY_RUN);
    }
    let settings = settings_of(&args.root)?;
    prerequisites(&args.root, &settings, say);

    let mut machine = Machine::open(&args.root, args.dry_run)?;
    if machine.private_folder(&settings.state)? {
        say("created", &settings.state.display().to_string());
    }
    // The receipt's folder, should the journal be elsewhere.
    machine.private_folder(Path::new(files::RECEIPT).parent().unwrap_or(Path::new("/")))?;
    let program = fs::read(OWN_IMAGE).context("read this program itself")?;
    let binary = args.bin_dir.join("vdvs-plugin");
    let service = Service::of(&args.root);
    let mut changed = false;
    let put = machine.put(&binary, &program, 0o755, Kind::Program);
    changed |= tell(&binary, put, say)?;
    if machine.at(Path::new(DEFAULT_FILE)).exists()
        && machine
            .installed()
            .iter()
            .all(|path| path != Path::new(DEFAULT_FILE))
    {
        say(
            "kept",
            &format!("{DEFAULT_FILE}: there before this installation, and honoured"),
        );
    } else {
        let file = Path::new(DEFAULT_FILE);
        let put = machine.put(file, SETTINGS.as_bytes(), 0o644, Kind::Settings);
        changed |= tell(file, put, say)?;
    }
    if let Service::None = service {
        say("skipped", "systemd does not run here: no unit is made");
    } else {
        let unit = UNIT.replace("@BIN@", &args.bin_dir.display().to_string());
        let path = Path::new(UNIT_NAME);
        let put = machine.put(path, unit.as_bytes(), 0o644, Kind::Settings);
        changed |= tell(path, put, say)?;
    }
    machine.receipt.version = env!("CARGO_PKG_VERSION").to_owned();
    machine.close().context("write the receipt")?;

    match service {
        Service::Image => {
            if service::link(&machine)? {
                say(
                    "enabled",
                    "vdvs-plugin.service, for the next start of that machine",
                );
            }
        }
        Service::None => say(
            "to do",
            &format!(
                "have whatever starts services here start '{} run' before Docker",
                binary.display()
            ),
        ),
        Service::Systemd if args.dry_run => say("would", "enable and start vdvs-plugin.service"),
        Service::Systemd if args.no_start => {
            service::reload()?;
            say("to do", "systemctl enable --now vdvs-plugin.service");
        }
        Service::Systemd => {
            service::start(changed)?;
            listens(&settings)?;
            say(
                "running",
                &format!(
                    "Docker finds the driver '{}' at {}",
                    settings.driver,
                    settings.socket.display()
                ),
            );
        }
    }
    Ok(())
}

fn tell(path: &Path, put: io::Result<Put>, say: Say<'_>) -> Result<bool> {
    let put = put.with_context(|| format!("write {}", path.display()))?;
    let name = path.display();
    match put {
        Put::Created => say("created", &name.to_string()),
        Put::Updated => say("updated", &name.to_string()),
        Put::Unchanged => say("unchanged", &name.to_string()),
        Put::Kept => say("kept", &format!("{name}: changed by you")),
        Put::KeptNewBeside => say(
            "kept",
            &format!(
                "{name}: changed by you; the new one is {}",
                beside(path).display()
            ),
        ),
    }
    Ok(matches!(put, Put::Created | Put::Updated))
}

/// What the plugin will miss. Nothing of it keeps the files from being put there.
fn prerequisites(root: &Path, settings: &Settings, say: Say<'_>) {
    let here = root == Path::new("/");
    let kinds = checks::file_systems(root);
    if kinds.contains(&"ext4") {
        say("found", &format!("programs that make {}", kinds.join(", ")));
    } else {
        say(
            "warning",
            "mkfs.ext4 is not installed (e2fsprogs): new volumes cannot be used",
        );
    }
    if checks::program(root, "dockerd").is_none() && !(here && dockerd_answers(settings)) {
        say("warning", "no Docker is installed here");
    }
    if !here {
        return;
    }
    if let Some(why) = checks::no_way_to_agent(&settings.agent) {
        say(
            "warning",
            &format!("the agent at {} cannot be reached: {why}", settings.agent),
        );
    }
    let managed = format!("{}:", settings.driver);
    let engine = settings
        .docker
        .as_deref()
        .and_then(|socket| checks::engine(socket).ok());
    let other = engine.and_then(|engine| {
        engine
            .managed
            .into_iter()
            .find(|name| name.starts_with(&managed))
    });
    if let Some(name) = other {
        say(
            "warning",
            &format!(
                "the managed plugin {name} is enabled too; keep one: docker plugin disable {name}"
            ),
        );
    }
}

fn dockerd_answers(settings: &Settings) -> bool {
    settings
        .docker
        .as_deref()
        .is_some_and(|socket| checks::engine(socket).is_ok())
}

fn listens(settings: &Settings) -> Result<()> {
    let until = Instant::now() + LISTENS_WITHIN;
    while !checks::plugin_answers(&settings.socket) {
        ensure!(
            Instant::now() < until,
            "the service was started and does not answer at {}: see 'journalctl -u vdvs-plugin'",
            settings.socket.display()
        );
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The settings a service on that machine starts with.
fn settings_of(root: &Path) -> Result<Settings> {
    let path = checks::below(root, Path::new(DEFAULT_FILE));
    let given = match fs::read_to_string(&path) {
        Ok(text) => parse_file(&text).with_context(|| path.display().to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Given::new(),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    Settings::resolve(&[&given]).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
