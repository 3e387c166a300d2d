//! `vdvsd --probe`: what this host offers, one line for each capability. The first thing to run on a host nobody has seen,
//! and part of every report of a defect.
//!
//! * **It destroys nothing**: files are made in a folder of its own, which goes again; calls of the kernel are made so that
//!   they are refused; no VM, disk or setting of the host is touched.
//! * **Every probe is bounded in time**, in a thread of its own. One that hangs is reported and left behind.
//! * An answer is *yes*, *no*, or *unknown* with the reason; what has to be tried by a person says how.
//!
//! The numbers are those of the questions in docs/esxi.md. The format has a version; fields are only added.

mod files;
mod kernel;
mod machine;
mod sockets;

use std::fmt::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::PROGRAM;
use crate::config::ProbeConfig;
use crate::esxi;

/// Version of the format.
const FORMAT: u32 = 1;
/// How long one probe may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// It is there, or works.
    Yes,
    /// It is not, or does not.
    No,
    /// It could not be found out.
    Unknown,
    /// Only a person can.
    Manual,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Of which question it is a part.
    pub(crate) question: u8,
    /// What was tried.
    pub(crate) name: String,
    /// What came.
    pub(crate) answer: Answer,
    /// In words; the system's error where there was one.
    pub(crate) detail: String,
}

impl Finding {
    pub(crate) fn new(
        question: u8,
        name: impl Into<String>,
        answer: Answer,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            question,
            name: name.into(),
            answer,
            detail: detail.into(),
        }
    }

    /// Yes with these words, or no with the reason.
    pub(crate) fn of<E: ToString>(
        question: u8,
        name: impl Into<String>,
        tried: Result<String, E>,
    ) -> Self {
        match tried {
            Ok(detail) => Self::new(question, name, Answer::Yes, detail),
            Err(why) => Self::new(question, name, Answer::No, why.to_string()),
        }
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    format: u32,
    program: &'a str,
    probes: &'a [Finding],
}

type Probe = (u8, &'static str, Box<dyn FnOnce() -> Vec<Finding> + Send>);

/// Everything, as text or as JSON.
#[must_use]
pub fn report(asked: &ProbeConfig) -> String {
    let dir = asked.dir.clone();
    let probes: Vec<Probe> = vec![
        (1, "program", Box::new(machine::program)),
        (2, "vsockets", Box::new(sockets::vsockets)),
        (3, "hostd", Box::new(esxi::probe)),
        (5, "system calls", Box::new(kernel::calls)),
        (6, "files", Box::new(move || files::all(dir.as_deref()))),
        (13, "limits", Box::new(machine::limits)),
    ];
    let mut found: Vec<Finding> = probes
        .into_iter()
        .flat_map(|(question, name, probe)| bounded(question, name, LIMIT, probe))
        .collect();
    found.extend(by_hand());
    found.sort_by_key(|finding| finding.question);
    if asked.json {
        json(&found)
    } else {
        text(&found)
    }
}

/// Runs a probe in a thread of its own.
fn bounded(
    question: u8,
    name: &'static str,
    limit: Duration,
    probe: impl FnOnce() -> Vec<Finding> + Send + 'static,
) -> Vec<Finding> {
    let unknown = |why: String| vec![Finding::new(question, name, Answer::Unknown, why)];
    let (tell, told) = mpsc::sync_channel(1);
    let started = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || tell.send(probe()).ok());
    match started {
        Err(e) => unknown(format!("no thread could be started: {e}")),
        Ok(_) => told
            .recv_timeout(limit)
            .unwrap_or_else(|_| unknown(format!("no answer within {limit:?}"))),
    }
}

/// Questions that no program may answer by itself.
fn by_hand() -> Vec<Finding> {
    [
        (2, "peer's VM", "start the agent and one guest; its log says the VM's name, or why the option was refused"),
        (4, "tickets in lockdown", "run --probe again in normal and in strict lockdown mode and compare question 3"),
        (7, "domain", "look at 'ps -Z' for vdvsd, and for 'denied' in vmkernel.log"),
        (8, "live install", "install, update and remove three times with the agent running (docs/install-esxi.md)"),
        (9, "image import", "import the offline bundle into Lifecycle Manager, 8 and 9"),
        (11, "PVSCSI units", "attach volumes to one VM of hardware 14 or later until it is refused; the text names the unit"),
        (12, "namespace folders", "create a volume on a vSAN datastore; the log names the call that made its folder"),
    ]
    .map(|(question, name, how)| Finding::new(question, name, Answer::Manual, how))
    .to_vec()
}

fn json(found: &[Finding]) -> String {
    let report = Report {
        format: FORMAT,
        program: PROGRAM,
        probes: found,
    };
    // Nothing in it can fail to be written.
    serde_json::to_string_pretty(&report).map_or_else(|e| e.to_string(), |text| text + "\n")
}

fn text(found: &[Finding]) -> String {
    let mut text = format!("{PROGRAM} --probe, format {FORMAT}\n");
    for one in found {
        let answer = match one.answer {
            Answer::Yes => "yes",
            Answer::No => "no",
            Answer::Unknown => "unknown",
            Answer::Manual => "by hand",
        };
        // One line each, whatever the system's texts hold; writing to a string cannot fail.
        let detail = one.detail.replace(['\n', '\r'], " ");
        writeln!(
            text,
            "{:>2}  {answer:<8} {:<28} {detail}",
            one.question, one.name
        )
        .ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use serde_json::Value;
    use tempfile::tempdir;

    use super::*;

    fn ask(json: bool, dir: Option<PathBuf>) -> String {
        report(&ProbeConfig { json, dir })
    }

    #[test]
    fn every_question_has_a_line_and_nothing_is_left_behind() {
        let dir = tempdir().unwrap();
        let said = ask(true, Some(dir.path().to_owned()));
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["format"], 1);
        let probes = said["probes"].as_array().unwrap();
        for question in 1..=13 {
            let here = probes.iter().any(|p| p["question"] == question);
            assert!(here, "question {question} has no line");
        }
        let of = |name: &str| {
            let found = probes.iter().find(|p| p["name"] == name);
            found.unwrap_or_else(|| panic!("no {name}"))["answer"].clone()
        };
        for name in [
            "call openat",
            "exclusive create",
            "rename",
            "store",
            "unix socket",
        ] {
            assert_eq!(of(name), "yes", "{name}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_a_finding() {
        let said = ask(false, Some("/nowhere/at/all".into()));
        assert!(said.lines().count() > 20, "{said}");
        let line = said.lines().find(|l| l.contains("folder")).unwrap();
        assert!(
            line.contains("no ") && line.contains("/nowhere/at/all"),
            "{line}"
        );
    }

    #[test]
    fn what_hangs_is_reported_and_left() {
        let (_keep, never) = mpsc::channel::<()>();
        let hangs = move || {
            never.recv().ok();
            Vec::new()
        };
        let found = bounded(5, "hangs", Duration::from_millis(20), hangs);
        assert_eq!(found[0].answer, Answer::Unknown);
        let died = bounded(5, "dies", Duration::from_secs(20), || panic!("on purpose"));
        assert_eq!(died[0].answer, Answer::Unknown);
    }
}
