//! Disk, devices, nodes and writers of one case; gone when it is dropped.

use std::env::temp_dir;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write, copy, sink};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::nodes::start_time;
use crate::{clock, sysfs, write};

/// Big enough for ext4 with a journal.
const DISK_BYTES: u64 = 64 << 20;
/// For what takes milliseconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Behind the end of any file.
const FENCED_OFFSET: u64 = 1 << 62;
/// `LOOP_GET_STATUS64`, another `lo_offset`, `LOOP_SET_STATUS64`: the one thing `losetup` cannot do to a bound device.
const SET_OFFSET: &str = r#"
    open(my $device, "+<", $ARGV[0]) or die "open: $!";
    my $info = "\0" x 232;
    ioctl($device, 0x4C05, $info) or die "get: $!";
    substr($info, 24, 8) = pack("Q", $ARGV[1]);
    for (1 .. 100) { ioctl($device, 0x4C04, $info) and exit 0; select(undef, undef, undef, 0.01); }
    die "set: $!";
"#;

/// A process of the case, by its place.
pub(super) type Handle = usize;

/// What one case uses.
#[derive(Debug)]
pub(super) struct Bench {
    folder: PathBuf,
    children: Vec<Option<Child>>,
    devices: Vec<String>,
    watcher: Option<(Child, BufReader<process::ChildStdout>)>,
}

impl Bench {
    /// A disk with a file system and no device yet.
    pub(super) fn new() -> Result<Self> {
        let folder = temp_dir().join(format!(
            "writer-check-{}-{}",
            process::id(),
            clock::nanoseconds()?
        ));
        fs::create_dir_all(folder.join("mnt"))
            .with_context(|| format!("create {}", folder.display()))?;
        let bench = Self {
            folder,
            children: Vec::new(),
            devices: Vec::new(),
            watcher: None,
        };
        File::create(bench.nodes())?;
        File::create(bench.disk())?.set_len(DISK_BYTES)?;
        tool("/usr/sbin/mkfs.ext4", &["-q", "-F", &text(&bench.disk())])?;
        Ok(bench)
    }

    fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    fn nodes(&self) -> PathBuf {
        self.folder.join("nodes")
    }

    fn mount(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    fn writer_file(&self) -> PathBuf {
        self.mount().join("writes.log")
    }

    /// Starts the watcher and waits for its first look.
    pub(super) fn watch(&mut self) -> Result<()> {
        let (nodes, under) = (text(&self.nodes()), text(&self.folder));
        let parent = process::id().to_string();
        let args = [
            "watch",
            "--nodes",
            &nodes,
            "--under",
            &under,
            "--parent",
            &parent,
            "--writer-file",
            "writes.log",
        ];
        let mut child = command("/proc/self/exe")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().context("the watcher's output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        self.watcher = Some((child, output));
        ensure!(line.starts_with("watching"), "the watcher said: {line}");
        Ok(())
    }

    /// Its exit code, and what it said after its first look.
    pub(super) fn stop_watching(&mut self) -> Result<(i32, String)> {
        let (mut child, mut output) = self.watcher.take().context("nobody watches")?;
        signal(&child)?;
        let mut said = String::new();
        output.read_to_string(&mut said)?;
        let code = child.wait()?.code().context("the watcher was killed")?;
        Ok((code, said))
    }

    /// Binds the disk to one more device.
    pub(super) fn attach(&mut self) -> Result<String> {
        let device = tool(
            "/usr/sbin/losetup",
            &["--find", "--show", "--direct-io=on", &text(&self.disk())],
        )?;
        let device = device.trim().to_owned();
        self.devices.push(device.clone());
        Ok(device)
    }

    /// Unbinds a device and waits until it is.
    pub(super) fn detach(&mut self, device: &str) -> Result<()> {
        tool("/usr/sbin/losetup", &["--detach", device])?;
        let number = device.trim_start_matches("/dev/loop").parse()?;
        until("the device closes", || {
            Ok(sysfs::read(number).is_none_or(|now| now.file != self.disk()))
        })?;
        self.devices.retain(|known| known != device);
        Ok(())
    }

    /// The device that was bound first.
    pub(super) fn first_device(&self) -> Result<String> {
        self.devices.first().cloned().context("no device")
    }

    /// A node that has the device mounted.
    pub(super) fn node(&mut self, name: &str, device: &str) -> Result<Handle> {
        let shell = format!("mount {device} {} && exec sleep 600", text(&self.mount()));
        let args = [
            "--mount",
            "--propagation",
            "private",
            "/bin/sh",
            "-c",
            &shell,
        ];
        let child = command("/usr/bin/unshare")
            .args(args)
            .spawn()
            .context("start a node")?;
        let pid = child.id();
        self.children.push(Some(child));
        let mounts = PathBuf::from(format!("/proc/{pid}/mountinfo"));
        until("the node mounts its disk", || {
            Ok(fs::read_to_string(&mounts)?.contains(&format!(" {} ", text(&self.mount()))))
        })?;
        let start = start_time(pid).context("the node ended")?;
        let mut nodes = OpenOptions::new().append(true).open(self.nodes())?;
        // In one piece: the watcher reads it at any moment.
        nodes.write_all(format!("{name} {pid} {start}\n").as_bytes())?;
        Ok(self.children.len() - 1)
    }

    /// Our writer in a node; returns when it has written.
    pub(super) fn writer(&mut self, name: &str, node: Handle) -> Result<Handle> {
        let own = fs::read_link("/proc/self/exe").context("find this program")?;
        let (own, file) = (text(&own), text(&self.writer_file()));
        self.start_writer(node, &[&own, "write", &file, "--node", name])
    }

    /// The shell's writer in a node; returns when it has written.
    pub(super) fn script_writer(&mut self, name: &str, node: Handle) -> Result<Handle> {
        let file = text(&self.writer_file());
        self.start_writer(
            node,
            &[
                "/bin/busybox",
                "sh",
                "-c",
                write::SCRIPT,
                "writer",
                &file,
                name,
            ],
        )
    }

    fn start_writer(&mut self, node: Handle, line: &[&str]) -> Result<Handle> {
        let target = self.pid(node)?.to_string();
        let mut child = command("/usr/bin/nsenter")
            .args(["--target", &target, "--mount", "--"])
            .args(line)
            .stdout(Stdio::piped())
            .spawn()
            .context("start a writer")?;
        let mut output = BufReader::new(child.stdout.take().context("the writer's output")?);
        self.children.push(Some(child));
        let mut acknowledged = String::new();
        output.read_line(&mut acknowledged)?;
        ensure!(
            acknowledged.trim().parse::<u64>().is_ok(),
            "the writer said: {acknowledged}"
        );
        // Somebody has to take what it says.
        thread::spawn(move || copy(&mut output, &mut sink()));
        Ok(self.children.len() - 1)
    }

    /// Ends a process and waits until it has.
    pub(super) fn stop(&mut self, process: Handle) -> Result<()> {
        let child = self.children.get_mut(process).and_then(Option::take);
        let mut child = child.context("it has been stopped")?;
        signal(&child)?;
        child.wait()?;
        Ok(())
    }

    /// Takes the device's capacity away, as a fence does, or gives it back.
    pub(super) fn set_capacity(&self, device: &str, there: bool) -> Result<()> {
        let offset = if there { 0 } else { FENCED_OFFSET };
        tool(
            "/usr/bin/perl",
            &["-e", SET_OFFSET, device, &offset.to_string()],
        )
        .map(drop)
    }

    /// Writes to the device past any file system.
    pub(super) fn write_device(&self, device: &str) -> Result<()> {
        // Past the page cache too, which still holds the errors of the time without capacity.
        let of = format!("of={device}");
        let args = [
            "if=/dev/zero",
            &of,
            "bs=4096",
            "count=1",
            "seek=8192",
            "oflag=direct",
            "conv=notrunc",
        ];
        tool("/usr/bin/dd", &args).map(drop)
    }

    /// Writes to the disk past any device.
    pub(super) fn write_file(&self) -> Result<()> {
        let mut file = OpenOptions::new().write(true).open(self.disk())?;
        file.seek(SeekFrom::Start(DISK_BYTES / 2))?;
        file.write_all(&[7; 4096]).context("write to the disk")
    }

    /// Takes lines away that were flushed.
    pub(super) fn truncate_writer_file(&self, node: Handle) -> Result<()> {
        let path = format!(
            "/proc/{}/root{}",
            self.pid(node)?,
            text(&self.writer_file())
        );
        OpenOptions::new()
            .write(true)
            .open(path)?
            .set_len(0)
            .context("empty the writer's file")
    }

    fn pid(&self, process: Handle) -> Result<u32> {
        let child = self.children.get(process).and_then(Option::as_ref);
        Ok(child.context("it has been stopped")?.id())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let watcher = self.watcher.take().map(|(child, _)| child);
        for mut child in self.children.drain(..).flatten().chain(watcher) {
            // Ended already is as good.
            child.kill().ok();
            child.wait().ok();
        }
        for device in &self.devices {
            if let Err(error) = tool("/usr/sbin/losetup", &["--detach", device]) {
                eprintln!("writer-check: {device} stays bound: {error:#}");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("writer-check: {} stays: {error}", self.folder.display());
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this program's one door to other programs"
)]
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    command
}

fn tool(program: &str, args: &[&str]) -> Result<String> {
    let done = command(program)
        .args(args)
        .output()
        .with_context(|| format!("run {program}"))?;
    if !done.status.success() {
        bail!(
            "{program} {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&done.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn signal(child: &Child) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    kill(pid, Signal::SIGTERM).context("end a process")
}

fn until(what: &str, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = clock::uptime()? + LIMIT;
    while !so()? {
        ensure!(clock::uptime()? < deadline, "not within {LIMIT:?}: {what}");
        thread::sleep(LOOK_AGAIN);
    }
    Ok(())
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
