//! The real agent beside a simulated hostd. What dials its folder of sockets presents a VM's cartel id by the path.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::sim::Vcsim;
use crate::lab::{AGENT, Profile, built};
use crate::process::{Cmd, ProcId};
use crate::wait::until_true;

/// An agent makes a socket within a second on an idle machine.
const SOON: Duration = Duration::from_secs(60);
/// The port guests dial.
const PORT: &str = "1019";

/// `vdvsd --host esxi`, logged in by a password from a file, the certificate pinned. Killed when dropped.
#[derive(Debug)]
pub struct Agent {
    folder: PathBuf,
    process: ProcId,
}

impl Agent {
    /// Starts an agent of a host by itself; everything of its own lies in `folder`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(profile: Profile, sim: &Vcsim, folder: &Path) -> Result<Self> {
        let (user, password) = sim.login();
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let secret = folder.join("password");
        fs::write(&secret, format!("{password}\n"))?;
        // An agent that finds no folder says so, and tests count what it says.
        fs::create_dir_all(door(folder))?;
        let process = Cmd::new(built(profile, AGENT)?)
            .args(["--host", "esxi", "--esxi-url", &sim.url()])
            .args(["--esxi-user", &user, "--esxi-password-file"])
            .arg(&secret)
            .arg("--esxi-cert")
            .arg(sim.certificate())
            .args(["--listen", &format!("unix:{}", door(folder).display())])
            .arg("--state")
            .arg(folder.join("state"))
            .daemon(&folder.join("agent.log"))?;
        Ok(Self {
            folder: folder.to_owned(),
            process,
        })
    }

    /// Where the VM with this cartel id dials; waits until somebody listens there.
    ///
    /// # Errors
    /// Nobody does in time.
    pub fn socket(&self, cartel: &str) -> Result<PathBuf> {
        let folder = door(&self.folder).join(cartel);
        fs::create_dir_all(&folder)?;
        let socket = folder.join(PORT);
        until_true(SOON, "the agent listens", || {
            Ok(UnixStream::connect(&socket).is_ok())
        })?;
        Ok(socket)
    }

    /// The administrator's socket.
    #[must_use]
    pub fn admin(&self) -> PathBuf {
        self.folder.join("state/admin.sock")
    }

    /// What it says.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.folder.join("agent.log")
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> ProcId {
        self.process
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // At the end of a test there is nobody to tell.
        self.process.kill().ok();
    }
}

fn door(folder: &Path) -> PathBuf {
    folder.join("door")
}
