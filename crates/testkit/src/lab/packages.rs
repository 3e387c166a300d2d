//! Debian packages the lab needs: what is missing is installed, what is there is left alone.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Cmd, tool};

/// Everything a node, an image recipe or a suite calls.
pub const PACKAGES: &[&str] = &[
    "docker.io",
    "iptables",
    "busybox-static",
    "iproute2",
    "util-linux",
    "postgresql-15",
    "xfsprogs",
    "btrfs-progs",
    "e2fsprogs",
    "qemu-utils",
    "libvmdk-utils",
    "python3-libvmdk",
    "python3-venv",
    "podman",
    // The C parts of the agent as it ships.
    "musl-tools",
];
/// Somebody else may be installing; that takes minutes, not more.
const LOCK_WAIT: &str = "DPkg::Lock::Timeout=300";
/// A cold installation over a slow mirror.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);

/// Installs those of `packages` that are missing and says how many these were. Package lists are fetched only when
/// the installation does not work without.
///
/// # Errors
/// A package cannot be installed.
pub fn ensure_packages(packages: &[&str], progress: &dyn Fn(&str)) -> Result<usize> {
    let missing = missing(packages)?;
    if !missing.is_empty() {
        progress(&format!("installing {}", missing.join(" ")));
        if install(&missing, None).is_err() {
            progress("updating package lists");
            update()?;
            install(&missing, None).context("install the lab's packages")?;
        }
    }
    progress("packages ready");
    Ok(missing.len())
}

fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    // Fails when one of the names is unknown, but lists the others all the same.
    let done = Cmd::new(tool::DPKG_QUERY)
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()?;
    let installed = |name: &&&str| {
        done.stdout
            .lines()
            .any(|line| line == format!("{name} installed"))
    };
    Ok(packages
        .iter()
        .filter(|name| !installed(name))
        .copied()
        .collect())
}

/// Fetches the package lists.
pub(super) fn update() -> Result<()> {
    apt(&["update"]).run().map(drop)
}

/// Installs packages, from this suite if one is named.
pub(super) fn install(packages: &[&str], suite: Option<&str>) -> Result<()> {
    apt(&["install", "--yes", "--no-install-recommends"])
        .args(
            suite
                .into_iter()
                .flat_map(|suite| ["--target-release", suite]),
        )
        .args(packages)
        .run()
        .map(drop)
}

fn apt(args: &[&str]) -> Cmd {
    Cmd::new(tool::APT_GET)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", "-o", LOCK_WAIT])
        .args(args)
        .limit(INSTALL_LIMIT)
}
