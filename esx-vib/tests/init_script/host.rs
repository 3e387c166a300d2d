//! A host made of a folder: the package's files at their places, busybox as its shell, and stand-ins for the few commands of
//! ESXi that the scripts call. It has process numbers of its own, with a first process that takes in what others leave, as
//! on any host; what runs in it ends with that one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::yield_now;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vdvs_esx_vib::descriptor::Acceptance;
use vdvs_esx_vib::payload::{self, Programs};
use vdvs_esx_vib::tar::Kind;
use vdvs_esx_vib::vib::{self, Vib};
use vdvs_testkit::process::{Cmd, ProcId};

const BUSYBOX: &str = "/bin/busybox";
/// Far beyond what any of it takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Applets by path: what interpreters' first lines and scripts name.
const APPLETS: [&str; 2] = ["sh", "ash"];
/// Folders a host has.
const FOLDERS: [&str; 10] = [
    "bin",
    "dev",
    "sbin",
    "tmp",
    "host/groups/host/vim/vimuser",
    "proc/self",
    "var/log",
    "var/run/vmware",
    "var/lib/vmware/osdata",
    "vmfs/volumes",
];

/// The first process. Waiting for one child, the shell takes in every other one that ended.
const FIRST: &str = ": first; while :; do sleep 1 & wait; done";

pub(crate) struct Host {
    root: TempDir,
    /// Starts the first process, and ends with it.
    first: Option<ProcId>,
}

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) said: String,
}

impl Host {
    /// A host with the package installed; none, after saying why, where it cannot be made.
    pub(crate) fn new() -> Option<Self> {
        Self::with_agent(include_bytes!("host/vdvsd"))
    }

    pub(crate) fn with_agent(agent: &[u8]) -> Option<Self> {
        if !Path::new(BUSYBOX).exists() {
            eprintln!("skipped: {BUSYBOX} is not there; install busybox-static");
            return None;
        }
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            eprintln!("skipped: chroot needs root");
            return None;
        }
        let mut host = Self {
            root: TempDir::new().unwrap(),
            first: None,
        };
        for folder in FOLDERS {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        fs::copy(BUSYBOX, host.path("bin/busybox")).unwrap();
        // Its shell calls its own applets through this.
        symlink("/bin/busybox", host.path("proc/self/exe")).unwrap();
        let null = host.path("dev/null");
        let mknod = Cmd::new(BUSYBOX).arg("mknod").arg(null);
        mknod.args(["c", "1", "3"]).run().unwrap();
        for applet in APPLETS {
            symlink("busybox", host.path("bin").join(applet)).unwrap();
        }
        host.script("sbin/watchdog.sh", include_bytes!("host/watchdog.sh"));
        host.script("bin/localcli", include_bytes!("host/localcli"));
        host.script("host/commands.sh", include_bytes!("host/commands.sh"));
        host.install(agent);
        host.boot();
        Some(host)
    }

    fn boot(&mut self) {
        let first = Cmd::new("/usr/bin/unshare")
            .args(["--pid", "--fork", "--kill-child", "/usr/sbin/chroot"])
            .arg(self.root.path())
            .args(["/bin/sh", "-c", FIRST])
            .clean_env();
        self.first = Some(first.daemon(&self.path("host/first.log")).unwrap());
        self.until("the first process", |h| {
            h.found(|line| line.contains(FIRST)).len() == 1
        });
    }

    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.path().join(inside)
    }

    fn script(&self, path: &str, text: &[u8]) {
        fs::write(self.path(path), text).unwrap();
        fs::set_permissions(self.path(path), Permissions::from_mode(0o755)).unwrap();
    }

    /// Puts the package's files at their places, as a host mounts them: read back from the package itself.
    fn install(&self, agent: &[u8]) {
        let about = payload::about("0.1.0", 1, 1_795_271_000, Acceptance::Community).unwrap();
        let files = payload::files(Programs {
            agent: agent.to_vec(),
            cli: include_bytes!("host/vdvs").to_vec(),
            plugin: Vec::new(),
            licence: Vec::new(),
            third_party: Vec::new(),
        });
        let vib = Vib::read(&vib::build(&about, &files, b"").unwrap()).unwrap();
        for entry in vib.entries() {
            let path = self.path(&entry.path);
            match entry.kind {
                Kind::Folder => fs::create_dir_all(path).unwrap(),
                _ => {
                    fs::write(&path, &entry.data).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(entry.mode)).unwrap();
                }
            }
        }
    }

    /// Takes them away again, as a removal does.
    pub(crate) fn uninstall(&self) {
        fs::remove_dir_all(self.path("opt")).unwrap();
        fs::remove_file(self.path("etc/init.d/vdvs")).unwrap();
    }

    /// Makes a switch of the stand-ins.
    pub(crate) fn set(&self, switch: &str) {
        fs::write(self.path("host").join(switch), "").unwrap();
    }

    pub(crate) fn unset(&self, switch: &str) {
        fs::remove_file(self.path("host").join(switch)).unwrap();
    }

    /// Runs the init script with these words.
    pub(crate) fn init(&self, words: &str) -> Done {
        let script = "/etc/init.d/vdvs";
        let read = format!(". /host/commands.sh; . {script}");
        let mut args = vec!["/bin/sh", "-c", &read, script];
        args.extend(words.split_whitespace());
        self.run(&args)
    }

    /// Runs a program of the host.
    pub(crate) fn run(&self, args: &[&str]) -> Done {
        let first = self.first.expect("the host has been booted").pid;
        let done = Cmd::new("/usr/bin/nsenter")
            .arg(format!("--pid=/proc/{first}/ns/pid_for_children"))
            .arg("/usr/sbin/chroot")
            .arg(self.root.path())
            .args(args)
            .clean_env()
            .limit(PATIENCE)
            .output()
            .unwrap();
        assert_eq!(done.stderr, "", "{args:?}");
        Done {
            code: done.status.code().unwrap(),
            said: done.stdout,
        }
    }

    /// What the stand-ins were asked for since the last time.
    pub(crate) fn calls(&self) -> Vec<String> {
        let path = self.path("host/calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        fs::remove_file(path).ok();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Processes of this host whose command line has this word, by their numbers outside. Not the first one.
    pub(crate) fn processes(&self, word: &str) -> Vec<u32> {
        self.found(|line| line.contains(word) && !line.contains(FIRST))
    }

    fn found(&self, fits: impl Fn(&str) -> bool) -> Vec<u32> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            // One that ends meanwhile is none.
            let here = fs::read_link(entry.path().join("root"));
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if here.is_ok_and(|root| root == self.root.path()) && fits(&line) {
                found.push(pid);
            }
        }
        // The shell runs some of its own commands in copies of itself.
        let all = found.clone();
        found.retain(|pid| parent(*pid).is_none_or(|parent| !all.contains(&parent)));
        found
    }

    /// The agent's number, as the host has it.
    pub(crate) fn number(&self) -> String {
        self.text("var/run/vdvsd/pid").trim().to_owned()
    }

    pub(crate) fn agents(&self) -> Vec<u32> {
        self.processes("/opt/vdvs/bin/vdvsd")
    }

    pub(crate) fn watchdogs(&self) -> Vec<u32> {
        self.processes("/sbin/watchdog.sh")
    }

    /// Ends processes at once, and waits until nothing of them is left.
    pub(crate) fn kill(&self, pids: &[u32]) {
        for pid in pids {
            let pid = pid.to_string();
            // One that has ended by itself meanwhile cannot be killed; whether they are gone is looked at below.
            Cmd::new(BUSYBOX).args(["kill", "-9", &pid]).run().ok();
        }
        let left = |pid: &u32| Path::new(&format!("/proc/{pid}")).exists();
        self.until("they are gone", |_| !pids.iter().any(left));
    }

    /// Waits until it holds.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
            yield_now();
        }
    }
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(first) = self.first.filter(ProcId::is_alive) else {
            return;
        };
        let pid = first.pid.to_string();
        Cmd::new(BUSYBOX).args(["kill", "-9", &pid]).output().ok();
        let end = Instant::now() + PATIENCE;
        while !self.found(|_| true).is_empty() && Instant::now() < end {
            yield_now();
        }
    }
}
