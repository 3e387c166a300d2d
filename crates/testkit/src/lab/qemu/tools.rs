//! Programs from outside: QEMU from the distribution's backports, the vSocket backend built by cargo.
//!
//! The backports are asked from the very mirror that the machine's own sources name. A backport is installed only when
//! it is asked for by name, so adding the source upgrades nothing.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::lab::binaries::target_dir;
use crate::lab::packages::{self, ensure_packages};
use crate::process::Cmd;

/// The emulator.
pub(super) const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// What else a guest is made with.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "cpio",
    "e2fsprogs",
    "kmod",
    "mmdebstrap",
    "socat",
];
/// The emulator and what has to be of its version.
const EMULATOR: &[&str] = &["qemu-system-x86", "qemu-utils"];
/// `blockdev-set-active`, with which a suspended VM lets go of its disks, came with this version.
const QEMU_MAJOR: u32 = 10;
/// The vSocket backend and the version whose ways are known.
const VSOCK: (&str, &str) = ("vhost-device-vsock", "0.3.0");
/// 93 s on two idle cores.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// Where apt looks for sources.
const SOURCES: &str = "/etc/apt/sources.list.d";
/// Ours.
const BACKPORTS: &str = "/etc/apt/sources.list.d/vdvs-backports.sources";

/// Installs what is missing.
pub(super) fn ensure(progress: &dyn Fn(&str)) -> Result<()> {
    ensure_packages(PACKAGES, progress)?;
    if emulator_major().is_none_or(|major| major < QEMU_MAJOR) {
        install_emulator(progress)?;
    }
    let major = emulator_major().context("QEMU does not say its version")?;
    ensure!(
        major >= QEMU_MAJOR,
        "QEMU {major} is installed; the lab needs {QEMU_MAJOR}"
    );
    ensure_vsock(progress)
}

/// The installed vSocket backend.
pub(super) fn vsock_backend() -> Result<PathBuf> {
    Ok(target_dir()?.join("tools/bin").join(VSOCK.0))
}

fn emulator_major() -> Option<u32> {
    if !Path::new(QEMU).exists() {
        return None;
    }
    let said = Cmd::new(QEMU).arg("--version").run().ok()?;
    let version = said.split_once("version ")?.1;
    version.split('.').next()?.parse().ok()
}

fn install_emulator(progress: &dyn Fn(&str)) -> Result<()> {
    progress("installing QEMU");
    // A newer distribution has it; with the other backports this one's tools may be newer than its emulator.
    if packages::install(EMULATOR, None).is_ok()
        && emulator_major().is_some_and(|major| major >= QEMU_MAJOR)
    {
        return Ok(());
    }
    let suite = add_backports().context("find the distribution's backports")?;
    packages::update()?;
    packages::install(EMULATOR, Some(&suite)).context("install QEMU from the backports")
}

/// Adds the backports of the distribution to the sources and returns the suite's name.
fn add_backports() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let codename = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("the distribution does not say its code name")?
        .trim_matches('"');
    let suite = format!("{codename}-backports");
    let own = sources(codename)?;
    let stanza = backports_stanza(&own, codename, &suite)
        .with_context(|| format!("no source of {codename} in {SOURCES}"))?;
    fs::write(BACKPORTS, stanza).with_context(|| format!("write {BACKPORTS}"))?;
    Ok(suite)
}

/// All sources in the form of stanzas that name the distribution.
fn sources(codename: &str) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(SOURCES).with_context(|| format!("list {SOURCES}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "sources") && path != Path::new(BACKPORTS) {
            let stanzas = fs::read_to_string(&path)?;
            if stanzas.contains(codename) {
                text.push_str(&stanzas);
                text.push_str("\n\n");
            }
        }
    }
    Ok(text)
}

/// The distribution's own stanza with the other suite; the one for security fixes is another mirror's.
fn backports_stanza(sources: &str, codename: &str, suite: &str) -> Option<String> {
    let suites = |stanza: &str| {
        let line = stanza.lines().find_map(|line| line.strip_prefix("Suites:"));
        line.is_some_and(|all| all.split_whitespace().any(|one| one == codename))
    };
    let stanza = sources.split("\n\n").find(|stanza| suites(stanza))?;
    let lines = stanza.lines().map(|line| match line {
        line if line.starts_with("Suites:") => format!("Suites: {suite}\n"),
        line => format!("{line}\n"),
    });
    Some(lines.collect())
}

fn ensure_vsock(progress: &dyn Fn(&str)) -> Result<()> {
    let program = vsock_backend()?;
    if program.exists() {
        return Ok(());
    }
    let (name, version) = VSOCK;
    progress(&format!("building {name}"));
    let root = target_dir()?.join("tools");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let cargo = which(&cargo).context("cargo is not on the search path")?;
    Cmd::new(cargo)
        .args(["install", name, "--version", version, "--locked", "--root"])
        .arg(&root)
        // Its own: the clone's would be locked meanwhile, and keep what nobody needs afterwards.
        .env("CARGO_TARGET_DIR", root.join("build"))
        .limit(BUILD_LIMIT)
        .run()
        .with_context(|| format!("build {name}"))?;
    fs::remove_dir_all(root.join("build")).context("remove what the build left")?;
    ensure!(program.exists(), "{} is not there", program.display());
    Ok(())
}

/// The absolute path of a program.
fn which(program: &OsString) -> Option<PathBuf> {
    if Path::new(program).is_absolute() {
        return Some(PathBuf::from(program));
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backports_come_from_the_mirror_the_machine_uses() {
        let sources = "Types: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\n\n\
                       Types: deb\nURIs: http://mirror.example/all\nSuites: bookworm bookworm-updates\nComponents: main\n";
        assert_eq!(
            backports_stanza(sources, "bookworm", "bookworm-backports").unwrap(),
            "Types: deb\nURIs: http://mirror.example/all\nSuites: bookworm-backports\nComponents: main\n"
        );
        assert_eq!(backports_stanza(sources, "trixie", "x"), None);
    }
}
