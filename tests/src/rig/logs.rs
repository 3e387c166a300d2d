//! What our programs wrote: the end of it when a test fails, and every complaint when it passes.
//!
//! An unexpected line at WARN or ERROR fails a test. A test that causes one says which and why.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use vdvs_testkit::lab::{Daemon, Lab, Node, Service};

/// Lines of each log that are printed when a test fails.
const TAIL: usize = 60;
/// Characters of each of them.
const WIDTH: usize = 600;

/// Who wrote a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `vdvsd`
    Agent,
    /// `vdvs-labhv`
    Hypervisor,
    /// `vdvs-plugin`, on any node.
    Plugin,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Agent => "vdvsd",
            Self::Hypervisor => "vdvs-labhv",
            Self::Plugin => "vdvs-plugin",
        }
    }
}

#[derive(Debug)]
struct Expected {
    by: Program,
    text: &'static str,
    why: &'static str,
}

/// Decides which lines a test may leave behind.
#[derive(Debug, Default)]
pub(super) struct Judge {
    expected: Vec<Expected>,
    /// Complaints of plugins whose node has been switched on again since.
    earlier: Vec<(Program, String)>,
}

impl Judge {
    pub(super) fn expect(&mut self, by: Program, text: &'static str, why: &'static str) {
        self.expected.push(Expected { by, text, why });
    }

    /// Reads what a node's plugin wrote in this life, before the next one begins.
    pub(super) fn keep_boot(&mut self, node: &Node) -> Result<()> {
        for service in [Service::Plugin, Service::Engine] {
            let lines = complaints_in(&node.log(service))?;
            self.earlier
                .extend(lines.into_iter().map(|line| (Program::Plugin, line)));
        }
        Ok(())
    }

    /// Complaints nobody expected, each with its writer. What was expected is printed with its reason.
    pub(super) fn complaints(&self, lab: &Lab) -> Result<Vec<String>> {
        let mut all = self.earlier.clone();
        for (program, path) in ours(lab)? {
            all.extend(
                complaints_in(&path)?
                    .into_iter()
                    .map(|line| (program, line)),
            );
        }
        for expected in &self.expected {
            let seen = all.iter().filter(|(by, line)| expected.is(*by, line));
            eprintln!(
                "expected of {}: '{}', {} times: {}",
                expected.by.name(),
                expected.text,
                seen.count(),
                expected.why
            );
        }
        Ok(all
            .into_iter()
            .filter(|(by, line)| !self.expected.iter().any(|one| one.is(*by, line)))
            .map(|(by, line)| format!("{}: {line}", by.name()))
            .collect())
    }
}

impl Expected {
    fn is(&self, by: Program, line: &str) -> bool {
        self.by == by && line.contains(self.text)
    }
}

/// Logs of our own programs.
fn ours(lab: &Lab) -> Result<Vec<(Program, PathBuf)>> {
    let mut logs = Vec::new();
    for host in lab.hosts()? {
        logs.push((Program::Agent, host.log(Daemon::Agent)));
        logs.push((Program::Hypervisor, host.log(Daemon::Labhv)));
    }
    for node in lab.nodes()? {
        logs.push((Program::Plugin, node.log(Service::Plugin)));
        logs.push((Program::Plugin, node.log(Service::Engine)));
    }
    Ok(logs)
}

/// What a managed plugin wrote, out of its engine's log: `time=… level=… msg="<line>" plugin=<id>`.
fn of_managed(line: &str) -> Option<&str> {
    let (text, id) = line.rsplit_once(" plugin=")?;
    let said = text.split_once(" msg=\"")?.1;
    (id.len() == 64).then_some(said)
}

fn complaints_in(path: &Path) -> Result<Vec<String>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text
        .lines()
        .filter(|line| match of_managed(line) {
            // It has nothing to say on its standard error, unless it falls over.
            Some(said) => is_complaint(said) || line.contains(" level=error "),
            None => is_complaint(line),
        })
        .map(str::to_owned)
        .collect())
}

/// `<time> LEVEL target: text`, or the words of a program that fell over.
pub(crate) fn is_complaint(line: &str) -> bool {
    let level = line.split_whitespace().nth(1);
    matches!(level, Some("WARN" | "ERROR")) || line.contains("panicked at")
}

/// Prints the ends of all logs, engines' included.
pub(super) fn print_tails(lab: &Lab) {
    let mut all: Vec<PathBuf> = ours(lab)
        .unwrap_or_default()
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    for node in lab.nodes().unwrap_or_default() {
        all.push(node.boot_log());
    }
    for path in all {
        eprintln!("--- {}", path.display());
        let bytes = fs::read(&path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !is_noise(line)).collect();
        for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
            // A goroutine dump is one line of many thousand characters.
            let line: String = line.chars().take(WIDTH).collect();
            eprintln!("{line}");
        }
    }
}

/// What containerd says at each start, whatever happens.
fn is_noise(line: &str) -> bool {
    [
        "[core]",
        "loading plugin",
        "skip loading plugin",
        "msg=serving",
        "reading the kernel parameter",
        "v2 registry",
        "Attempting next endpoint",
        "default vlan",
    ]
    .iter()
    .any(|noise| line.contains(noise))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_told_by_its_level_not_by_its_words() {
        assert!(is_complaint(
            "2026-11-21T05:44:23.123456Z  WARN vdvs_plugin: lost"
        ));
        assert!(is_complaint(
            "thread 'main' panicked at src/main.rs:1:1: what"
        ));
        assert!(!is_complaint(
            "2026-11-21T05:44:23.123456Z  INFO vdvsd: ERROR is a word"
        ));
        assert!(!is_complaint("--- plugin ended with status 137"));
    }

    #[test]
    fn a_managed_plugins_lines_are_found_in_its_engines_log() {
        let id = "0".repeat(64);
        let line = format!(
            "time=\"x\" level=info msg=\"2026-11-21T07:55:20Z  WARN somebody\" plugin={id}"
        );
        assert!(is_complaint(of_managed(&line).unwrap()));
        let engine = "time=\"x\" level=warning msg=\"no plugin=here\" plugin=abc";
        assert_eq!(of_managed(engine), None);
    }
}
