//! The state of a host and the calls that change VMs: registration and power. Devices are in [`super::devices`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::read_dir;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::StartError;
use super::devices::Closing;
use super::disks;
use super::init::{Init, InitId, start_time};
use super::leases::Leases;
use super::vm::{Cut, Vm};
use crate::config::HostConfig;
use crate::protocol::{self, Answer, LabError, LabErrorKind, Power, VmState};

/// How long a killed init may take to end with all its processes; 20 to 30 ms are usual.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(10);
/// How long a call waits for devices to close after power was lost; the rest closes while nobody waits.
const SETTLE: Duration = Duration::from_secs(2);
/// Between two looks at what concerns other hosts, and at what could not be done at once.
const UPKEEP: Duration = Duration::from_millis(500);

/// A disk that a dead host left open: datastore, extent, host, VM.
pub(super) type LeftBehind = (String, String, String, String);

#[derive(Debug)]
pub(crate) struct World {
    pub(super) host_dir: PathBuf,
    pub(super) config: HostConfig,
    pub(super) vms: BTreeMap<String, Vm>,
    pub(super) closing: Vec<Closing>,
    pub(super) leases: Leases,
    /// Since when it was seen.
    pub(super) behind: HashMap<LeftBehind, Instant>,
    /// The last upkeep.
    kept_up: Instant,
    /// Folders that could not be read, so that each is told once.
    unreadable: BTreeSet<PathBuf>,
    generation: u64,
}

impl World {
    /// Reads the host's folder and finds its devices again. Nothing is opened yet.
    pub(super) fn look(host_dir: &Path) -> Result<Self, StartError> {
        let config = HostConfig::declared(host_dir)?;
        // Larger than any number an earlier run gave out, so that nobody takes a new world for the one he knows.
        let own = i32::try_from(process::id()).unwrap_or(0);
        let started = start_time(own).map_err(StartError::Stock)?;
        let mut world = Self {
            host_dir: host_dir.to_owned(),
            leases: Leases::new(host_dir, &config, started),
            config,
            vms: BTreeMap::new(),
            closing: Vec::new(),
            behind: HashMap::new(),
            kept_up: Instant::now(),
            unreadable: BTreeSet::new(),
            generation: started << 20,
        };
        world.scan();
        world.revive().map_err(StartError::Stock)?;
        world.adopt().map_err(StartError::Stock)?;
        Ok(world)
    }

    pub(super) fn start(host_dir: &Path) -> Result<Self, StartError> {
        let mut world = Self::look(host_dir)?;
        world.take_stock();
        world.leases.spawn().map_err(StartError::Stock)?;
        world.publish();
        world.bump(None);
        Ok(world)
    }

    /// The end of a labhv that was asked to go. With VMs running nothing changes; without, its locks and leases go.
    pub(super) fn leave(&mut self) {
        if self.vms.values().any(|vm| vm.init.is_some()) {
            return;
        }
        self.settle(SETTLE);
        for store in self.leases.stores() {
            if let Err(e) = self.sweep_locks(store) {
                info!(datastore = store.name, error = %e, "cannot look after lock files");
            }
        }
        if self.closing.is_empty() {
            self.leases.leave();
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Something changed, about this VM or in general.
    pub(super) fn bump(&mut self, vm: Option<&str>) {
        self.generation += 1;
        if let Some(vm) = vm.and_then(|name| self.vms.get_mut(name)) {
            vm.generation = self.generation;
        }
    }

    /// Brings the picture up to date with the machine: ended VMs, folders that came or went, closed devices.
    pub(super) fn refresh(&mut self) {
        let ended: Vec<String> = self
            .vms
            .iter()
            .filter(|(_, vm)| vm.init.as_ref().is_some_and(|i| !i.alive().unwrap_or(true)))
            .map(|(name, _)| name.clone())
            .collect();
        for name in ended {
            info!(vm = name, "power lost");
            self.power_lost(&name);
        }
        self.scan();
        self.settle(Duration::ZERO);
        self.notice_losses();
        if self.kept_up.elapsed() >= UPKEEP {
            self.kept_up = Instant::now();
            self.finish_fences();
            for store in self.leases.stores().iter().filter(|s| s.answers()) {
                // Tried again the next time.
                self.sweep_locks(store).ok();
            }
            self.reap();
        }
        self.publish();
    }

    /// Reads the folders of all VMs that do not run; what runs is known better here.
    fn scan(&mut self) {
        let dirs = match read_dir(self.host_dir.join("vms")) {
            Ok(dirs) => dirs,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(e) => {
                error!(error = %e, "cannot list the VMs");
                return;
            }
        };
        let mut seen = BTreeSet::new();
        for dir in dirs.flatten().map(|d| d.path()) {
            let Some(name) = dir.file_name().and_then(|n| n.to_str()).map(str::to_owned) else {
                continue;
            };
            seen.insert(name.clone());
            if self.vms.get(&name).is_some_and(|vm| vm.init.is_some()) {
                continue;
            }
            match Vm::load(&dir, |disk| disks::extent_of(&self.config, disk)) {
                Ok(vm) => self.register(name, vm),
                // A folder that is being filled.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if self.unreadable.insert(dir.clone()) => {
                    error!(folder = %dir.display(), error = %e, "not a VM");
                }
                Err(_) => {}
            }
        }
        let gone: Vec<String> = self
            .vms
            .iter()
            .filter(|(name, vm)| vm.init.is_none() && !seen.contains(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            info!(vm = name, "unregistered");
            self.vms.remove(&name);
            self.bump(None);
        }
    }

    fn register(&mut self, name: String, mut vm: Vm) {
        let known = self.vms.get(&name);
        if known.is_some_and(|k| {
            k.file == vm.file
                && k.devices
                    .iter()
                    .map(|d| &d.configured)
                    .eq(vm.devices.iter().map(|d| &d.configured))
        }) {
            return;
        }
        if known.is_none() {
            info!(vm = name, "registered");
        }
        vm.generation = known.map_or(0, |k| k.generation);
        if let Some(known) = self.vms.remove(&name) {
            vm.vmx = known.vmx;
        }
        self.vms.insert(name.clone(), vm);
        self.bump(Some(&name));
    }

    /// After a start: takes hold of the inits that still live. Where that cannot be told the start fails: to take a
    /// running VM for one that is off would close its disks under it.
    fn revive(&mut self) -> io::Result<()> {
        for (name, vm) in &mut self.vms {
            let Some(id) = vm.file.init else { continue };
            if let Some(init) = Init::hold(id)? {
                info!(vm = name, pid = id.pid, "runs");
                vm.init = Some(init);
            } else if let Err(e) = vm.save_init(None) {
                error!(vm = name, error = %e, "cannot write that the VM is off");
            }
        }
        Ok(())
    }

    /// True for a VM whose folder is there and could not be understood: whether it runs and what it has is unknown.
    /// Names in labels may be cut short.
    pub(super) fn is_unreadable(&self, label_name: &str) -> bool {
        let cut = |dir: &PathBuf| {
            dir.file_name()
                .and_then(|n| n.to_str())
                .is_some_and(|n| n.starts_with(label_name))
        };
        self.unreadable.iter().any(cut)
    }

    pub(super) fn list(&self) -> Vec<VmState> {
        let state = |vm: &Vm| VmState {
            name: vm.file.name.clone(),
            instance_uuid: vm.file.instance_uuid,
            config_path: vm.file.config_path.clone(),
            power: match (&vm.init, vm.file.suspended) {
                (None, _) => Power::Off,
                (Some(_), true) => Power::Suspended,
                (Some(_), false) => Power::On,
            },
            generation: vm.generation,
        };
        self.vms.values().map(state).collect()
    }

    pub(super) fn devices(&self, vm: &str) -> Result<Vec<protocol::Device>, LabError> {
        let vm = self.vm(vm)?;
        let shown = |d| super::devices::shown(d, &vm.file);
        Ok(vm.devices.iter().map(shown).collect())
    }

    pub(super) fn vm(&self, name: &str) -> Result<&Vm, LabError> {
        self.vms.get(name).ok_or_else(|| no_such_vm(name))
    }

    pub(super) fn vm_mut(&mut self, name: &str) -> Result<&mut Vm, LabError> {
        self.vms.get_mut(name).ok_or_else(|| no_such_vm(name))
    }

    /// Handles for somebody who waits for the end of any VM.
    pub(super) fn watches(&self) -> Vec<OwnedFd> {
        self.vms
            .values()
            .filter_map(|vm| vm.init.as_ref()?.watch().ok())
            .collect()
    }

    pub(super) fn power_on(&mut self, name: &str, id: InitId) -> Result<Answer, LabError> {
        let vm = self.vm_mut(name)?;
        match &vm.init {
            Some(init) if init.id == id => {
                if vm.file.suspended {
                    return Err(LabError::new(
                        LabErrorKind::Invalid,
                        format!("VM {name} is suspended"),
                    ));
                }
                self.open_all(name)?;
                self.begin(name)?;
                return Ok(Answer::PoweredOn);
            }
            Some(init) => {
                return Err(LabError::new(
                    LabErrorKind::Invalid,
                    format!("VM {name} runs already, as process {}", init.id.pid),
                ));
            }
            None => {}
        }
        let init = Init::hold(id)
            .map_err(|e| disks::io(format!("cannot take hold of process {}: {e}", id.pid)))?
            .ok_or_else(|| {
                LabError::new(
                    LabErrorKind::Invalid,
                    format!("process {} does not live or is another one", id.pid),
                )
            })?;
        vm.save_init(Some(id))
            .map_err(|e| disks::io(format!("cannot write vm.json: {e}")))?;
        vm.init = Some(init);
        // A new boot: what an earlier one lost is opened again.
        vm.devices
            .retain(|d| d.configured.cut != Some(Cut::Fencing));
        for device in &mut vm.devices {
            device.configured.cut = None;
            device.configured.parked = None;
        }
        self.settle(SETTLE);
        if let Err(refused) = self.open_all(name).and_then(|()| self.begin(name)) {
            warn!(vm = name, error = %refused, "cannot power on");
            self.end_machine(name);
            self.power_lost(name);
            return Err(refused);
        }
        info!(vm = name, pid = id.pid, "powered on");
        self.bump(Some(name));
        Ok(Answer::PoweredOn)
    }

    pub(super) fn power_off(&mut self, name: &str) -> Result<Answer, LabError> {
        let vm = self.vm_mut(name)?;
        // What is held still could not be taken down.
        vm.thaw();
        let Some(init) = &vm.init else {
            return Ok(Answer::PoweredOff);
        };
        init.kill()
            .map_err(|e| disks::io(format!("cannot kill the init of VM {name}: {e}")))?;
        match init.wait_end(KILL_LIMIT) {
            Ok(true) => {}
            Ok(false) => {
                return Err(disks::io(format!("the init of VM {name} does not end")));
            }
            Err(e) => {
                return Err(disks::io(format!(
                    "cannot wait for the end of VM {name}: {e}"
                )));
            }
        }
        info!(vm = name, "powered off");
        self.power_lost(name);
        Ok(Answer::PoweredOff)
    }

    /// The VM does not run any more: its disks close, its configuration stays.
    fn power_lost(&mut self, name: &str) {
        let Some(vm) = self.vms.get_mut(name) else {
            return;
        };
        vm.thaw();
        vm.init = None;
        // First the file: a crash between the two leaves devices that nobody's running VM names, which a start closes.
        if let Err(e) = vm.save_init(None) {
            error!(vm = name, error = %e, "cannot write that the VM is off");
        }
        let open: Vec<usize> = (0..vm.devices.len()).collect();
        for index in open {
            self.close(name, index);
        }
        self.settle(SETTLE);
        self.bump(Some(name));
    }
}

fn no_such_vm(name: &str) -> LabError {
    let shown: String = name.chars().take(80).collect();
    LabError::new(
        LabErrorKind::NoSuchVm,
        format!("there is no VM '{shown}' on this host"),
    )
}
