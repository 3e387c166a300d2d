//! Hosts in a temporary folder, the real `vdvs-labhv` for each, and VMs that are namespaces with a `/dev` of their own.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use uuid::Uuid;
use vdvs_domain::Capacity;
use vdvs_host_lab::config::isolation_flag;
use vdvs_host_lab::hv::start_time;
use vdvs_host_lab::protocol::{Disk, LabErrorKind};
use vdvs_host_lab::{BlockingClient, ClientError};
use vdvs_vmdk::{Adapter, DiskFiles, DiskUuid, NewDisk, Provisioning};

/// Far above anything measured; only a hang reaches it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The init of a VM: a private /dev with what a shell needs, then wait for ever.
const INIT: &str = "mount -t tmpfs -o mode=755 dev /dev && mknod /dev/null c 1 3 && mkdir /dev/shm \
                    && echo ready && exec sleep infinity";

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of these tests that starts programs"
)]
pub(crate) fn command(program: &str) -> Command {
    Command::new(program)
}

/// Loud, because a test that did nothing must not look like one that passed.
pub(crate) fn can_run() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0);
    let loops = Path::new("/dev/loop-control").exists();
    if !(root && loops) {
        eprintln!("skipped: needs root ({root}) and loop devices ({loops})");
    }
    root && loops
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// The host and datastore of tests that need one.
const HOST: &str = "esx01";
const STORE: &str = "vsanDatastore";

/// A datastore all hosts have: name, type, lapse time of locks in milliseconds.
pub(crate) type Store = (&'static str, &'static str, u64);

pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    labhvs: BTreeMap<String, Child>,
    hosts: Vec<String>,
    vms: Vec<FakeVm>,
}

struct FakeVm {
    name: String,
    unshare: Child,
    init: i32,
}

impl Rig {
    /// A host with one datastore and a running labhv.
    pub(crate) fn new() -> Self {
        Self::with(&[HOST], &[(STORE, "vsan", 0)])
    }

    /// Hosts that share datastores, each with a running labhv.
    pub(crate) fn with(hosts: &[&str], stores: &[Store]) -> Self {
        let mut rig = Self {
            dir: TempDir::new().unwrap(),
            labhvs: BTreeMap::new(),
            hosts: hosts.iter().map(|h| (*h).to_owned()).collect(),
            vms: Vec::new(),
        };
        let mut listed = Vec::new();
        for (name, kind, lapse) in stores {
            let path = rig.store(name);
            fs::create_dir_all(path.join("dockvols")).unwrap();
            listed.push(serde_json::json!(
                {"name": name, "type": kind, "path": path, "lock_lapse_ms": lapse}
            ));
        }
        for name in hosts {
            let host = serde_json::json!({
                "name": name,
                "host_id": Uuid::from_bytes(random()),
                "datastores": listed,
                "lock_lapse_ms": 0,
            });
            let dir = rig.dir_of(name);
            fs::create_dir_all(dir.join("vms")).unwrap();
            fs::write(dir.join("host.json"), host.to_string()).unwrap();
            rig.start(name);
        }
        rig
    }

    /// A datastore's folder.
    pub(crate) fn store(&self, name: &str) -> PathBuf {
        self.dir.path().join("datastores").join(name)
    }

    pub(crate) fn move_store(&self, from: &str, to: &str) {
        let done = command("/bin/mv")
            .args([self.store(from), self.store(to)])
            .status();
        assert!(done.unwrap().success());
    }

    pub(crate) fn dir_of(&self, host: &str) -> PathBuf {
        self.dir.path().join("hosts").join(host)
    }

    pub(crate) fn host_dir(&self) -> PathBuf {
        self.dir_of(HOST)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.host_dir().join("labhv.sock")
    }

    pub(crate) fn client(&self) -> BlockingClient {
        self.on(HOST)
    }

    pub(crate) fn on(&self, host: &str) -> BlockingClient {
        BlockingClient::new(&self.dir_of(host).join("labhv.sock"))
    }

    pub(crate) fn start_labhv(&mut self) {
        self.start(HOST);
    }

    pub(crate) fn start(&mut self, host: &str) {
        let child = command(env!("CARGO_BIN_EXE_vdvs-labhv"))
            .arg("--host-dir")
            .arg(self.dir_of(host))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.labhvs.insert(host.to_owned(), child);
        let client = self.on(host);
        until("labhv answers", || client.vms().is_ok());
    }

    pub(crate) fn kill_labhv(&mut self) {
        self.kill(HOST);
    }

    pub(crate) fn kill(&mut self, host: &str) {
        if let Some(mut child) = self.labhvs.remove(host) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn signal(&self, host: &str, signal: &str) {
        let pid = self.labhvs[host].id().to_string();
        let done = command("/bin/kill").args([signal, &pid]).status();
        assert!(done.unwrap().success());
    }

    /// Asks a labhv to end, and waits.
    pub(crate) fn stop(&mut self, host: &str) {
        self.signal(host, "-TERM");
        let status = self.labhvs.remove(host).unwrap().wait().unwrap();
        assert!(status.success(), "{status:?}");
    }

    /// The power of a host goes: its labhv sees nothing of it.
    pub(crate) fn crash(&mut self, host: &str, vms: &[&str]) {
        self.signal(host, "-STOP");
        for vm in vms {
            self.kill_init(vm);
        }
        self.kill(host);
    }

    pub(crate) fn kill_init(&self, vm: &str) {
        let init = self.init(vm);
        let done = command("/bin/kill")
            .args(["-9", &init.to_string()])
            .status();
        assert!(done.unwrap().success());
        until("the VM ended", || start_time(init).is_err());
    }

    /// Cuts a host off from a datastore, or not any more.
    pub(crate) fn isolate(&self, host: &str, store: &str, isolated: bool) {
        let flag = isolation_flag(&self.dir_of(host), store);
        if isolated {
            fs::create_dir_all(flag.parent().unwrap()).unwrap();
            fs::write(flag, "").unwrap();
        } else {
            fs::remove_file(flag).unwrap();
        }
    }

    /// Registers a VM, off.
    pub(crate) fn register(&self, name: &str) {
        self.register_on(HOST, name, STORE);
    }

    pub(crate) fn register_on(&self, host: &str, name: &str, home: &str) {
        let dir = self.dir_of(host).join("vms").join(name);
        fs::create_dir_all(&dir).unwrap();
        let vm = serde_json::json!({
            "name": name,
            "instance_uuid": Uuid::from_bytes(random()),
            "config_path": format!("[{home}] {name}/{name}.vmx"),
            "init": null,
        });
        fs::write(dir.join("vm.json"), vm.to_string()).unwrap();
    }

    /// Starts namespaces for a VM without telling labhv.
    pub(crate) fn boot(&mut self, name: &str) -> i32 {
        let mut unshare = command("/usr/bin/unshare")
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--propagation",
                "private",
            ])
            .args(["/bin/sh", "-c", INIT])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(unshare.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        let pid = unshare.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let init = children.trim().parse().unwrap();
        self.vms.push(FakeVm {
            name: name.to_owned(),
            unshare,
            init,
        });
        init
    }

    /// Registers, boots and powers on.
    pub(crate) fn vm(&mut self, name: &str) {
        self.register(name);
        let init = self.boot(name);
        self.client()
            .power_on(name, init, start_time(init).unwrap())
            .unwrap();
    }

    pub(crate) fn vm_on(&mut self, host: &str, name: &str, home: &str) {
        self.register_on(host, name, home);
        self.power_on(host, name).unwrap();
    }

    /// Boots a VM that is registered.
    pub(crate) fn power_on(&mut self, host: &str, name: &str) -> Result<(), ClientError> {
        let init = self.boot(name);
        self.on(host)
            .power_on(name, init, start_time(init).unwrap())
    }

    /// A path inside a VM, from outside.
    pub(crate) fn seen(&self, vm: &str, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init(vm)))
    }

    pub(crate) fn init(&self, name: &str) -> i32 {
        self.vms.iter().rev().find(|v| v.name == name).unwrap().init
    }

    /// Runs a shell line inside the VM.
    pub(crate) fn inside(&self, name: &str, line: &str) -> bool {
        let init = self.init(name).to_string();
        let done = command("/usr/bin/nsenter")
            .args(["-t", &init, "--mount", "--pid", "/bin/sh", "-c", line])
            .status()
            .unwrap();
        done.success()
    }

    pub(crate) fn sees(&self, name: &str, device: &str) -> bool {
        Path::new(&format!("/proc/{}/root{device}", self.init(name))).exists()
    }

    /// Makes a 16 MiB disk.
    pub(crate) fn disk(&self, name: &str) -> Disk {
        self.disk_on(STORE, name, 16)
    }

    pub(crate) fn disk_on(&self, store: &str, name: &str, mib: u64) -> Disk {
        let disk = Disk {
            datastore: store.to_owned(),
            path: format!("dockvols/{name}.vmdk"),
        };
        let new = NewDisk {
            capacity: Capacity::from_bytes(mib << 20).unwrap(),
            provisioning: Provisioning::Thin,
            adapter: Adapter::LsiLogic,
            uuid: DiskUuid::from_random(random()),
            content_id: u128::from_be_bytes(random()),
        };
        self.files(&disk)
            .create(&new, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        disk
    }

    pub(crate) fn files(&self, disk: &Disk) -> DiskFiles {
        DiskFiles::new(&self.store(&disk.datastore).join(&disk.path)).unwrap()
    }

    /// Loop devices of this machine that are bound to one of our files.
    pub(crate) fn loops(&self) -> Vec<String> {
        let ours = self.dir.path().to_str().unwrap().to_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/sys/block").unwrap().flatten() {
            let backing = fs::read_to_string(entry.path().join("loop/backing_file"));
            if backing.is_ok_and(|b| b.starts_with(&ours)) {
                found.push(format!("/dev/{}", entry.file_name().to_str().unwrap()));
            }
        }
        found
    }
}

impl Drop for Rig {
    /// Takes everything down by the ids it made, then closes what labhv left.
    fn drop(&mut self) {
        let hosts = self.hosts.clone();
        hosts.iter().for_each(|host| self.kill(host));
        for vm in &mut self.vms {
            vm.unshare.kill().ok();
            vm.unshare.wait().ok();
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.loops().is_empty() && Instant::now() < deadline {
            for host in &hosts {
                command(env!("CARGO_BIN_EXE_vdvs-labhv"))
                    .args(["--cleanup", "--host-dir"])
                    .arg(self.dir_of(host))
                    .stderr(Stdio::null())
                    .status()
                    .ok();
            }
        }
    }
}

fn random() -> [u8; 16] {
    *Uuid::new_v4().as_bytes()
}

/// The kind of a refusal.
pub(crate) fn kind<T: Debug>(result: Result<T, ClientError>) -> LabErrorKind {
    match result {
        Err(ClientError::Refused(error)) => error.kind,
        other => panic!("not refused: {other:?}"),
    }
}
