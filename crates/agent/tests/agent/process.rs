//! One agent process, its sockets and its log.

use std::fmt::Debug;
use std::fs::{self, File};
use std::mem;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::{TempDir, tempdir};
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;
use vdvs_api::v1::admin_service_client::AdminServiceClient;
use vdvs_api::v1::volume_service_client::VolumeServiceClient;
use vdvs_api::{RemoteError, admin_client, v1, volume_client};
use vdvs_transport::{Address, channel};

/// Far above what anything here takes on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A running agent; killed when dropped.
pub(crate) struct Vdvsd {
    child: Child,
    dir: TempDir,
}

impl Vdvsd {
    /// Starts an agent with these VMs and waits until it listens for all of them.
    pub(crate) fn start(vms: &[&str]) -> Self {
        Self::start_in(tempdir().expect("a temporary folder can be made"), vms)
    }

    /// Starts an agent in a folder that an earlier one may have used.
    pub(crate) fn start_in(dir: TempDir, vms: &[&str]) -> Self {
        let child = spawn(dir.path(), vms, "stderr");
        let agent = Self { child, dir };
        until("every socket is there", || {
            // The path is there a moment before somebody listens on it.
            let there = |path: PathBuf| UnixStream::connect(path).is_ok();
            vms.iter().all(|vm| there(agent.socket(vm))) && there(agent.admin_socket())
        });
        agent
    }

    /// Starts an agent on a lab host's folder and waits until the administrator could be served.
    pub(crate) fn start_lab(dir: TempDir) -> Self {
        let child = spawn_on("lab", dir.path(), &[], "stderr");
        let agent = Self { child, dir };
        until("the administrator's socket is there", || {
            agent.log().contains(" serves ")
        });
        agent
    }

    /// The host's folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The socket of a lab VM.
    pub(crate) fn lab_socket(&self, vm: &str) -> PathBuf {
        self.dir.path().join("vms").join(vm).join("vsock/1019")
    }

    /// A client in a lab VM, not connected yet.
    pub(crate) fn lab_guest(&self, vm: &str) -> VolumeServiceClient<Channel> {
        volume_client(channel(Address::Unix(self.lab_socket(vm))))
    }

    /// Starts a second agent on the same folder and waits for its end.
    pub(crate) fn second(&self) -> (ExitStatus, String) {
        let mut child = spawn(self.dir.path(), &["a"], "stderr-of-second");
        let status = wait(&mut child);
        let said =
            fs::read_to_string(self.dir.path().join("stderr-of-second")).expect("it was written");
        (status, said)
    }

    /// The socket of a VM.
    pub(crate) fn socket(&self, vm: &str) -> PathBuf {
        self.dir.path().join(vm).join("1019")
    }

    /// The administrator's socket.
    pub(crate) fn admin_socket(&self) -> PathBuf {
        self.dir.path().join("agent/admin.sock")
    }

    /// A client in a VM, not connected yet.
    pub(crate) fn guest(&self, vm: &str) -> VolumeServiceClient<Channel> {
        volume_client(channel(Address::Unix(self.socket(vm))))
    }

    /// An administrator's client.
    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        admin_client(channel(Address::Unix(self.admin_socket())))
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        kill(self.pid(), Signal::SIGTERM).expect("our child can be told");
    }

    /// Kills it without notice and gives back its folder.
    pub(crate) fn kill(mut self) -> TempDir {
        kill(self.pid(), Signal::SIGKILL).expect("our child can be killed");
        self.child.wait().expect("our child ends");
        mem::replace(
            &mut self.dir,
            tempdir().expect("a temporary folder can be made"),
        )
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait(&mut self.child)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id fits"))
    }

    /// Everything it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).expect("it was written")
    }

    /// Fails when it logged something that a person would have to look at.
    pub(crate) fn assert_quiet(&self) {
        let log = self.log();
        let loud = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
        let lines: Vec<_> = log.lines().filter(loud).collect();
        assert!(lines.is_empty(), "unexpected lines:\n{}", lines.join("\n"));
    }
}

impl Drop for Vdvsd {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn spawn(dir: &Path, vms: &[&str], stderr: &str) -> Child {
    spawn_on("sim", dir, vms, stderr)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one process module of these tests"
)]
fn spawn_on(host: &str, dir: &Path, vms: &[&str], stderr: &str) -> Child {
    let stderr = File::create(dir.join(stderr)).expect("the folder is ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vdvsd"));
    command
        .args(["--host", host, &format!("--{host}-dir")])
        .arg(dir);
    for vm in vms {
        command.args(["--sim-vm", vm]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("the agent was built with these tests")
}

fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the process ends", || {
        status = child.try_wait().expect("our child can be asked");
        status.is_some()
    });
    status.expect("the wait saw it")
}

/// Looks again and again until `there`, within [`LONG`].
pub(crate) fn until(what: &str, mut there: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !there() {
        assert!(Instant::now() < end, "in vain: {what}");
        sleep(Duration::from_millis(10));
    }
}

/// A fresh request id.
pub(crate) fn head() -> Option<v1::RequestHead> {
    Some(v1::RequestHead {
        request_id: Uuid::new_v4().to_string(),
    })
}

/// A request to make a volume of the default kind.
pub(crate) fn create(name: &str) -> v1::CreateVolumeRequest {
    v1::CreateVolumeRequest {
        head: head(),
        name: name.to_owned(),
        options: [("size".to_owned(), "64mb".to_owned())].into(),
    }
}

/// A request to attach a volume, waiting so long.
pub(crate) fn attach(name: &str, wait_budget_ms: u64) -> v1::AttachVolumeRequest {
    v1::AttachVolumeRequest {
        head: head(),
        name: name.to_owned(),
        read_only: false,
        wait_budget_ms,
    }
}

/// The machine string of a failed call that the agent itself answered.
pub(crate) fn reason<T: Debug>(result: Result<T, Status>) -> String {
    let error = RemoteError::from(result.expect_err("the call is refused"));
    assert!(!error.transport, "{error:?}");
    error.kind.to_string()
}
