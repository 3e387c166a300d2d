//! One QEMU VM of a lab: its processes, its power, and what is done in its guest.
//!
//! ```text
//!            vSocket process ─► QEMU, processors stopped ─► recorded ─► hypervisor plugs its disks in, lets it begin
//!     ┌─────┐ ─────────────────────────────────────────────────────────────────────► ┌────┐
//!     │ off │ ◄── power cut: KILL to QEMU; nothing in the guest gets to say a word ─── │ on │
//!     └─────┘                                                                          └────┘
//! ```
//! Off means that the QEMU process is gone. Its disk locks go with it, whatever else happens.

use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use vdvs_host_lab::BlockingClient;
use vdvs_host_lab::qemu::{Controller, QemuVm};

use super::console::Console;
use super::tools::{self, QEMU};
use crate::lab::layout::{Layout, OWNER_ENV};
use crate::lab::state::{self, MachineRecord};
use crate::process::{Cmd, ProcId};
use crate::wait;

/// A socket is there 0.1 s after its program's start.
const SOCKET_LIMIT: Duration = Duration::from_secs(30);
/// Three seconds alone, nine beside a build; an engine's guest twice that.
const BOOT_LIMIT: Duration = Duration::from_secs(90);
/// For a command in the guest, unless said otherwise.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Above the plugin's own budget for a Mount.
const REQUEST_LIMIT: Duration = Duration::from_secs(150);
/// An engine is ready 10 s after its start, 24 s where three start at once.
const ENGINE_LIMIT: Duration = Duration::from_secs(150);
/// The controllers: one behind a bridge, whose slot has a number of its own as ESXi gives them, and one on the root
/// bus, whose slot is its place there.
const BRIDGED_SLOT: u32 = 160;
const ROOT_SLOT: u32 = 17;
/// The agent's port.
const PORT: u32 = 1019;
/// In the guest.
const PLUGIN_LOG: &str = "/run/vdvs-plugin.log";
const PLUGIN_SOCKET: &str = "/run/docker/plugins/vsphere.sock";

/// What is in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// The plugin and the programs it calls, in 256 MB.
    Small,
    /// Debian with a container engine, in 768 MB.
    Engine,
}

/// A QEMU VM of a lab. Cheap to clone; holds no state of its own.
#[derive(Debug, Clone)]
pub struct Machine {
    layout: Layout,
    name: String,
}

impl Machine {
    pub(super) fn new(layout: &Layout, name: &str) -> Self {
        Self {
            layout: layout.clone(),
            name: name.to_owned(),
        }
    }

    /// The VM's name, and the guest's host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is on record.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn record(&self) -> Result<MachineRecord> {
        let state = state::load(&self.layout)?;
        state
            .and_then(|state| state.machine(&self.name).cloned())
            .with_context(|| format!("lab '{}' has no QEMU VM {}", self.layout.name(), self.name))
    }

    /// Its QEMU process lives.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn is_on(&self) -> Result<bool> {
        Ok(self.record()?.running().is_some())
    }

    /// Writes into `vm.json` that this VM is a QEMU process.
    pub(super) fn register(&self) -> Result<()> {
        let record = self.record()?;
        let dir = self.layout.node_dir(&self.name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let file = self.layout.vm_dir(&record.host, &self.name).join("vm.json");
        let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        let mut vm: Value = serde_json::from_slice(&text)?;
        let controller = |id: &str, pci_slot| Controller {
            id: id.to_owned(),
            pci_slot,
        };
        let mut controllers = vec![
            controller("scsi0", BRIDGED_SLOT),
            controller("scsi1", ROOT_SLOT),
        ];
        // Every other VM begins with the other one, so that both ways to a controller are gone.
        if record.cid % 2 == 0 {
            controllers.reverse();
        }
        let qemu = QemuVm {
            qmp: dir.join("qmp"),
            controllers,
        };
        if let Some(fields) = vm.as_object_mut() {
            fields.insert("qemu".to_owned(), serde_json::to_value(qemu)?);
        }
        state::write_atomically(&file, &serde_json::to_vec_pretty(&vm)?)
    }

    /// Switches it on and waits until the guest takes commands. On already: only waits.
    ///
    /// # Errors
    /// The hypervisor refuses, or the guest does not come up; it is off then.
    pub fn power_on(&self) -> Result<()> {
        if !self.is_on()? {
            self.boot().inspect_err(|_| {
                // The boot's own error is what the caller needs to see.
                self.end_processes().ok();
            })?;
        }
        let console = self.console();
        let log = self.serial_log();
        wait::until_true(BOOT_LIMIT, &format!("guest {} boots", self.name), || {
            ensure!(
                self.is_on()?,
                "{} ended: see {} and {}",
                self.name,
                log.display(),
                self.qemu_log().display()
            );
            let ready = fs::read(&log)
                .is_ok_and(|text| String::from_utf8_lossy(&text).contains("lab: ready"));
            Ok(ready && console.answers(BOOT_LIMIT))
        })
    }

    fn boot(&self) -> Result<()> {
        self.end_processes()?;
        let record = self.record()?;
        for name in ["qmp", "commands", "vhost", "console.log"] {
            remove(&self.dir().join(name))?;
        }
        self.start_vsock(&record)?;
        let qemu = self.start_qemu(&record)?;
        let pid = i32::try_from(qemu.pid).context("pid out of range")?;
        self.hypervisor()?
            .power_on(&self.name, pid, qemu.start_time)
            .with_context(|| format!("power on {}, see {}", self.name, self.qemu_log().display()))
    }

    /// The way from the guest's port 1019 to the agent's socket for this VM.
    fn start_vsock(&self, record: &MachineRecord) -> Result<()> {
        let folder = self.layout.vsock_dir(&record.host, &self.name);
        let uds = folder.join("v");
        remove(&uds)?;
        let door = folder.join(format!("v_{PORT}"));
        if !door.is_symlink() {
            symlink(PORT.to_string(), &door).context("link the agent's socket")?;
        }
        let socket = self.dir().join("vhost");
        let vm = format!(
            "guest-cid={},socket={},uds-path={}",
            record.cid,
            socket.display(),
            uds.display()
        );
        let log = self.dir().join("vsock.log");
        let process = Cmd::new(tools::vsock_backend()?)
            .clean_env()
            .env(OWNER_ENV, self.layout.prefix())
            .args(["--vm", &vm])
            .daemon(&log)?;
        self.update(|machine| machine.vsock = Some(process))?;
        wait::until_true(SOCKET_LIMIT, "the vSocket backend listens", || {
            ensure!(process.is_alive(), "it ended: see {}", log.display());
            Ok(socket.exists())
        })
    }

    fn start_qemu(&self, record: &MachineRecord) -> Result<ProcId> {
        let process = Cmd::new(QEMU)
            .clean_env()
            .env(OWNER_ENV, self.layout.prefix())
            .args(self.arguments(record))
            .current_dir(self.dir())
            .daemon(&self.qemu_log())?;
        self.update(|machine| machine.qemu = Some(process))?;
        let sockets = ["qmp", "commands"].map(|name| self.dir().join(name));
        wait::until_true(SOCKET_LIMIT, "QEMU's monitor listens", || {
            ensure!(
                process.is_alive(),
                "it ended: see {}",
                self.qemu_log().display()
            );
            Ok(sockets.iter().all(|socket| socket.exists()))
        })?;
        Ok(process)
    }

    fn arguments(&self, record: &MachineRecord) -> Vec<String> {
        let memory = if record.engine { "768M" } else { "256M" };
        let mut kernel = format!(
            "console=ttyS0 quiet panic=-1 mitigations=off nokaslr tsc=reliable audit=0 apparmor=0 \
             random.trust_cpu=on rdinit=/init vdvs.name={}",
            self.name
        );
        let mut line = String::from(
            "-nodefaults -no-user-config -display none -vga none -no-reboot -S -smp 1 -cpu max -bios qboot.rom \
             -serial file:console.log -chardev socket,id=commands,path=commands,server=on,wait=off -qmp unix:qmp,server=on,wait=off \
             -global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off \
             -M q35,accel=tcg,memory-backend=mem0 -chardev socket,id=vs0,path=vhost \
             -device vhost-user-vsock-pci,chardev=vs0,bus=pcie.0 \
             -device virtio-serial-pci,bus=pcie.0 -device virtserialport,chardev=commands,name=lab",
        );
        // Writing to a string cannot fail.
        write!(
            line,
            " -m {memory} -object memory-backend-memfd,id=mem0,size={memory},share=on \
             -device pcie-root-port,id=bridge0,bus=pcie.0,addr=0x10,chassis=1,slot={BRIDGED_SLOT} \
             -device pvscsi,id=scsi0,bus=bridge0 -device pvscsi,id=scsi1,bus=pcie.0,addr=0x{ROOT_SLOT:x}"
        )
        .ok();
        let mut all: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if let Some(root) = record.root.as_ref().filter(|_| record.engine) {
            kernel.push_str(" vdvs.root=/dev/vda");
            // What is written goes into a copy that ends with the machine.
            let drive = format!(
                "file={},format=raw,if=none,id=root,snapshot=on,cache=unsafe",
                root.display()
            );
            let device = "virtio-blk-pci,drive=root,bus=pcie.0";
            all.extend(["-drive", &drive, "-device", device].map(str::to_owned));
        }
        let (image, initramfs) = (
            record.kernel.display().to_string(),
            record.initramfs.display().to_string(),
        );
        let begin = ["-kernel", &image, "-initrd", &initramfs, "-append", &kernel];
        all.extend(begin.map(str::to_owned));
        all
    }

    /// Kills the QEMU process with SIGKILL: the VM's power is cut. Off already: nothing happens.
    ///
    /// # Errors
    /// It cannot be killed, or the hypervisor does not notice.
    pub fn power_cut(&self) -> Result<()> {
        let Some(qemu) = self.record()?.running() else {
            return Ok(());
        };
        qemu.kill()?;
        // The hypervisor notices by itself; asked, it has noticed when it answers.
        self.hypervisor()?
            .power_off(&self.name)
            .with_context(|| format!("the hypervisor did not notice the end of {}", self.name))?;
        self.end_processes()
    }

    /// Runs a script in the guest and returns what it printed, without the last line's end.
    ///
    /// # Errors
    /// It fails or does not end in time.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.sh_within(script, COMMAND_LIMIT)
    }

    /// As [`Machine::sh`], with a limit of one's own.
    ///
    /// # Errors
    /// As [`Machine::sh`].
    pub fn sh_within(&self, script: &str, limit: Duration) -> Result<String> {
        let said = self.console().run(script, limit)?;
        ensure!(
            said.code == 0,
            "{}: '{script}' ended with {}: {}",
            self.name,
            said.code,
            said.text.trim_end()
        );
        Ok(said.text.trim_end().to_owned())
    }

    /// Exit code and output of a script.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn outcome(&self, script: &str) -> Result<(i32, String)> {
        self.outcome_within(script, COMMAND_LIMIT)
    }

    /// As [`Machine::outcome`], with a limit of one's own.
    ///
    /// # Errors
    /// As [`Machine::outcome`].
    pub fn outcome_within(&self, script: &str, limit: Duration) -> Result<(i32, String)> {
        let said = self.console().run(script, limit)?;
        Ok((said.code, said.text))
    }

    /// Starts the plugin in the guest and waits until it listens.
    ///
    /// # Errors
    /// It does not.
    pub fn start_plugin(&self) -> Result<()> {
        let script = format!(
            "rm -f {PLUGIN_SOCKET}; setsid /usr/bin/vdvs-plugin run --doubt-after 10 \
             </dev/null >>{PLUGIN_LOG} 2>&1 & echo $! >/run/vdvs-plugin.pid"
        );
        self.sh(&script)?;
        let what = format!("the plugin of {} listens", self.name);
        wait::until_true(SOCKET_LIMIT, &what, || {
            Ok(self.outcome(&format!("test -S {PLUGIN_SOCKET}"))?.0 == 0)
        })
    }

    /// Kills the plugin in the guest.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill_plugin(&self) -> Result<()> {
        self.sh("kill -9 $(cat /run/vdvs-plugin.pid); rm /run/vdvs-plugin.pid")
            .map(drop)
    }

    /// What the plugin wrote since the guest's boot.
    ///
    /// # Errors
    /// The guest does not answer.
    pub fn plugin_log(&self) -> Result<String> {
        self.sh(&format!("cat {PLUGIN_LOG} 2>/dev/null || true"))
    }

    /// Asks the plugin as Docker does: `VolumeDriver.<verb>`.
    ///
    /// # Errors
    /// No answer, or its `Err` is not empty.
    pub fn volume(&self, verb: &str, body: &Value) -> Result<Value> {
        let script = format!(
            "volume {verb} '{}'",
            body.to_string().replace('\'', "'\\''")
        );
        let said = self.sh_within(&script, REQUEST_LIMIT)?;
        let said: Value = serde_json::from_str(&said).with_context(|| format!("{verb}: {said}"))?;
        match said.get("Err").and_then(Value::as_str) {
            Some(error) if !error.is_empty() => bail!("{verb}: {error}"),
            _ => Ok(said),
        }
    }

    /// Mounts a volume as Docker does and returns the folder it hands to containers.
    ///
    /// # Errors
    /// The plugin refuses.
    pub fn mount(&self, volume: &str, id: &str) -> Result<String> {
        let said = self.volume("Mount", &json!({ "Name": volume, "ID": id }))?;
        let path = said.get("Mountpoint").and_then(Value::as_str);
        path.map(str::to_owned)
            .with_context(|| format!("a mount without a place: {said}"))
    }

    /// Starts the engine in the guest and waits until it answers.
    ///
    /// # Errors
    /// Not in time.
    pub fn start_engine(&self) -> Result<()> {
        // Without a network: no bridge, no packet filter.
        self.sh(
            "setsid dockerd --bridge=none --iptables=false --ip6tables=false --ip-forward=false \
             </dev/null >>/run/dockerd.log 2>&1 &",
        )?;
        let what = format!("the engine of {} answers", self.name);
        wait::until_true(ENGINE_LIMIT, &what, || {
            Ok(self.outcome("docker version >/dev/null 2>&1")?.0 == 0)
        })
        .with_context(|| self.sh("tail -n 20 /run/dockerd.log").unwrap_or_default())
    }

    /// The hypervisor this VM is registered on.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn hypervisor(&self) -> Result<BlockingClient> {
        let host = self.record()?.host;
        Ok(BlockingClient::new(&self.layout.labhv_socket(&host)))
    }

    /// What the guest's kernel says.
    #[must_use]
    pub fn serial_log(&self) -> PathBuf {
        self.dir().join("console.log")
    }

    /// What QEMU says.
    #[must_use]
    pub fn qemu_log(&self) -> PathBuf {
        self.dir().join("qemu.log")
    }

    /// Ends its processes without any ceremony and without the hypervisor.
    pub(super) fn end_processes(&self) -> Result<()> {
        let record = self.record()?;
        for process in [record.qemu, record.vsock].into_iter().flatten() {
            process.kill()?;
        }
        self.update(|machine| {
            machine.qemu = None;
            machine.vsock = None;
        })
    }

    fn console(&self) -> Console {
        Console::at(self.dir().join("commands"))
    }

    fn dir(&self) -> PathBuf {
        self.layout.node_dir(&self.name)
    }

    fn update(&self, change: impl FnOnce(&mut MachineRecord)) -> Result<()> {
        let found = state::update(&self.layout, |state| {
            state.machine_mut(&self.name).map(change)
        })?;
        found.with_context(|| format!("lab '{}' has no QEMU VM {}", self.layout.name(), self.name))
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
