//! The tools of the faults: a block device that fails when told, a tracer that lets flushes fail.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vdvs_testkit::lab::ensure_packages;
use vdvs_testkit::process::{Cmd, ProcId, tool};
use vdvs_testkit::wait::{until, until_true};

use crate::bare::Bare;

const SOON: Duration = Duration::from_secs(60);
const PACKAGES: &[&str] = &["nbdkit", "libnbd-bin", "strace"];
const NBDKIT: &str = "/usr/bin/nbdkit";
const NBDFUSE: &str = "/usr/bin/nbdfuse";
const STRACE: &str = "/usr/bin/strace";
pub(crate) const MOUNT: &str = "/usr/bin/mount";

/// Installs what is missing.
pub(crate) fn ensure() -> Result<()> {
    ensure_packages(PACKAGES, &|line| eprintln!("{line}")).map(drop)
}

/// A volume's extent behind a server that fails what it is told to fail.
#[derive(Debug)]
pub(crate) struct FaultyDisk {
    extent: PathBuf,
    folder: PathBuf,
    server: ProcId,
    /// While it is in the extent's place.
    fuse: Option<ProcId>,
}

/// What fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fails {
    Reads,
    Writes,
}

impl FaultyDisk {
    /// Puts the server in the place of a volume's extent. Nobody has the disk open.
    pub(crate) fn under(bare: &Bare, datastore: &str, volume: &str) -> Result<Self> {
        let extent = extent(&bare.datastore(datastore), volume)?;
        let folder = bare.path().join(format!("faulty-{volume}"));
        fs::create_dir(&folder)?;
        // The server works on the very same bytes by another name.
        let behind = folder.join("behind");
        fs::hard_link(&extent, &behind)?;
        let (socket, log) = (folder.join("socket"), folder.join("log"));
        let pid = folder.join("pid");
        let mut server = Cmd::new(NBDKIT)
            .args([
                "--foreground",
                "--exit-with-parent",
                "--filter=error",
                "--unix",
            ])
            .arg(&socket)
            .arg("--pidfile")
            .arg(&pid)
            .arg("file")
            .arg(&behind);
        for (what, fails) in [
            ("pread", Fails::Reads),
            ("pwrite", Fails::Writes),
            ("trim", Fails::Writes),
            ("zero", Fails::Writes),
        ] {
            let flag = flag(&folder, fails);
            server = server
                .args([
                    format!("error-{what}=EIO"),
                    format!("error-{what}-rate=100%"),
                ])
                .arg(format!("error-{what}-file={}", flag.display()));
        }
        let mut disk = Self {
            server: server.daemon(&log)?,
            extent,
            folder,
            fuse: None,
        };
        written(&pid, disk.server, &log)?;
        let pid = disk.folder.join("fuse.pid");
        let fuse = Cmd::new(NBDFUSE)
            .arg("--pidfile")
            .arg(&pid)
            .arg(&disk.extent)
            .arg("--unix")
            .arg(&socket)
            .daemon(&log)?;
        disk.fuse = Some(fuse);
        written(&pid, fuse, &log)?;
        Ok(disk)
    }

    /// From now on these fail, or not any more.
    pub(crate) fn set(&self, fails: Fails, failing: bool) -> Result<()> {
        let flag = flag(&self.folder, fails);
        if failing {
            File::create(&flag).map(drop)
        } else {
            fs::remove_file(&flag)
        }
        .with_context(|| format!("flag {}", flag.display()))
    }

    /// What lies on the disk, whatever fails in front of it.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        fs::read(self.folder.join("behind")).context("read behind the server")
    }

    /// The extent itself is in its place again. Nobody has the disk open.
    pub(crate) fn away(mut self) -> Result<()> {
        until_true(SOON, "the extent is closed", || {
            let done = Cmd::new(tool::UMOUNT).arg(&self.extent).output()?;
            Ok(done.success())
        })?;
        // It ends with its mount.
        self.fuse = None;
        Ok(())
    }
}

impl Drop for FaultyDisk {
    fn drop(&mut self) {
        if let Some(fuse) = self.fuse {
            let lazily = Cmd::new(tool::UMOUNT).arg("--lazy").arg(&self.extent);
            lazily.output().ok();
            fuse.kill().ok();
        }
        self.server.kill().ok();
    }
}

fn flag(folder: &Path, fails: Fails) -> PathBuf {
    folder.join(format!("{fails:?}"))
}

/// Both tools write their pid when they serve.
fn written(pid: &Path, process: ProcId, log: &Path) -> Result<()> {
    until_true(SOON, &format!("{} is written", pid.display()), || {
        let said = || fs::read_to_string(log).unwrap_or_default();
        ensure!(process.is_alive(), "it ended: {}", said());
        Ok(fs::read_to_string(pid).is_ok_and(|text| !text.is_empty()))
    })
}

/// `<datastore>/dockvols/<group>/<volume>.<id8>-flat.vmdk`
fn extent(datastore: &Path, volume: &str) -> Result<PathBuf> {
    for group in fs::read_dir(datastore.join("dockvols"))?.flatten() {
        for file in fs::read_dir(group.path())?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let stem = name.strip_suffix("-flat.vmdk");
            if stem
                .and_then(|stem| stem.rsplit_once('.'))
                .is_some_and(|(one, _)| one == volume)
            {
                return Ok(file.path());
            }
        }
    }
    bail!("no extent of {volume} in {}", datastore.display())
}

/// Every flush of a process fails with EIO, until dropped.
#[derive(Debug)]
pub(crate) struct NoFlush {
    tracer: ProcId,
    process: ProcId,
}

impl NoFlush {
    pub(crate) fn of(process: ProcId, log: &Path) -> Result<Self> {
        let tracer = Cmd::new(STRACE)
            .args(["-f", "-q", "-e", "trace=fsync,fdatasync,sync_file_range"])
            .args(["-e", "inject=fsync,fdatasync:error=EIO", "-p"])
            .arg(process.pid.to_string())
            .daemon(log)?;
        let all_traced = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", process.pid))?.flatten();
            let mut tasks = tasks.map(|task| fs::read_to_string(task.path().join("status")));
            let traced = |text: &str| {
                text.lines()
                    .any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
            };
            Ok(tasks.all(|status| status.is_ok_and(|text| traced(&text))))
        };
        until_true(SOON, "the tracer has all threads", all_traced)?;
        Ok(Self { tracer, process })
    }

    /// Flushes work again.
    pub(crate) fn away(self) -> Result<()> {
        self.tracer.stop(SOON)?;
        let process = self.process;
        until(SOON, "nobody traces it", || {
            let status = fs::read_to_string(format!("/proc/{}/status", process.pid))?;
            Ok(status.contains("TracerPid:\t0").then_some(()))
        })
    }
}

impl Drop for NoFlush {
    fn drop(&mut self) {
        self.tracer.stop(SOON).ok();
    }
}
