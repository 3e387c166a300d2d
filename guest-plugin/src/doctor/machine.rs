//! Programs, and what the kernel can do.

use std::fs;
use std::path::Path;

use super::{Finding, Level};
use crate::checks::{self, below};

pub(super) fn programs(root: &Path) -> Vec<Finding> {
    let kinds = checks::file_systems(root);
    let mut all = Vec::new();
    if kinds.contains(&"ext4") {
        all.push(Finding::fine("formats", kinds.join(", ")));
    } else {
        let text = "mkfs.ext4 is not installed: new volumes cannot be used";
        all.push(Finding::bad(
            "formats",
            Level::Broken,
            text,
            "apt-get install e2fsprogs",
        ));
    }
    let helpers = [
        (
            "ext4",
            "e2fsck",
            "e2fsprogs",
            "damaged file systems are not repaired before a mount",
        ),
        (
            "btrfs",
            "btrfstune",
            "btrfs-progs",
            "clones of btrfs volumes cannot be mounted",
        ),
    ];
    for (kind, program, package, what) in helpers {
        if kinds.contains(&kind) && checks::program(root, program).is_none() {
            let text = format!("{program} is not installed: {what}");
            let act = format!("apt-get install {package}");
            all.push(Finding::bad("formats", Level::Attention, text, act));
        }
    }
    all
}

/// Whether the kernel mounts what can be made here, and drives the controller that volumes come on.
pub(super) fn kernel(root: &Path, agent: &str) -> Vec<Finding> {
    let known = fs::read_to_string(below(root, Path::new("/proc/filesystems")));
    let known = known.unwrap_or_default();
    let modules = Modules::of(root);
    let (mut all, mut good) = (Vec::new(), Vec::new());
    for kind in checks::file_systems(root) {
        let loaded = known
            .lines()
            .any(|line| line.split_whitespace().last() == Some(kind));
        match loaded || modules.has(kind) {
            true => good.push(kind),
            // Only asked for by who asks for it; ext4 is asked for by everybody.
            false => {
                let text = format!("this kernel has no {kind}: volumes with it cannot be mounted");
                let act = format!(
                    "modprobe {kind}; if it is not there, install the kernel's further modules (linux-modules-extra)"
                );
                let level = match kind {
                    "ext4" => Level::Broken,
                    _ => Level::Attention,
                };
                all.push(Finding::bad("kernel", level, text, act));
            }
        }
    }
    let drives = below(root, Path::new("/sys/bus/pci/drivers/vmw_pvscsi")).exists();
    if agent.starts_with("vsock") && !drives && !modules.has("vmw_pvscsi") {
        let text = "no driver for paravirtual SCSI controllers: disks do not appear";
        let act = "install the kernel's further modules, then modprobe vmw_pvscsi";
        all.push(Finding::bad("kernel", Level::Broken, text, act));
    }
    if all.is_empty() {
        all.push(Finding::fine(
            "kernel",
            format!("mounts {}", good.join(", ")),
        ));
    }
    all
}

/// The modules of the running kernel that are there to be loaded, or are part of it.
struct Modules(String);

impl Modules {
    fn of(root: &Path) -> Self {
        let read = |path: &Path| fs::read_to_string(below(root, path)).unwrap_or_default();
        let release = read(Path::new("/proc/sys/kernel/osrelease"));
        let folder = Path::new("/lib/modules").join(release.trim());
        let lists = ["modules.builtin", "modules.dep"];
        Self(lists.map(|list| read(&folder.join(list))).join("\n"))
    }

    fn has(&self, name: &str) -> bool {
        let file = |line: &str| {
            let path = line.split(':').next()?;
            let file = path.rsplit('/').next()?;
            Some(file.split(".ko").next()? == name)
        };
        self.0.lines().any(|line| file(line) == Some(true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_cannot_mount_what_is_made_is_named() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for name in ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"] {
            put(&format!("usr/sbin/{name}"), "");
        }
        put("proc/filesystems", "nodev\tproc\n\text4\n");
        put("proc/sys/kernel/osrelease", "6.1.0-x\n");
        let dep = "kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\nkernel/fs/btrfs2.ko:\n";
        put("lib/modules/6.1.0-x/modules.dep", dep);
        let found = kernel(root.path(), "unix:/x");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].text.contains("btrfs") && found[0].level == Level::Attention);
        let found = kernel(root.path(), "vsock:2:1019");
        assert!(
            found
                .iter()
                .any(|f| f.text.contains("SCSI") && f.level == Level::Broken)
        );
        put(
            "lib/modules/6.1.0-x/modules.builtin",
            "kernel/fs/btrfs/btrfs.ko\nkernel/drivers/scsi/vmw_pvscsi.ko\n",
        );
        let found = kernel(root.path(), "vsock:2:1019");
        assert_eq!(found, [Finding::fine("kernel", "mounts ext4, xfs, btrfs")]);
    }

    #[test]
    fn a_machine_without_tools_is_told_what_to_install() {
        let root = tempfile::tempdir().unwrap();
        let broken = programs(root.path());
        assert_eq!(broken.first().unwrap().level, Level::Broken);
        let bin = root.path().join("usr/sbin");
        fs::create_dir_all(&bin).unwrap();
        for name in ["mkfs.ext4", "mkfs.btrfs", "e2fsck"] {
            fs::write(bin.join(name), "").unwrap();
        }
        let found = programs(root.path());
        assert_eq!(
            found.first().unwrap(),
            &Finding::fine("formats", "ext4, btrfs")
        );
        assert_eq!(found.len(), 2);
        assert!(found[1].text.starts_with("btrfstune"), "{found:?}");
        assert_eq!(found[1].act.as_deref(), Some("apt-get install btrfs-progs"));
    }
}
