//! The program itself: start, stop, refusals. Needs no root, no agent and no dockerd.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test starts the program: a failure here is the report"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getgid};
use tempfile::TempDir;

struct Plugin {
    child: Child,
    folder: TempDir,
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vdvs-plugin"));
    command
        .arg("run")
        .args(["--agent", "unix:/nonexistent/agent", "--docker", "none"])
        .args(["--group", &getgid().to_string()])
        .arg("--socket")
        .arg(folder.join("vsphere.sock"))
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--mount-root")
        .arg(folder.join("mnt"))
        .env_remove("VDVS_LOG_LEVEL")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

impl Plugin {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let child = command(folder.path()).spawn().unwrap();
        Self { child, folder }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("vsphere.sock")
    }

    fn connect(&self) -> UnixStream {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(stream) = UnixStream::connect(self.socket()) {
                return stream;
            }
            assert!(Instant::now() < end, "it does not listen");
            sleep(Duration::from_millis(5));
        }
    }

    fn ask(&self, path: &str, body: &str) -> String {
        let mut stream = self.connect();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: \r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    fn term(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        wait(&mut self.child)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + Duration::from_secs(40);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < end, "it does not end");
        sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_answers_without_agent_and_dockerd_and_stops_in_time_taking_its_socket_along() {
    let mut plugin = Plugin::start();
    let reply = plugin.ask("/Plugin.Activate", "");
    assert!(
        reply.contains("{\"Implements\":[\"VolumeDriver\"]}"),
        "{reply}"
    );
    let mode = fs::metadata(plugin.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let state = fs::metadata(plugin.folder.path().join("state")).unwrap();
    assert_eq!(state.permissions().mode() & 0o777, 0o700);

    // An idle connection, as dockerd keeps them, and a Mount that cannot end.
    let _idle = plugin.connect();
    let mut waiting = plugin.connect();
    let body = "{\"Name\":\"v\",\"ID\":\"a\"}";
    let request = format!(
        "POST /VolumeDriver.Mount HTTP/1.1\r\nHost: \r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    waiting.write_all(request.as_bytes()).unwrap();
    let begun = Instant::now();
    assert!(plugin.term().success());
    assert!(begun.elapsed() < Duration::from_secs(8 * 3));
    assert!(!plugin.socket().exists());
}

#[test]
fn a_killed_plugin_leaves_a_socket_that_the_next_one_replaces() {
    let mut plugin = Plugin::start();
    plugin.ask("/Plugin.Activate", "");
    plugin.child.kill().unwrap();
    wait(&mut plugin.child);
    assert!(plugin.socket().exists());
    plugin.child = command(plugin.folder.path()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while UnixStream::connect(plugin.socket()).is_err() {
        assert!(Instant::now() < end, "the dead socket stays");
        sleep(Duration::from_millis(5));
    }
    plugin.ask("/Plugin.Activate", "");
}

/// Starts it with more arguments, and returns what it said at its end.
fn refused(folder: &Path, more: &[&str]) -> String {
    let mut child = command(folder).args(more).spawn().unwrap();
    let status = wait(&mut child);
    assert!(!status.success());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(!said.contains("panicked"), "{said}");
    said
}

#[test]
fn a_damaged_configuration_ends_the_start_with_its_name_and_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("v.conf");
    fs::write(&file, b"{ \"GroupID\": ").unwrap();
    let path = file.to_str().unwrap();
    let said = refused(folder.path(), &["--config", path]);
    assert!(said.contains(path) && said.contains("JSON"), "{said}");
    let said = refused(folder.path(), &["--config", "/nonexistent/v.conf"]);
    assert!(said.contains("/nonexistent/v.conf"), "{said}");
    let said = refused(folder.path(), &["--log-level", "loud"]);
    assert!(said.contains("LogLevel = 'loud'"), "{said}");
    let said = refused(folder.path(), &["--agent", "tcp:1"]);
    assert!(said.contains("'tcp:1' is not an address"), "{said}");
    assert!(!folder.path().join("vsphere.sock").exists());
}

#[test]
fn a_second_plugin_on_the_same_folder_or_socket_is_refused() {
    let plugin = Plugin::start();
    plugin.ask("/Plugin.Activate", "");
    let said = refused(plugin.folder.path(), &[]);
    assert!(said.contains("another vdvs-plugin"), "{said}");
    let other = plugin.folder.path().join("other");
    let said = refused(plugin.folder.path(), &["--state", other.to_str().unwrap()]);
    assert!(said.contains("is served by another process"), "{said}");
    plugin.ask("/Plugin.Activate", "");
}
