//! `cargo xtask dist`: what a person installs in a guest, and the administrator's command line.
//!
//! ```text
//! target/dist/plugin/{config.json,rootfs/}                   the managed plugin: docker plugin create NAME target/dist/plugin
//! target/dist/vdvs-plugin-<version>-linux-<arch>.tar.gz      the service: unpack, ./vdvs-plugin install
//! target/dist/admin/                                         vdvs for a host, its completions and manual pages
//! target/dist/host/                                          vdvsd, as a hypervisor runs it (--only host: nothing else)
//! target/dist/debug/…                                        both as the suites use them, quickly built (--debug)
//! ```
//! The first two hold the same static program. Nothing is fetched but the compiler's musl target, and that only if it is not
//! there.

mod admin;
mod agent;
mod build;
mod elf;
mod host;
mod rootfs;

use std::env::consts::ARCH;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use vdvs_testkit::lab::target_dir;
use vdvs_testkit::process::Cmd;

use self::build::Quality;
pub(crate) use self::host::{HostPrograms, host_programs};
use self::rootfs::{EPOCH, Rootfs, fix_times};
use crate::program;

const TAR: &str = "/usr/bin/tar";
/// What the service's archive holds besides the program, from the clone.
const ARCHIVED: &[(&str, &str)] = &[
    ("guest-plugin/packaging/README.md", "README.md"),
    (
        "guest-plugin/packaging/systemd/vdvs-plugin.service",
        "vdvs-plugin.service",
    ),
    (
        "guest-plugin/packaging/vsphere-storage-for-docker.conf",
        "vsphere-storage-for-docker.conf",
    ),
    ("LICENSE", "LICENSE"),
];

#[derive(Debug, Args)]
pub(crate) struct DistArgs {
    /// Built quickly and not optimised, as the suites use it; goes to target/dist/debug
    #[arg(long)]
    debug: bool,
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<Part>,
}

/// What can be asked for by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The agent.
    Host,
}

pub(crate) fn run(args: &DistArgs) -> Result<bool> {
    if args.only == Some(Part::Host) {
        return host();
    }
    make(if args.debug {
        Quality::Debug
    } else {
        Quality::Release
    })
}

/// What the suites need. False: the build failed.
pub(crate) fn for_suites() -> Result<bool> {
    make(Quality::Debug)
}

/// The agent as it ships. False: the build failed.
pub(crate) fn host() -> Result<bool> {
    agent::make(&agent_folder()?, build::libc())
}

fn agent_folder() -> Result<PathBuf> {
    Ok(target_dir()?.join("dist/host"))
}

/// The agent that was built to ship.
pub(crate) fn agent() -> Result<PathBuf> {
    Ok(agent_folder()?.join("vdvsd"))
}

/// Where it goes.
fn folder(quality: Quality) -> Result<PathBuf> {
    let dist = target_dir()?.join("dist");
    Ok(match quality {
        Quality::Release => dist,
        Quality::Debug => dist.join("debug"),
    })
}

fn make(quality: Quality) -> Result<bool> {
    let libc = build::libc();
    let Some(built) = build::build(build::PLUGIN, libc, quality)? else {
        return Ok(false);
    };
    let folder = folder(quality)?;
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let name = format!("vdvs-plugin-{}-linux-{ARCH}", version()?);
    let service = folder.join(&name);
    let crates = build::crates(build::PLUGIN, libc)?;
    let program = archive_folder(&service, &built, &crates)?;
    let archive = archive(&folder, &name)?;
    let rootfs = plugin(&folder.join("plugin"), &service)?;
    fs::remove_dir_all(&service).context("remove the folder that was archived")?;
    println!(
        "{:<52} {:>9}",
        format!("vdvs-plugin ({}, static)", libc.target()),
        size(program)
    );
    println!(
        "{:<52} {:>9}",
        shown(&folder.join("plugin/rootfs"))?,
        size(rootfs)
    );
    println!(
        "{:<52} {:>9}",
        shown(&archive)?,
        size(fs::metadata(&archive)?.len())
    );
    // The suites run the command line as cargo built it.
    if quality == Quality::Debug {
        return Ok(true);
    }
    Ok(admin::make(&folder.join("admin"), libc)? && host()?)
}

/// The service's archive before it is packed; returns the program's size.
fn archive_folder(folder: &Path, built: &Path, crates: &str) -> Result<u64> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let program = folder.join("vdvs-plugin");
    let bytes = build::strip(built, &program)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755))?;
    let root = program::root()?;
    for (from, to) in ARCHIVED {
        let to = folder.join(to);
        fs::copy(root.join(from), &to).with_context(|| format!("copy {from}"))?;
        fs::set_permissions(&to, Permissions::from_mode(0o644))?;
    }
    fs::write(folder.join("THIRD-PARTY"), crates)?;
    fix_times(folder)?;
    Ok(bytes)
}

fn archive(folder: &Path, name: &str) -> Result<PathBuf> {
    let archive = folder.join(format!("{name}.tar.gz"));
    Cmd::new(TAR)
        .args([
            "--sort=name",
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--mode=go-w",
        ])
        .arg(format!("--mtime=@{EPOCH}"))
        .arg("--directory")
        .arg(folder)
        .args(["--gzip", "--create", "--file"])
        .arg(&archive)
        .arg(name)
        .run()?;
    Ok(archive)
}

/// The managed plugin's folder; returns the size of all files in its root file system.
fn plugin(folder: &Path, service: &Path) -> Result<u64> {
    fs::create_dir_all(folder)?;
    let config = program::root()?.join("guest-plugin/packaging/managed/config.json");
    let text = fs::read_to_string(&config).context("read the managed plugin's config.json")?;
    // Docker's own message names neither the file nor the place.
    serde_json::from_str::<serde_json::Value>(&text)
        .with_context(|| config.display().to_string())?;
    fs::write(folder.join("config.json"), text)?;
    let mut rootfs = Rootfs::new(&folder.join("rootfs"))?;
    rootfs.add(&service.join("vdvs-plugin"), "usr/bin/vdvs-plugin")?;
    for name in ["LICENSE", "THIRD-PARTY"] {
        rootfs.add(&service.join(name), &format!("usr/share/doc/vdvs/{name}"))?;
    }
    rootfs.add_programs()?;
    rootfs.finish()
}

pub(crate) fn version() -> Result<String> {
    let args = ["pkgid", "--locked", "--package", "vdvs-plugin"];
    let said = String::from_utf8(program::cargo_output(&args)?)?;
    let version = said.trim().rsplit(['#', '@']).next().unwrap_or_default();
    ensure!(version.contains('.'), "no version in {said}");
    Ok(version.to_owned())
}

pub(crate) fn shown(path: &Path) -> Result<String> {
    let root = program::root()?;
    Ok(path
        .strip_prefix(&root)
        .unwrap_or(path)
        .display()
        .to_string())
}

/// Megabytes as people read them.
fn size(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}
