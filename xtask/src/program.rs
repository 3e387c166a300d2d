//! Runs cargo and git for the stages: output goes on to the person while it is searched for what the report repeats.
//!
//! This is the tool's own door to programs; the lab's programs go through the test side's process module. There is no
//! time limit here: a first build takes what it takes, and nextest limits every test (`.config/nextest.toml`).

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Error, Result, bail, ensure};
use vdvs_testkit::lab::target_dir;

/// What cargo sets for the programs it starts; handed on, it would describe us to the crates of the inner build.
const CARGO_OWN: &[&str] = &[
    "CARGO_PKG_",
    "CARGO_MANIFEST_",
    "CARGO_BIN_",
    "CARGO_PRIMARY_",
];

/// How a cargo command ended, and the lines of it worth repeating at the end.
#[derive(Debug, Default)]
pub(crate) struct Ran {
    pub(crate) ok: bool,
    /// The test runner's `Summary` lines.
    pub(crate) summaries: Vec<String>,
    /// The failing tests it listed after them.
    pub(crate) failures: Vec<String>,
    /// What failing tests said, without what programs wrote meanwhile: it may be thousands of lines further up.
    pub(crate) reasons: Vec<String>,
    /// Lines still to be taken of the reason that is being said.
    saying: usize,
}

/// Lines kept of a reason: an error with what caused it, or a panic's place and its words.
const REASON: usize = 12;

/// The folder the clone lives in.
pub(crate) fn root() -> Result<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    Ok(own
        .parent()
        .context("xtask has a parent folder")?
        .to_path_buf())
}

/// Runs cargo in the clone and shows its output as it comes.
pub(crate) fn cargo(args: &[&str], vars: &[(&str, &str)]) -> Result<Ran> {
    shown("cargo", command(&cargo_path())?, args, vars)
}

/// Runs a program that cargo built in `profile`, in the clone, and shows its output as it comes.
pub(crate) fn built(profile: &str, name: &str, args: &[&str]) -> Result<Ran> {
    let path = target_dir()?.join(profile).join(name);
    shown(name, command(&path.into_os_string())?, args, &[])
}

/// Runs the nightly toolchain's cargo in the clone and shows its output as it comes.
pub(crate) fn nightly(args: &[&str]) -> Result<Ran> {
    shown("rustup run nightly cargo", nightly_cargo()?, args, &[])
}

/// Whether the nightly toolchain's `cargo <args>` works, without showing anything.
pub(crate) fn nightly_has(args: &[&str]) -> bool {
    nightly_cargo().is_ok_and(|mut command| {
        command.args(args).stdin(Stdio::null());
        command.output().is_ok_and(|done| done.status.success())
    })
}

fn shown(name: &str, mut command: Command, args: &[&str], vars: &[(&str, &str)]) -> Result<Ran> {
    println!("$ {name} {}", args.join(" "));
    io::stdout().flush()?;
    let colour = if io::stderr().is_terminal() {
        "always"
    } else {
        "never"
    };
    command
        .args(args)
        .env("CARGO_TERM_COLOR", colour)
        .envs(vars.iter().copied());
    let mut child = command
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let mut ran = Ran::default();
    let pipe = child.stderr.take().context("cargo's stderr is piped")?;
    for line in BufReader::new(pipe).split(b'\n') {
        let line = line.context("read cargo's output")?;
        let text = String::from_utf8_lossy(&line);
        eprintln!("{text}");
        ran.note(&plain(&text));
    }
    ran.ok = child.wait().context("wait for cargo")?.success();
    Ok(ran)
}

/// Becomes another program, with its standard streams and its process id. Returns only when it cannot.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the tool's process module"
)]
pub(crate) fn become_program(program: &str, args: &[String]) -> Error {
    let failed = Command::new(program).args(args).exec();
    Error::new(failed).context(format!("start {program}"))
}

/// This program's own file.
pub(crate) fn own_path() -> Result<PathBuf> {
    let path = target_dir()?.join("debug/xtask");
    ensure!(path.exists(), "{} is not there", path.display());
    Ok(path)
}

/// Lets everybody start a file.
pub(crate) fn make_executable(path: &Path) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o755))
        .with_context(|| format!("make {} executable", path.display()))
}

/// Runs cargo and returns its standard output.
pub(crate) fn cargo_output(args: &[&str]) -> Result<Vec<u8>> {
    output(&cargo_path(), args)
}

/// Whether `cargo <args>` works, without showing anything.
pub(crate) fn cargo_has(args: &[&str]) -> bool {
    output(&cargo_path(), args).is_ok()
}

/// Runs a program of the toolchain and returns its standard output.
pub(crate) fn toolchain_output(program: &str, args: &[&str]) -> Result<String> {
    let said = output(&OsString::from(program), args)?;
    String::from_utf8(said).with_context(|| format!("{program} prints UTF-8"))
}

/// Paths of all files in the clone that are tracked, or would be once added, relative to its root.
pub(crate) fn tracked_files() -> Result<Vec<PathBuf>> {
    let listing = output(
        &OsString::from("git"),
        &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--deduplicate",
        ],
    )?;
    let text = String::from_utf8(listing).context("file names are UTF-8")?;
    let root = root()?;
    // Deleted but not yet committed: listed, and not there to be read.
    let there = |path: &PathBuf| root.join(path).is_file();
    Ok(text
        .split_terminator('\0')
        .map(PathBuf::from)
        .filter(there)
        .collect())
}

impl Ran {
    fn note(&mut self, line: &str) {
        let line = line.trim();
        if line.starts_with("Summary [") {
            self.summaries.push(line.to_owned());
        } else if !self.summaries.is_empty() && line.contains(" [") {
            self.failures.push(line.to_owned());
        } else {
            self.note_reason(line);
        }
    }

    /// Words of a failing test begin with `Error:` or with a thread's panic, and end where a backtrace begins.
    fn note_reason(&mut self, line: &str) {
        let panics = line.starts_with("thread '") && line.contains(" panicked at ");
        if panics || (line.starts_with("Error: ") && self.saying == 0) {
            self.saying = REASON;
        }
        if line.to_ascii_lowercase().starts_with("stack backtrace") {
            self.saying = 0;
        }
        if self.saying > 0 && !line.is_empty() {
            self.saying -= 1;
            self.reasons.push(line.to_owned());
        }
    }
}

fn output(program: &OsString, args: &[&str]) -> Result<Vec<u8>> {
    let mut command = command(program)?;
    let done = command
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", program.display()))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!(
            "{} {}: {}: {}",
            program.display(),
            args.join(" "),
            done.status,
            said.trim()
        );
    }
    Ok(done.stdout)
}

/// The cargo that runs us, so that all stages use one toolchain.
fn cargo_path() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// The other toolchain's cargo. What the running one says of itself must not reach it: it would start that one's parts.
fn nightly_cargo() -> Result<Command> {
    let mut command = command(&OsString::from("rustup"))?;
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command.args(["run", "nightly", "cargo"]);
    Ok(command)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the tool's process module"
)]
fn command(program: &OsString) -> Result<Command> {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let own = |name: &str| CARGO_OWN.iter().any(|prefix| name.starts_with(prefix));
        if name.to_str().is_some_and(own) {
            command.env_remove(name);
        }
    }
    command.current_dir(root()?);
    Ok(command)
}

/// A line without the terminal's colour sequences.
fn plain(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            for c in chars.by_ref() {
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            text.push(c);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_removed_before_a_line_is_understood() {
        assert_eq!(
            plain("\u{1b}[32;1m Summary\u{1b}[0m [ 1s] 2 tests"),
            " Summary [ 1s] 2 tests"
        );
    }

    #[test]
    fn the_summary_and_the_failures_below_it_are_kept() {
        let mut ran = Ran::default();
        for line in [
            "        PASS [   0.1s] a b",
            "     Summary [   0.2s] 2 tests run: 1 passed, 1 failed, 0 skipped",
            "        FAIL [   0.1s] a c",
            "error: test run failed",
        ] {
            ran.note(line);
        }
        assert_eq!(
            ran.summaries,
            ["Summary [   0.2s] 2 tests run: 1 passed, 1 failed, 0 skipped"]
        );
        assert_eq!(ran.failures, ["FAIL [   0.1s] a c"]);
    }

    #[test]
    fn what_failing_tests_said_is_kept_without_their_backtraces() {
        let mut ran = Ran::default();
        for line in [
            "    figure: a: 1 s",
            "    Error: schedule 'a'",
            "",
            "    Caused by:",
            "        0: left: a disk",
            "",
            "    Stack backtrace:",
            "       0: anyhow::error",
            "    thread 'b' (12) panicked at tests/b.rs:294:5:",
            "    nobody answers",
            "    stack backtrace:",
            "       0: begin_panic",
        ] {
            ran.note(line);
        }
        let said = [
            "Error: schedule 'a'",
            "Caused by:",
            "0: left: a disk",
            "thread 'b' (12) panicked at tests/b.rs:294:5:",
            "nobody answers",
        ];
        assert_eq!(ran.reasons, said);
    }
}
