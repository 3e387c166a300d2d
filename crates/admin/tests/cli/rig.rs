//! A fake agent behind its socket, and the program that asks it.

use std::mem::take;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio_stream::wrappers::UnixListenerStream;
use vdvs_api::v1::admin_service_server::AdminServiceServer;
use vdvs_transport::grpc::server;

use crate::fake::FakeAgent;

/// A running fake agent; it ends with the test's process.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) agent: FakeAgent,
}

impl World {
    pub(crate) fn start() -> Self {
        Self::with(FakeAgent::default())
    }

    pub(crate) fn empty() -> Self {
        Self::with(FakeAgent {
            empty: true,
            ..FakeAgent::default()
        })
    }

    fn with(agent: FakeAgent) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (path, service) = (dir.path().join("admin.sock"), agent.clone());
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(path).unwrap();
                ready.send(()).unwrap();
                server()
                    .serve_with_incoming(
                        AdminServiceServer::new(service),
                        UnixListenerStream::new(listener),
                    )
                    .await
                    .unwrap();
            });
        });
        is_ready.recv_timeout(Duration::from_secs(30)).unwrap();
        Self { dir, agent }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// Runs the program; single quotes hold words with blanks together.
    pub(crate) fn vdvs(&self, line: &str) -> Ran {
        vdvs(&self.socket(), line)
    }

    /// The changes the agent was asked for, oldest first.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.agent.asked.lock().unwrap();
        asked.iter().map(|a| a.what.clone()).collect()
    }

    /// Returns when somebody asked for work so often.
    pub(crate) fn wait_for_questions(&self, count: u32) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while *self.agent.questions.lock().unwrap() < count {
            assert!(Instant::now() < deadline, "nobody asked");
            thread::yield_now();
        }
    }

    /// Forgets them.
    pub(crate) fn forget(&self) {
        self.agent.asked.lock().unwrap().clear();
    }
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn no_agent() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    (dir, socket)
}

/// Words as a shell would see them; nothing but single quotes is special.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut any) = (String::new(), false, false);
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                any = true;
            }
            ' ' if !quoted => {
                if any {
                    words.push(take(&mut word));
                }
                any = false;
            }
            c => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(word);
    }
    words
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program under test, without a shell"
)]
pub(crate) fn command(socket: &Path, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vdvs"));
    command
        .args(words(line))
        .env("VDVS_ADMIN_SOCKET", socket)
        .stdin(Stdio::null());
    command
}

pub(crate) fn vdvs(socket: &Path, line: &str) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = command(socket, line).output().unwrap();
    Ran {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}
