//! The independent check, run beside a test: a program that shares no line with what it judges looks at the kernel's own
//! files all the while, and says whether a disk ever had two writers.

use std::fs;
use std::path::PathBuf;
use std::process::id;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vdvs_testkit::lab::{Lab, Profile, built};
use vdvs_testkit::process::{Cmd, ProcId};
use vdvs_testkit::wait::until_true;

use super::lines::WRITER_CHECK;

/// It looks every 50 ms, and ends after a look.
const END: Duration = Duration::from_secs(60);

/// The running check.
#[derive(Debug)]
pub(super) struct Watch {
    process: ProcId,
    log: PathBuf,
}

impl Watch {
    /// Starts it and waits until it looks.
    pub(super) fn start(lab: &Lab) -> Result<Self> {
        let root = lab.layout().root();
        let log = root.join("writer-check.log");
        let process = Cmd::new(built(Profile::Debug, WRITER_CHECK)?)
            .args(["watch", "--lab"])
            .arg(root)
            .args(["--parent", &id().to_string()])
            .daemon(&log)?;
        let watch = Self { process, log };
        until_true(END, "the independent check looks", || {
            Ok(watch.said()?.contains("watching"))
        })?;
        Ok(watch)
    }

    /// Fails with what it has found so far.
    pub(super) fn must_be_content(&self) -> Result<()> {
        let said = self.said()?;
        ensure!(
            self.process.is_alive(),
            "the independent check has ended: {said}"
        );
        let found = said.lines().filter(|line| line.starts_with("FINDING"));
        let found: Vec<&str> = found.collect();
        ensure!(found.is_empty(), "{}", found.join("\n"));
        Ok(())
    }

    /// Stops it and fails with its findings, or if it did not look to the end.
    pub(super) fn finish(self) -> Result<()> {
        self.must_be_content()?;
        self.process.stop(END)?;
        let said = self.said()?;
        let summary = said.lines().find(|line| line.starts_with("summary:"));
        let summary = summary.with_context(|| format!("no summary: {said}"))?;
        eprintln!("independent check: {summary}");
        ensure!(summary.ends_with("findings=0"), "{said}");
        Ok(())
    }

    fn said(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Stopped already, unless the test failed; it ends with us in any case.
        self.process.kill().ok();
    }
}
