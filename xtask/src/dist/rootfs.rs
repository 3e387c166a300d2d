//! The managed plugin's root file system: our static program, and of this machine's packages the programs that make,
//! check and name file systems, with the libraries they need and nothing else.
//!
//! The same packages give the same files: contents are copied, modes and times are fixed, and `FILES` lists every file
//! with its size and the package and version it came from. Each package's copyright file goes along.
//!
//! No shell, no package manager. The list of programs is what `vdvs-blockdev` calls; the suite `engine_managed` makes
//! a volume of each kind with it.

use std::collections::{BTreeMap, BTreeSet};
use std::env::consts::ARCH;
use std::fmt::{self, Write as _};
use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use vdvs_testkit::process::{Cmd, tool};

use super::elf;

/// Programs, by the package that a person would have to install for them.
pub(super) const PROGRAMS: &[(&str, &[&str])] = &[
    ("e2fsprogs", &["mke2fs", "e2fsck", "tune2fs"]),
    ("xfsprogs", &["mkfs.xfs"]),
    ("btrfs-progs", &["mkfs.btrfs", "btrfstune"]),
    ("util-linux", &["blkid"]),
];
/// One program under several names.
const LINKS: &[(&str, &str)] = &[
    ("usr/sbin/mkfs.ext2", "mke2fs"),
    ("usr/sbin/mkfs.ext3", "mke2fs"),
    ("usr/sbin/mkfs.ext4", "mke2fs"),
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib"),
    // A group's number is the machine's business.
    ("etc/group", "/host/etc/group"),
];
/// Where Docker and the plugin put things.
const FOLDERS: &[&str] = &[
    "dev",
    "etc",
    "host/etc",
    "mnt/vdvs",
    "proc",
    "run/docker/plugins",
    "run/vdvs-agent",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/sbin",
    "usr/share/doc",
    "var/log",
];
/// Settings the programs read, if the machine has them: what `mkfs` makes by default is the package's choice.
const SETTINGS: &[&str] = &["/etc/mke2fs.conf"];
/// Where programs are.
const PROGRAM_DIRS: &[&str] = &["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// The list of what is in it.
pub(super) const LIST: &str = "usr/share/doc/FILES";

/// A root file system under construction.
#[derive(Debug)]
pub(super) struct Rootfs {
    root: PathBuf,
    /// Path inside → where it was copied from, if from this machine's packages.
    files: BTreeMap<PathBuf, Option<PathBuf>>,
}

impl Rootfs {
    /// An empty one; what was there before is removed.
    pub(super) fn new(root: &Path) -> Result<Self> {
        match fs::remove_dir_all(root) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("empty {}", root.display()));
            }
            _ => {}
        }
        for folder in FOLDERS {
            fs::create_dir_all(root.join(folder)).with_context(|| format!("make {folder}"))?;
        }
        for (name, target) in LINKS {
            symlink(target, root.join(name)).with_context(|| format!("link {name}"))?;
        }
        Ok(Self {
            root: root.to_owned(),
            files: BTreeMap::new(),
        })
    }

    /// Puts a file of ours in.
    pub(super) fn add(&mut self, from: &Path, inside: &str) -> Result<()> {
        self.copy(from, Path::new(inside))?;
        self.files.insert(PathBuf::from(inside), None);
        Ok(())
    }

    /// Puts in the programs of this machine's packages with all they need.
    pub(super) fn add_programs(&mut self) -> Result<()> {
        for (package, programs) in PROGRAMS {
            for name in *programs {
                let from = PROGRAM_DIRS
                    .iter()
                    .map(|dir| Path::new(dir).join(name))
                    .find(|path| path.is_file())
                    .with_context(|| format!("{name} is not installed; install {package}"))?;
                self.add_program(&from, &Path::new("usr/sbin").join(name))?;
            }
        }
        for settings in SETTINGS.iter().map(Path::new).filter(|path| path.is_file()) {
            let inside = settings.strip_prefix("/").unwrap_or(settings);
            self.add_foreign(settings, inside)?;
        }
        Ok(())
    }

    /// Finishes: licences, the list, fixed times. Returns the size of all files.
    pub(super) fn finish(self) -> Result<u64> {
        let owners = owners(self.files.values().flatten())?;
        let packages: BTreeSet<&Owner> = owners.values().collect();
        let mut listed: BTreeMap<PathBuf, String> = BTreeMap::new();
        for owner in packages {
            let inside = format!("usr/share/doc/{}/copyright", owner.package);
            self.copy(&Path::new("/").join(&inside), Path::new(&inside))
                .with_context(|| format!("the licence of {}", owner.package))?;
            listed.insert(PathBuf::from(inside), owner.to_string());
        }
        for (inside, from) in self.files {
            let owner = from.and_then(|from| owners.get(&from));
            let owner = owner.map_or_else(|| "vdvs".to_owned(), ToString::to_string);
            listed.insert(inside, owner);
        }
        let mut list = String::from("# path, bytes, package and version (vdvs: our own)\n");
        let mut total = 0;
        for (inside, owner) in listed {
            let bytes = fs::metadata(self.root.join(&inside))?.len();
            total += bytes;
            writeln!(list, "/{} {bytes} {owner}", inside.display())?;
        }
        fs::write(self.root.join(LIST), list)?;
        fs::set_permissions(self.root.join(LIST), Permissions::from_mode(0o644))?;
        fix_times(&self.root)?;
        Ok(total)
    }

    /// A program with its loader and libraries.
    fn add_program(&mut self, from: &Path, inside: &Path) -> Result<()> {
        self.add_foreign(from, inside)?;
        let mut todo = vec![from.to_owned()];
        while let Some(path) = todo.pop() {
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let elf = elf::read(&bytes).with_context(|| path.display().to_string())?;
            if let Some(loader) = &elf.interpreter {
                // Named by its whole path, which goes through our links.
                let name = Path::new(loader)
                    .file_name()
                    .context("a loader without a name")?;
                self.add_foreign(Path::new(loader), &Path::new("usr/lib").join(name))?;
            }
            for name in &elf.needed {
                let inside = Path::new("usr/lib").join(name);
                if !self.files.contains_key(&inside) {
                    let library = library(name)?;
                    self.add_foreign(&library, &inside)?;
                    todo.push(library);
                }
            }
        }
        Ok(())
    }

    fn add_foreign(&mut self, from: &Path, inside: &Path) -> Result<()> {
        self.copy(from, inside)?;
        self.files.insert(inside.to_owned(), Some(from.to_owned()));
        Ok(())
    }

    fn copy(&self, from: &Path, inside: &Path) -> Result<()> {
        let to = self.root.join(inside);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        let what = || format!("copy {} to {}", from.display(), to.display());
        fs::copy(from, &to).with_context(what)?;
        let runs = fs::metadata(from)?.permissions().mode() & 0o111 != 0;
        let mode = if runs { 0o755 } else { 0o644 };
        fs::set_permissions(&to, Permissions::from_mode(mode)).with_context(what)
    }
}

/// The loader looks in `/lib` and `/usr/lib` by itself, wherever the machine keeps its libraries.
fn library(name: &str) -> Result<PathBuf> {
    let arch = ARCH;
    let folders = [
        format!("/usr/lib/{arch}-linux-gnu"),
        format!("/lib/{arch}-linux-gnu"),
        "/usr/lib64".to_owned(),
        "/lib64".to_owned(),
        "/usr/lib".to_owned(),
        "/lib".to_owned(),
    ];
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file());
    found.with_context(|| format!("the library {name} is in none of {}", folders.join(", ")))
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Owner {
    package: String,
    version: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.package, self.version)
    }
}

/// Which packages files belong to. All of them belong to one: what nobody ships has no licence we know.
fn owners<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<BTreeMap<PathBuf, Owner>> {
    let files: Vec<&PathBuf> = files.collect();
    // A package may name a file by its place before /usr was merged, or by what a link points to.
    let spellings = |path: &Path| -> Vec<PathBuf> {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        [path, real.as_path()]
            .into_iter()
            .flat_map(|path| {
                let merged = Path::new("/usr").join(path.strip_prefix("/").unwrap_or(path));
                let before = path
                    .strip_prefix("/usr")
                    .map(|rest| Path::new("/").join(rest));
                [Some(path.to_owned()), Some(merged), before.ok()]
            })
            .flatten()
            .collect()
    };
    let asked = files.iter().flat_map(|path| spellings(path));
    // Fails when one of the spellings is unknown, and prints the others all the same.
    let done = Cmd::new(tool::DPKG_QUERY)
        .arg("--search")
        .args(asked)
        .output()?;
    let mut of_path = BTreeMap::new();
    for line in done.stdout.lines() {
        if let Some((package, path)) = line.split_once(": ") {
            let package = package.split([':', ',']).next().unwrap_or(package);
            of_path.insert(PathBuf::from(path), package.to_owned());
        }
    }
    let mut versions: BTreeMap<String, String> = BTreeMap::new();
    let mut owners = BTreeMap::new();
    for file in files {
        let package = spellings(file)
            .iter()
            .find_map(|path| of_path.get(path).cloned());
        let Some(package) = package else {
            bail!(
                "{} belongs to no package: its licence is unknown",
                file.display()
            );
        };
        let version = match versions.get(&package) {
            Some(version) => version.clone(),
            None => {
                let args = ["--show", "--showformat", "${Version}\n", &package];
                let said = Cmd::new(tool::DPKG_QUERY).args(args).run()?;
                let version = said.lines().next().unwrap_or_default().to_owned();
                versions.insert(package.clone(), version.clone());
                version
            }
        };
        owners.insert(file.clone(), Owner { package, version });
    }
    Ok(owners)
}

/// The same time for everything: two builds of the same are the same.
pub(super) fn fix_times(path: &Path) -> Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return Ok(());
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            fix_times(&entry?.path())?;
        }
    }
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH);
    let file = File::open(path)?;
    file.set_modified(time)
        .with_context(|| format!("set the time of {}", path.display()))
}

/// 2026-01-01T00:00:00Z: any fixed moment does, and some tools do not like the year 1970.
pub(super) const EPOCH: u64 = 1_767_225_600;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn the_programs_run_with_nothing_but_what_was_put_in() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("rootfs");
        let mut rootfs = Rootfs::new(&root).unwrap();
        rootfs.add_programs().unwrap();
        let total = rootfs.finish().unwrap();
        assert!(total > 1_000_000 && total < 40_000_000, "{total} bytes");
        let list = fs::read_to_string(root.join(LIST)).unwrap();
        for part in [
            "/usr/sbin/mkfs.xfs ",
            " e2fsprogs ",
            "/usr/lib/libc.so.6 ",
            "btrfs-progs/copyright",
        ] {
            assert!(list.contains(part), "no '{part}' in\n{list}");
        }
        // Root only: a new root folder.
        let own = fs::metadata("/proc/self").unwrap();
        if own.uid() != 0 {
            eprintln!("skipped: chroot needs root");
            return;
        }
        for (program, flag) in [
            ("mkfs.ext4", "-V"),
            ("mkfs.xfs", "-V"),
            ("mkfs.btrfs", "--version"),
            ("btrfstune", "--help"),
            ("blkid", "-V"),
        ] {
            let done = Cmd::new("/usr/sbin/chroot")
                .arg(&root)
                .arg(format!("/usr/sbin/{program}"))
                .arg(flag)
                .output()
                .unwrap();
            assert!(
                !done.stderr.contains("error while loading"),
                "{program}: {}",
                done.stderr
            );
            assert!(
                done.status.code().is_some_and(|code| code < 2),
                "{program}: {done:?}"
            );
        }
    }
}
