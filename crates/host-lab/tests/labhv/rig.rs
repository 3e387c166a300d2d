//! A host in a temporary folder, the real `vdvs-labhv`, and VMs that are namespaces with a `/dev` of their own.

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

pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    labhv: Option<Child>,
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
        let dir = TempDir::new().unwrap();
        let store = dir.path().join("datastores/vsanDatastore");
        fs::create_dir_all(store.join("dockvols")).unwrap();
        let host = serde_json::json!({
            "name": "esx01",
            "host_id": Uuid::from_bytes(random()),
            "datastores": [{"name": "vsanDatastore", "type": "vsan", "path": store}],
            "lock_lapse_ms": 0,
        });
        let mut rig = Self {
            dir,
            labhv: None,
            vms: Vec::new(),
        };
        fs::create_dir_all(rig.host_dir().join("vms")).unwrap();
        fs::write(rig.host_dir().join("host.json"), host.to_string()).unwrap();
        rig.start_labhv();
        rig
    }

    pub(crate) fn host_dir(&self) -> PathBuf {
        self.dir.path().join("hosts/esx01")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.host_dir().join("labhv.sock")
    }

    pub(crate) fn client(&self) -> BlockingClient {
        BlockingClient::new(&self.socket())
    }

    pub(crate) fn start_labhv(&mut self) {
        let child = command(env!("CARGO_BIN_EXE_vdvs-labhv"))
            .arg("--host-dir")
            .arg(self.host_dir())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.labhv = Some(child);
        let client = self.client();
        until("labhv answers", || client.vms().is_ok());
    }

    pub(crate) fn kill_labhv(&mut self) {
        if let Some(mut child) = self.labhv.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Registers a VM, off.
    pub(crate) fn register(&self, name: &str) {
        let dir = self.host_dir().join("vms").join(name);
        fs::create_dir_all(&dir).unwrap();
        let vm = serde_json::json!({
            "name": name,
            "instance_uuid": Uuid::from_bytes(random()),
            "config_path": format!("[vsanDatastore] {name}/{name}.vmx"),
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
        let disk = Disk {
            datastore: "vsanDatastore".to_owned(),
            path: format!("dockvols/{name}.vmdk"),
        };
        let new = NewDisk {
            capacity: Capacity::from_bytes(16 << 20).unwrap(),
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
        let store = self.dir.path().join("datastores/vsanDatastore");
        DiskFiles::new(&store.join(&disk.path)).unwrap()
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
        self.kill_labhv();
        for vm in &mut self.vms {
            vm.unshare.kill().ok();
            vm.unshare.wait().ok();
        }
        let deadline = Instant::now() + PATIENCE;
        while !self.loops().is_empty() && Instant::now() < deadline {
            command(env!("CARGO_BIN_EXE_vdvs-labhv"))
                .args(["--cleanup", "--host-dir"])
                .arg(self.host_dir())
                .stderr(Stdio::null())
                .status()
                .ok();
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
