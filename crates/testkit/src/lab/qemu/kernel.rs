//! The guests' kernel: the distribution's for clouds, taken out of its package, and of its modules those a guest needs.
//!
//! The package's name changes with every update and is asked for, never pinned. A kernel that is there is kept.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::packages;
use crate::lab::state::rename;
use crate::process::Cmd;

/// Depends on the newest.
const META: &str = "linux-image-cloud-amd64";
const APT_CACHE: &str = "/usr/bin/apt-cache";
const APT_GET: &str = "/usr/bin/apt-get";
const DPKG_DEB: &str = "/usr/bin/dpkg-deb";
const DEPMOD: &str = "/usr/sbin/depmod";
/// 27 MB.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);
/// What a guest loads; what these need comes along.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "sd_mod",
    "vmw_pvscsi",
    "vmw_vsock_virtio_transport",
    "overlay",
];

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// Its compressed image.
    pub(super) image: PathBuf,
    /// Files of its modules, each after those it needs.
    pub(super) modules: Vec<PathBuf>,
}

/// The kernel in `dir`, fetched if there is none.
pub(super) fn ensure(dir: &Path, progress: &dyn Fn(&str)) -> Result<Kernel> {
    let kept = dir.join("kernel");
    if !kept.is_dir() {
        progress("fetching the guests' kernel");
        let fresh = dir.join("kernel.new");
        fs::remove_dir_all(&fresh).ok();
        fs::create_dir_all(&fresh)?;
        fetch(&fresh)?;
        rename(&fresh, &kept)?;
    }
    let version = only_name(&kept.join("lib/modules"))?;
    let modules = kept.join("lib/modules").join(&version);
    let table = fs::read_to_string(modules.join("modules.dep")).context("read modules.dep")?;
    Ok(Kernel {
        image: kept.join(format!("boot/vmlinuz-{version}")),
        modules: in_order(&table)?
            .iter()
            .map(|file| modules.join(file))
            .collect(),
    })
}

fn fetch(into: &Path) -> Result<()> {
    let name = match newest() {
        Ok(name) => name,
        Err(_) => {
            packages::update()?;
            newest()?
        }
    };
    Cmd::new(APT_GET)
        .args(["download", "-q", &name])
        .current_dir(into)
        .limit(DOWNLOAD_LIMIT)
        .run()
        .context("download the kernel's package")?;
    let package = fs::read_dir(into)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|ext| ext == "deb"))
        .context("apt-get downloaded no package")?;
    Cmd::new(DPKG_DEB)
        .arg("--extract")
        .arg(&package)
        .arg(into)
        .run()?;
    fs::remove_file(&package)?;
    let version = only_name(&into.join("lib/modules"))?;
    Cmd::new(DEPMOD)
        .arg("--basedir")
        .arg(into)
        .arg(&version)
        .run()?;
    Ok(())
}

/// The package the meta package depends on.
fn newest() -> Result<String> {
    let said = Cmd::new(APT_CACHE).args(["depends", META]).run()?;
    let depends = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    depends
        .map(str::trim)
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
        .with_context(|| format!("{META} depends on no kernel"))
}

fn only_name(dir: &Path) -> Result<String> {
    let first = fs::read_dir(dir)
        .with_context(|| format!("list {}", dir.display()))?
        .next();
    let name = first.context("an empty folder")??.file_name();
    name.into_string().ok().context("a name that is not UTF-8")
}

/// Files of the modules, each after those it needs: `modules.dep` lists a module's needs nearest first.
fn in_order(table: &str) -> Result<Vec<String>> {
    let entries: HashMap<&str, (&str, &str)> = table
        .lines()
        .filter_map(|line| {
            let (file, needs) = line.split_once(':')?;
            let name = file.rsplit('/').next()?.split(".ko").next()?;
            Some((name, (file, needs)))
        })
        .collect();
    let mut order: Vec<String> = Vec::new();
    for module in MODULES {
        let (file, needs) = entries
            .get(module)
            .with_context(|| format!("the kernel has no module {module}"))?;
        for one in needs.split_whitespace().rev().chain([*file]) {
            if !order.iter().any(|there| there == one) {
                order.push(one.to_owned());
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_after_all_it_needs() {
        let mut table = String::from(
            "k/vmw_pvscsi.ko: k/scsi_mod.ko k/scsi_common.ko\nk/sd_mod.ko: k/scsi_mod.ko k/scsi_common.ko\n",
        );
        for name in [
            "virtio_pci",
            "virtio_blk",
            "virtio_console",
            "vmw_vsock_virtio_transport",
            "overlay",
        ] {
            table.push_str(&format!("k/{name}.ko:\n"));
        }
        let order = in_order(&table).unwrap();
        let at = |name: &str| {
            let file = format!("k/{name}.ko");
            order.iter().position(|one| *one == file).unwrap()
        };
        assert!(at("scsi_common") < at("scsi_mod") && at("scsi_mod") < at("sd_mod"));
        assert!(at("scsi_mod") < at("vmw_pvscsi"));
        assert_eq!(order.len(), 9);
        assert!(in_order("k/sd_mod.ko:\n").is_err());
    }
}
