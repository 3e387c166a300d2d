//! External programs and foreign processes: the one door of the test side of the house.
//!
//! [`Cmd`] runs a program by its absolute path, without a shell, with a time limit and capped output; its text
//! ends up in the error when it fails. [`ProcId`] names a process so that it can be recorded on disk and found
//! again: a pid alone is reused by the kernel, a pid with its start time is not.
//!
//! Failure behaviour: a program that exceeds its time limit is killed and reported as such; output past the cap
//! is read and thrown away, so that the program never blocks on a full pipe.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// What is kept of a program's stdout and of its stderr. Nothing we run has more to say that anybody reads.
const OUTPUT_CAP: u64 = 8 * 1024 * 1024;
/// Time limit when the caller names none: far above any single tool we run, far below a stuck run.
const DEFAULT_LIMIT: Duration = Duration::from_secs(60);
/// How long to look for the rest of the output after the program ended while a grandchild keeps the pipe open.
/// Without one the rest comes at once; on a busy machine whoever reads it may have to wait for a processor.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// A killed process ends when the kernel lets it: after the flush it is in, on a busy disk.
const KILL_LIMIT: Duration = Duration::from_secs(60);

/// Absolute paths of the tools the lab uses. No search path: what runs does not depend on the caller's environment.
pub mod tool {
    /// iproute2.
    pub const IP: &str = "/usr/sbin/ip";
    /// util-linux.
    pub const UNSHARE: &str = "/usr/bin/unshare";
    /// util-linux.
    pub const NSENTER: &str = "/usr/bin/nsenter";
    /// util-linux; only to take down what a dead host left.
    pub const LOSETUP: &str = "/usr/sbin/losetup";
    /// util-linux.
    pub const UMOUNT: &str = "/usr/bin/umount";
    /// The shell of the node's pid 1 and of the image recipes.
    pub const BASH: &str = "/usr/bin/bash";
    /// The CLI of the packaged engine, whatever other CLI the machine has.
    pub const DOCKER: &str = "/usr/bin/docker";
    /// PostgreSQL's client.
    pub const PSQL: &str = "/usr/bin/psql";
    /// dpkg.
    pub const DPKG_QUERY: &str = "/usr/bin/dpkg-query";
    /// apt.
    pub const APT_GET: &str = "/usr/bin/apt-get";
}

/// What the program reads on its standard input.
#[derive(Debug)]
enum Input {
    Nothing,
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// A program about to run.
#[derive(Debug)]
pub struct Cmd {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    env_clear: bool,
    dir: Option<PathBuf>,
    input: Input,
    limit: Duration,
}

/// How a program ended and what it said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit status; a death by signal has no code.
    pub status: ExitStatus,
    /// Standard output, capped, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, capped, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Finished {
    /// Exit code zero.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

impl Cmd {
    /// The program at `path`, which is absolute.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            program: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            env_clear: false,
            dir: None,
            input: Input::Nothing,
            limit: DEFAULT_LIMIT,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Starts from an empty environment with the standard search path only.
    #[must_use]
    pub fn clean_env(mut self) -> Self {
        self.env_clear = true;
        self.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
    }

    /// Runs in `dir`.
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Feeds these bytes to standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Input::Bytes(bytes.into());
        self
    }

    /// Reads standard input from a file.
    #[must_use]
    pub fn input_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.input = Input::File(path.into());
        self
    }

    /// Kills the program after `limit`.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// What runs, for messages.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = self.program.display().to_string();
        for arg in &self.args {
            text.push(' ');
            text.push_str(&arg.to_string_lossy());
        }
        text
    }

    /// Runs to the end and returns whatever happened; only "could not run" and "took too long" are errors.
    ///
    /// # Errors
    /// The program cannot be started, or exceeded its time limit and was killed.
    pub fn output(self) -> Result<Finished> {
        let text = self.describe();
        let mut command = self.command()?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {text}"))?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        feed(&mut child, &self.input);
        let Some(status) = wait_limited(&mut child, self.limit)? else {
            let said = stderr.recv_timeout(DRAIN_LIMIT).unwrap_or_default();
            bail!(
                "{text}: killed after {:?}; it said: {}",
                self.limit,
                tail(&said)
            );
        };
        Ok(Finished {
            status,
            stdout: stdout.recv_timeout(DRAIN_LIMIT).unwrap_or_default(),
            stderr: stderr.recv_timeout(DRAIN_LIMIT).unwrap_or_default(),
        })
    }

    /// Runs to the end and returns standard output; a failure's error carries what the program said.
    ///
    /// # Errors
    /// As [`Cmd::output`], and an exit status other than zero.
    pub fn run(self) -> Result<String> {
        let text = self.describe();
        let done = self.output()?;
        if !done.success() {
            let said = if done.stderr.trim().is_empty() {
                &done.stdout
            } else {
                &done.stderr
            };
            bail!("{text}: {}: {}", ending(done.status), tail(said));
        }
        Ok(done.stdout)
    }

    /// Runs with the caller's own standard streams, for a person in front of it. No time limit.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn interactive(self) -> Result<ExitStatus> {
        let text = self.describe();
        let mut command = self.command()?;
        command
            .stdin(Stdio::inherit())
            .stdout(Stdio::inherit())
            .stderr(Stdio::inherit());
        command.status().with_context(|| format!("start {text}"))
    }

    /// Starts a process that outlives us: own process group, output appended to `log`. It is reaped if it ends
    /// while we live.
    ///
    /// # Errors
    /// The log cannot be opened or the program not started.
    pub fn daemon(self, log: &Path) -> Result<ProcId> {
        let text = self.describe();
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open {}", log.display()))?;
        let mut command = self.command()?;
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .process_group(0);
        let mut child = command.spawn().with_context(|| format!("start {text}"))?;
        let id = ProcId::of(child.id());
        thread::spawn(move || child.wait());
        id.with_context(|| format!("{text}: ended at once, see {}", log.display()))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the process module")]
    pub(crate) fn command(&self) -> Result<Command> {
        ensure!(
            self.program.is_absolute(),
            "{} is not an absolute path",
            self.program.display()
        );
        let mut command = Command::new(&self.program);
        if self.env_clear {
            command.env_clear();
        }
        command
            .args(&self.args)
            .envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(dir) = &self.dir {
            command.current_dir(dir);
        }
        match &self.input {
            Input::Nothing => command.stdin(Stdio::null()),
            Input::Bytes(_) => command.stdin(Stdio::piped()),
            Input::File(path) => {
                command.stdin(File::open(path).with_context(|| format!("open {}", path.display()))?)
            }
        };
        Ok(command)
    }
}

/// Threads that a process has left.
fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// A process that can be recognised later: its pid and the clock tick it started at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcId {
    /// Process id in our pid namespace.
    pub pid: u32,
    /// Start time in clock ticks since boot, field 22 of `/proc/<pid>/stat`.
    pub start_time: u64,
}

impl ProcId {
    /// The process that has this pid now; none if there is none, or it is a zombie.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name may hold spaces and brackets: fields count from after the last one.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        // A killed process's first thread may be gone while others still hold its files and locks.
        let gone = matches!(state, "Z" | "X") && threads(pid) <= 1;
        (!gone).then_some(Self { pid, start_time })
    }

    /// It runs, and it is still the same process.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid) == Some(*self)
    }

    /// Sends a signal if it is still the same process. False: it was gone already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        if !self.is_alive() {
            return Ok(false);
        }
        match signal::kill(Pid::from_raw(self.raw()?), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("send {signal} to pid {}", self.pid)),
        }
    }

    /// Waits until it is gone. False: it lives on after `limit`.
    #[must_use]
    pub fn wait_gone(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_alive() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Asks it to end, then kills it when it has not after `grace`. False: it was gone already.
    ///
    /// # Errors
    /// The kernel refuses, or the process does not even go after SIGKILL.
    pub fn stop(&self, grace: Duration) -> Result<bool> {
        if !self.signal(Signal::SIGTERM)? {
            return Ok(false);
        }
        if !self.wait_gone(grace) {
            self.kill()?;
        }
        Ok(true)
    }

    /// Kills it and waits until it is gone. False: it was gone already.
    ///
    /// # Errors
    /// The kernel refuses, or the process is stuck in the kernel.
    pub fn kill(&self) -> Result<bool> {
        if !self.signal(Signal::SIGKILL)? {
            return Ok(false);
        }
        ensure!(
            self.wait_gone(KILL_LIMIT),
            "pid {} survives SIGKILL",
            self.pid
        );
        Ok(true)
    }

    fn raw(self) -> Result<i32> {
        i32::try_from(self.pid).context("pid out of range")
    }
}

fn collect<R: Read + Send + 'static>(pipe: Option<R>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::sync_channel(1);
    if let Some(mut pipe) = pipe {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // A read error ends the text; what was read before it is still worth showing.
            let read = pipe.by_ref().take(OUTPUT_CAP).read_to_end(&mut bytes);
            if read.is_ok() {
                io::copy(&mut pipe, &mut io::sink()).ok();
            }
            sender
                .send(String::from_utf8_lossy(&bytes).into_owned())
                .ok();
        });
    }
    receiver
}

fn feed(child: &mut Child, input: &Input) {
    if let (Input::Bytes(bytes), Some(mut pipe)) = (input, child.stdin.take()) {
        let bytes = bytes.clone();
        // A program may stop reading early; its exit status tells.
        thread::spawn(move || pipe.write_all(&bytes));
    }
}

fn wait_limited(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// The end of a program's text: the part that names the cause.
fn tail(text: &str) -> &str {
    const KEEP: usize = 2000;
    let text = text.trim();
    let from = text.len().saturating_sub(KEEP);
    (from..=text.len())
        .find_map(|at| text.get(at..))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::env::temp_dir;
    use std::process::id;

    use super::*;

    #[test]
    fn a_failing_program_is_quoted_in_the_error() {
        let error = Cmd::new(tool::BASH)
            .args(["-c", "echo because >&2; exit 3"])
            .run()
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("exit code 3") && text.contains("because"),
            "{text}"
        );
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let before = Instant::now();
        let cmd = Cmd::new("/usr/bin/sleep")
            .arg("60")
            .limit(Duration::from_millis(100));
        assert!(
            cmd.output()
                .unwrap_err()
                .to_string()
                .contains("killed after")
        );
        assert!(before.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(
            Cmd::new("/usr/bin/cat").input("hello").run().unwrap(),
            "hello"
        );
    }

    #[test]
    fn a_relative_program_is_refused() {
        assert!(Cmd::new("sleep").output().is_err());
    }

    #[test]
    fn a_recorded_process_is_not_mistaken_for_another_with_its_pid() {
        let me = ProcId::of(id()).unwrap();
        assert!(me.is_alive());
        let earlier = ProcId {
            start_time: me.start_time - 1,
            ..me
        };
        assert!(!earlier.is_alive());
        assert!(!earlier.signal(Signal::SIGKILL).unwrap());
    }

    #[test]
    fn a_daemon_runs_and_stops() {
        let log = temp_dir().join(format!("vdvs-daemon-{}.log", id()));
        let id = Cmd::new("/usr/bin/sleep").arg("60").daemon(&log).unwrap();
        assert!(id.is_alive());
        assert!(id.stop(Duration::from_secs(10)).unwrap());
        assert!(!id.stop(Duration::ZERO).unwrap());
        fs::remove_file(log).unwrap();
    }
}
