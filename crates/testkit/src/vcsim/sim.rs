//! The simulator's process: started, killed, started again on the same folder and port.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::build::Peers;
use super::witness::Witness;
use crate::process::Cmd;

/// What it simulates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A host by itself.
    Esx,
    /// A vCenter with two hosts.
    Vcenter,
}

impl Mode {
    /// The name of VM `number` on host `host`, both from 0. A host by itself has no second host.
    #[must_use]
    pub fn vm(self, host: usize, number: usize) -> String {
        match self {
            Self::Esx => format!("ha-host_VM{number}"),
            Self::Vcenter => format!("DC0_H{host}_VM{number}"),
        }
    }

    /// The name of host `host`; none on a host by itself, which needs none.
    #[must_use]
    pub fn host(self, host: usize) -> Option<String> {
        (self == Self::Vcenter).then(|| format!("DC0_H{host}"))
    }
}

/// A simulator with its folder. Killed when dropped.
#[derive(Debug)]
pub struct Vcsim {
    peers: Peers,
    mode: Mode,
    state: PathBuf,
    options: Vec<String>,
    /// Kept over restarts, so that the address stays.
    address: String,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Vcsim {
    /// Starts a simulator that keeps everything in `state`. `options` as `tests/vcsim/main.go` has them.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(peers: &Peers, mode: Mode, state: &Path, options: &[&str]) -> Result<Self> {
        fs::create_dir_all(state).with_context(|| format!("create {}", state.display()))?;
        let mut sim = Self {
            peers: peers.clone(),
            mode,
            state: state.to_owned(),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            address: "127.0.0.1:0".to_owned(),
            running: None,
        };
        sim.run()?;
        Ok(sim)
    }

    fn run(&mut self) -> Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.state.join("vcsim.log"))?;
        let mut command = Cmd::new(&self.peers.vcsim);
        if self.mode == Mode::Esx {
            command = command.arg("-esx");
        }
        command = command
            .args(&self.options)
            .arg("-l")
            .arg(&self.address)
            .arg("-state")
            .arg(&self.state);
        let text = command.describe();
        let mut child = command
            .command()?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {text}"))?;
        let (Some(orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{text}: no pipes");
        };
        let mut running = Running {
            child,
            orders,
            answers: BufReader::new(stdout),
        };
        let first = running.line()?;
        let address = first
            .strip_prefix("URL https://")
            .and_then(|rest| rest.strip_suffix("/sdk"));
        address
            .with_context(|| format!("{text} said '{first}'"))?
            .clone_into(&mut self.address);
        self.running = Some(running);
        Ok(())
    }

    /// Its address, the same after a restart.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}/sdk", self.address)
    }

    /// The certificate it shows.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.state.join("rui.crt")
    }

    /// Where its datastores' folders are.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }

    /// Who it is.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// User and password that it takes.
    #[must_use]
    pub fn login(&self) -> (String, String) {
        ("user".to_owned(), "pass".to_owned())
    }

    /// An independent client of it.
    ///
    /// # Errors
    /// It does not start.
    pub fn witness(&self) -> Result<Witness> {
        Witness::start(&self.peers, &self.address, &self.volumes())
    }

    /// Gives an order (`tests/vcsim/faults.go`) and returns what it answers.
    ///
    /// # Errors
    /// It refuses, or does not run.
    pub fn order(&mut self, order: &str) -> Result<String> {
        let running = self
            .running
            .as_mut()
            .context("the simulator does not run")?;
        writeln!(running.orders, "{order}")?;
        let answer = running.line()?;
        let rest = answer
            .strip_prefix("ok")
            .with_context(|| format!("{order}: {answer}"))?;
        Ok(rest.trim().to_owned())
    }

    /// Kills it, as by `kill -9`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut running) = self.running.take() {
            running.child.kill()?;
            running.child.wait()?;
        }
        Ok(())
    }

    /// Waits until it died by an order.
    ///
    /// # Errors
    /// It does not run.
    pub fn wait_dead(&mut self) -> Result<()> {
        let mut running = self.running.take().context("the simulator does not run")?;
        running.child.wait()?;
        Ok(())
    }

    /// Whether it died by an order.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn is_dead(&mut self) -> Result<bool> {
        match &mut self.running {
            Some(running) => Ok(running.child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }

    /// Starts it again where it was, with what it kept.
    ///
    /// # Errors
    /// It runs, or does not start.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.is_dead()?, "the simulator still runs");
        self.running = None;
        self.run()
    }
}

impl Running {
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the simulator ended, see its vcsim.log");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Vcsim {
    fn drop(&mut self) {
        // At the end of a test there is nobody to tell.
        self.kill().ok();
    }
}
