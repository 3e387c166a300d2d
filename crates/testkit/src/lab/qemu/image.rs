//! The root file system of guests with an engine: Debian with its own Docker, made once and kept.
//!
//! Every guest writes into a copy of its own that ends with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::layout::fnv1a;
use crate::lab::state::rename;
use crate::process::Cmd;

const MMDEBSTRAP: &str = "/usr/bin/mmdebstrap";
const MKE2FS: &str = "/usr/sbin/mke2fs";
const TAR: &str = "/usr/bin/tar";
/// What is in it besides the essential.
const INCLUDE: &str = "docker.io,busybox-static,e2fsprogs,iproute2,kmod,procps,socat";
/// The release its engine is known to work in.
const RELEASE: &str = "bookworm";
/// The size of the file system; its file is sparse.
const SIZE: &str = "2G";
/// 40 to 110 s.
const LIMIT: Duration = Duration::from_secs(900);

/// The image, made if it is not there.
pub(super) fn ensure(dir: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf> {
    let key = fnv1a(format!("{INCLUDE}{RELEASE}{SIZE}").as_bytes());
    let image = dir.join(format!("engine-{key:08x}.ext4"));
    if image.exists() {
        return Ok(image);
    }
    progress("making the root file system of guests with an engine");
    let root = dir.join("engine.root");
    let fresh = dir.join("engine.new");
    for old in [&root, &dir.join("engine.tmp")] {
        fs::remove_dir_all(old).ok();
    }
    let tarball = dir.join("engine.tar");
    let temp = dir.join("engine.tmp");
    fs::create_dir_all(&temp)?;
    Cmd::new(MMDEBSTRAP)
        .args(["--quiet", "--variant=minbase"])
        .arg(format!("--include={INCLUDE}"))
        .arg(RELEASE)
        .arg(&tarball)
        .args(mirrors()?)
        .env("TMPDIR", &temp)
        .limit(LIMIT)
        .run()
        .context("make a Debian root file system")?;
    fs::create_dir_all(&root)?;
    Cmd::new(TAR)
        .arg("--extract")
        .arg("--numeric-owner")
        .arg("--exclude=./dev/*")
        .arg("--file")
        .arg(&tarball)
        .arg("--directory")
        .arg(&root)
        .limit(LIMIT)
        .run()?;
    fs::remove_file(&fresh).ok();
    Cmd::new(MKE2FS)
        .args(["-t", "ext4", "-q", "-F", "-O", "^has_journal", "-d"])
        .arg(&root)
        .arg(&fresh)
        .arg(SIZE)
        .limit(LIMIT)
        .run()?;
    fs::remove_dir_all(&root)?;
    fs::remove_dir_all(&temp)?;
    fs::remove_file(&tarball)?;
    rename(&fresh, &image)?;
    Ok(image)
}

/// The machine's own sources of the distribution, as files of stanzas.
fn mirrors() -> Result<Vec<PathBuf>> {
    let folder = Path::new("/etc/apt/sources.list.d");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).context("list apt's sources")? {
        let path = entry?.path();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let ours = |line: &str| {
            let suites = line.strip_prefix("Suites:");
            suites.is_some_and(|all| all.split_whitespace().any(|one| one == RELEASE))
        };
        if path.extension().is_some_and(|ext| ext == "sources") && text.lines().any(ours) {
            found.push(path);
        }
    }
    Ok(found)
}
