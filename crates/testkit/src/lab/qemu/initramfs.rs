//! The guests' first file system: the managed plugin's (our static program, `mkfs` and the like), a busybox, the
//! kernel's modules and two scripts, as one archive.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::kernel::Kernel;
use crate::lab::binaries::target_dir;
use crate::lab::state::rename;
use crate::process::Cmd;

const CPIO: &str = "/usr/bin/cpio";
const FIND: &str = "/usr/bin/find";
const CP: &str = "/usr/bin/cp";
const LDD: &str = "/usr/bin/ldd";
const BUSYBOX: &str = "/usr/bin/busybox";
/// Speaks to the plugin's socket as Docker would.
const SOCAT: &str = "/usr/bin/socat";
const INIT: &str = include_str!("guest-init.sh");
const COMMANDS: &str = include_str!("guest-commands.sh");

const VOLUME: &str = include_str!("guest-volume.sh");

/// Makes the archive anew: its parts change with every build of the plugin, and it takes a second.
pub(super) fn ensure(dir: &Path, kernel: &Kernel) -> Result<PathBuf> {
    let plugin = target_dir()?.join("dist/debug/plugin/rootfs");
    ensure!(
        plugin.join("usr/bin/vdvs-plugin").exists(),
        "{} is not there: run 'cargo xtask dist --debug'",
        plugin.display()
    );
    let root = dir.join("initramfs");
    match fs::remove_dir_all(&root) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    Cmd::new(CP)
        .args(["--archive", "--no-target-directory"])
        .arg(&plugin)
        .arg(&root)
        .run()?;
    for folder in ["lab/bin", "lab/ko", "var/lib/vdvs", "root"] {
        fs::create_dir_all(root.join(folder))?;
    }
    let mut order = String::new();
    for module in &kernel.modules {
        let name = module.file_name().context("a module without a name")?;
        fs::copy(module, root.join("lab/ko").join(name))
            .with_context(|| format!("copy {}", module.display()))?;
        order.push_str(&format!("{}\n", name.display()));
    }
    fs::write(root.join("lab/modules"), order)?;
    add_busybox(&root)?;
    add_program(&root, SOCAT)?;
    let scripts = [
        ("init", INIT),
        ("lab/commands.sh", COMMANDS),
        ("usr/bin/volume", VOLUME),
    ];
    for (name, text) in scripts {
        fs::write(root.join(name), text)?;
        fs::set_permissions(root.join(name), Permissions::from_mode(0o755))?;
    }
    let archive = dir.join("initramfs.cpio");
    let fresh = dir.join("initramfs.new");
    let names = Cmd::new(FIND).arg(".").current_dir(&root).run()?;
    Cmd::new(CPIO)
        .args([
            "--create",
            "--quiet",
            "--format=newc",
            "--owner=0:0",
            "--file",
        ])
        .arg(&fresh)
        .current_dir(&root)
        .input(names)
        .run()?;
    rename(&fresh, &archive)?;
    Ok(archive)
}

/// A busybox and its names; programs that are there already stay.
fn add_busybox(root: &Path) -> Result<()> {
    fs::copy(BUSYBOX, root.join("lab/bin/busybox")).context("copy busybox")?;
    let applets = Cmd::new(BUSYBOX).arg("--list").run()?;
    for name in applets.lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("lab/bin").join(name))?;
    }
    // Scripts begin with it.
    symlink("/lab/bin/busybox", root.join("usr/bin/sh")).context("link sh")
}

/// A program of this machine with the libraries it needs.
fn add_program(root: &Path, program: &str) -> Result<()> {
    let from = Path::new(program);
    let name = from.file_name().context("a program without a name")?;
    fs::copy(from, root.join("usr/bin").join(name)).with_context(|| format!("copy {program}"))?;
    let needs = Cmd::new(LDD).arg(from).run()?;
    for library in needs.lines().filter_map(library) {
        let name = library.file_name().context("a library without a name")?;
        let to = root.join("usr/lib").join(name);
        if !to.exists() {
            fs::copy(&library, &to).with_context(|| format!("copy {}", library.display()))?;
        }
    }
    Ok(())
}

/// `libssl.so.3 => /lib/…/libssl.so.3 (0x…)`
fn library(line: &str) -> Option<PathBuf> {
    let path = line.split_once("=> ")?.1.split(' ').next()?;
    path.starts_with('/').then(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_the_loader_says() {
        let path = library("\tlibssl.so.3 => /lib/x/libssl.so.3 (0x00007f)");
        assert_eq!(path, Some(PathBuf::from("/lib/x/libssl.so.3")));
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007f)"), None);
    }
}
