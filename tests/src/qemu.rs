//! A lab of QEMU VMs for one test: a real guest kernel with its PVSCSI driver and its vSockets, our real programs.
//!
//! ```text
//!   VirtualRig::up ──► the test ──► finish: nobody complained ──► lab down: nothing left
//!                        └── dropped on the way: the ends of all logs are printed ──► lab down
//! ```
//! Where this machine cannot have QEMU, [`VirtualRig::up`] says *skipped* with the reason and gives none.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use vdvs_host_lab::protocol::{Device, LockState};
use vdvs_testkit::lab::qemu::{Availability, Guest, Machine, QemuConfig, prepare};
use vdvs_testkit::lab::{DEFAULT_DATASTORE, DEFAULT_HOST, Daemon, Host, Lab, Profile, leftovers};
use vdvs_testkit::wait::until_true;

use crate::rig::Program;
use crate::rig::logs::is_complaint;

/// For what takes a second on an idle machine.
pub const SOON: Duration = Duration::from_secs(60);
/// Lines of each log that are printed when a test fails.
const TAIL: usize = 80;

/// A lab of QEMU VMs and one test in it.
#[derive(Debug)]
pub struct VirtualRig {
    lab: Lab,
    expected: Mutex<Vec<(Program, &'static str)>>,
    /// What plugins wrote in guests that have been switched off since.
    earlier: Mutex<String>,
    down: bool,
}

impl VirtualRig {
    /// A new lab, its VMs off; none, after saying so, where no QEMU can run.
    ///
    /// # Errors
    /// A program is not built, or the lab cannot be made.
    pub fn make(name: &str, guests: u8, guest: Guest) -> Result<Option<Self>> {
        let say = |line: &str| eprintln!("{line}");
        let prepared = match prepare(guest == Guest::Engine, &say)? {
            Availability::Ready(prepared) => prepared,
            Availability::Unavailable(why) => {
                eprintln!("skipped: no QEMU VMs on this machine: {why}");
                return Ok(None);
            }
        };
        let config = QemuConfig {
            name: format!("q-{name}"),
            guests,
            guest,
            profile: Profile::Debug,
        };
        Lab::down(&config.name)?;
        let lab = Lab::make_qemu(&config, &prepared).inspect_err(|_| {
            // The error that matters is the first.
            Lab::down(&config.name).ok();
        })?;
        Ok(Some(Self {
            lab,
            expected: Mutex::default(),
            earlier: Mutex::default(),
            down: false,
        }))
    }

    /// As [`VirtualRig::make`], with all VMs on and their plugins listening.
    ///
    /// # Errors
    /// As [`VirtualRig::make`], or a VM does not come up.
    pub fn up(name: &str, guests: u8, guest: Guest) -> Result<Option<Self>> {
        let Some(rig) = Self::make(name, guests, guest)? else {
            return Ok(None);
        };
        rig.each(|machine| {
            machine.power_on()?;
            machine.start_plugin()
        })?;
        Ok(Some(rig))
    }

    /// Does something to all VMs at a time.
    ///
    /// # Errors
    /// One of them fails.
    pub fn each(&self, act: impl Fn(&Machine) -> Result<()> + Sync) -> Result<()> {
        let machines = self.lab.machines()?;
        thread::scope(|scope| {
            let running: Vec<_> = machines
                .iter()
                .map(|machine| scope.spawn(|| act(machine)))
                .collect();
            // All of them, before the first error is told.
            let ended: Vec<Result<()>> = running
                .into_iter()
                .map(|one| {
                    one.join()
                        .map_err(|_| anyhow!("a machine's thread panicked"))?
                })
                .collect();
            ended.into_iter().collect()
        })
    }

    /// A VM.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn machine(&self, name: &str) -> Result<Machine> {
        self.lab.machine(name)
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> Host {
        self.lab.host(DEFAULT_HOST)
    }

    /// Kills one of the host's programs and starts it again.
    ///
    /// # Errors
    /// It does not listen in time.
    pub fn restart(&self, daemon: Daemon) -> Result<()> {
        let host = self.host();
        host.kill(daemon)?;
        host.start(daemon).map(drop)
    }

    /// Cuts a VM's power; what its plugin wrote is kept for the end.
    ///
    /// # Errors
    /// The VM cannot be killed.
    pub fn power_cut(&self, machine: &Machine) -> Result<()> {
        let log = machine.plugin_log()?;
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.push_str(&log);
        earlier.push('\n');
        machine.power_cut()
    }

    /// The disks the hypervisor says this VM has.
    ///
    /// # Errors
    /// labhv does not answer.
    pub fn disks(&self, machine: &Machine) -> Result<Vec<Device>> {
        Ok(machine.hypervisor()?.devices(machine.name())?)
    }

    /// The lock on the one disk this VM has.
    ///
    /// # Errors
    /// It has not one disk, or labhv does not answer.
    pub fn lock(&self, device: &Device) -> Result<LockState> {
        Ok(self.host().hypervisor().lock(&device.disk)?.0)
    }

    /// A line at WARN or ERROR that holds `text` is what this test wants to see, because of `_why`.
    pub fn expect_complaint(&self, by: Program, text: &'static str, _why: &'static str) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.push((by, text));
    }

    /// Creates a small volume from a VM.
    ///
    /// # Errors
    /// The plugin refuses.
    pub fn create(&self, machine: &Machine, name: &str, options: &[(&str, &str)]) -> Result<()> {
        let size = [("size", "20mb")];
        let opts: BTreeMap<&str, &str> = size.iter().chain(options).copied().collect();
        machine
            .volume("Create", &json!({ "Name": name, "Opts": opts }))
            .map(drop)
    }

    /// Unmounts as Docker does.
    ///
    /// # Errors
    /// The plugin refuses.
    pub fn unmount(&self, machine: &Machine, name: &str, id: &str) -> Result<()> {
        machine
            .volume("Unmount", &json!({ "Name": name, "ID": id }))
            .map(drop)
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// The plugin refuses.
    pub fn remove(&self, machine: &Machine, name: &str) -> Result<()> {
        machine.volume("Remove", &json!({ "Name": name })).map(drop)
    }

    /// The end of the test: nothing of a volume is left, no program complained of something the test did not cause, and
    /// the lab goes down without a trace.
    ///
    /// # Errors
    /// Any of it is not so.
    pub fn finish(mut self) -> Result<()> {
        until_true(SOON, "no disk is left in a VM", || {
            let mut all = self.lab.machines()?.into_iter();
            all.try_fold(true, |none, machine| {
                Ok(none && self.disks(&machine)?.is_empty())
            })
        })?;
        let store = self.lab.layout().datastore_dir(DEFAULT_DATASTORE);
        let mut disks = Vec::new();
        collect_disks(&store.join("dockvols"), &mut disks)?;
        ensure!(disks.is_empty(), "left on the datastore: {disks:?}");
        let complaints = self.complaints()?;
        ensure!(
            complaints.is_empty(),
            "unexpected in the logs:\n{}",
            complaints.join("\n")
        );
        let layout = self.lab.layout().clone();
        Lab::down(layout.name())?;
        self.down = true;
        let left = leftovers(&layout)?;
        ensure!(left.is_empty(), "left: {}", left.join("; "));
        Ok(())
    }

    fn logs(&self) -> Result<Vec<(Program, String)>> {
        let host = self.host();
        let read = |daemon| fs::read_to_string(host.log(daemon)).unwrap_or_default();
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let mut logs = vec![
            (Program::Agent, read(Daemon::Agent)),
            (Program::Hypervisor, read(Daemon::Labhv)),
            (Program::Plugin, earlier.clone()),
        ];
        for machine in self.lab.machines()? {
            if machine.is_on()? {
                let log = machine
                    .plugin_log()
                    .unwrap_or_else(|error| format!("- ERROR {error:#}"));
                logs.push((Program::Plugin, log));
            }
        }
        Ok(logs)
    }

    fn complaints(&self) -> Result<Vec<String>> {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        for (program, text) in self.logs()? {
            for line in text.lines().filter(|line| is_complaint(line)) {
                if !expected
                    .iter()
                    .any(|(by, part)| *by == program && line.contains(part))
                {
                    found.push(format!("{program:?}: {line}"));
                }
            }
        }
        Ok(found)
    }

    fn print_tails(&self) -> Result<()> {
        let mut logs: Vec<(String, String)> = Vec::new();
        for machine in self.lab.machines()? {
            for path in [machine.serial_log(), machine.qemu_log()] {
                let text = fs::read(&path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                logs.push((path.display().to_string(), text));
            }
        }
        for (program, text) in self.logs()? {
            logs.push((format!("{program:?}"), text));
        }
        for (name, text) in logs {
            eprintln!("--- {name}");
            let lines: Vec<&str> = text.lines().collect();
            for line in lines.iter().skip(lines.len().saturating_sub(TAIL)) {
                eprintln!("{line}");
            }
        }
        Ok(())
    }
}

impl Drop for VirtualRig {
    fn drop(&mut self) {
        if self.down {
            return;
        }
        if let Err(error) = self.print_tails() {
            eprintln!("the logs cannot be read: {error:#}");
        }
        if let Err(error) = Lab::down(self.lab.layout().name()) {
            eprintln!("the lab does not go down: {error:#}");
        }
    }
}

/// Descriptors of volumes' disks below a folder.
fn collect_disks(dir: &Path, found: &mut Vec<String>) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(_) => return Ok(()),
    };
    for entry in entries {
        let path = entry.context("list a datastore")?.path();
        if path.is_dir() {
            collect_disks(&path, found)?;
        } else if path.extension().is_some_and(|ext| ext == "vmdk") {
            found.push(path.display().to_string());
        }
    }
    Ok(())
}
