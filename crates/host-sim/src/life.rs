//! The lives of hosts and VMs: power, moves, crashes, snapshots, and hosts that lose their storage.

use std::time::Duration;

use tokio::time::Instant;
use vdvs_domain::{DatastoreName, HostId, VmId};
use vdvs_engine::ports::{DiskPath, DsPath, Power};

use crate::observe::{Event, Removal};
use crate::state::{Device, State};
use crate::world::World;

impl State {
    /// Tells whether a host reaches a datastore now.
    pub(crate) fn tell_reach(&self, host: HostId, ds: &DatastoreName) {
        self.tell(&Event::Reach {
            host,
            datastore: ds.clone(),
            reachable: self.reaches(host, ds),
        });
    }

    /// A disk of a VM stands in the way of its going on: locked elsewhere, out of reach, or gone.
    fn keeps_off(&self, vm: &VmId, now: Instant) -> bool {
        let Some(found) = self.vm(vm) else {
            return true;
        };
        found.devices.iter().any(|d| {
            !self.reaches(found.host, &d.disk.datastore)
                || !self.has_disk(&d.disk)
                || self.refusal(&d.disk, vm, d.read_only, now).is_some()
        })
    }

    fn has_disk(&self, disk: &DiskPath) -> bool {
        let ds = self.datastores.get(&disk.datastore);
        ds.is_some_and(|ds| ds.disks.contains_key(disk.path.as_str()))
    }

    fn set_power(&mut self, vm: &VmId, power: Power) {
        let Some(found) = self.vm_mut(vm) else { return };
        let before = found.power;
        found.power = power;
        found.busy.clear();
        for device in &mut found.devices {
            // Going on opens them anew.
            device.dead &= power != Power::On || before == Power::On;
        }
        let (host, home, name) = (found.host, found.home.clone(), found.name.clone());
        let disks = found.devices.iter().filter(|d| !d.dead);
        let disks = disks.map(|d| (d.disk.clone(), d.read_only)).collect();
        if let Some(ds) = self.datastores.get_mut(&home) {
            ds.files
                .insert(format!("{name}/{name}.vmx"), config(&name, power));
        }
        self.bump(host);
        let vm = vm.clone();
        self.tell(&Event::Power { vm, power, disks });
    }

    fn move_to(&mut self, vm: &VmId, to: HostId) {
        let Some(found) = self.vm_mut(vm) else { return };
        let from = found.host;
        found.host = to;
        self.bump(from);
        self.bump(to);
        let vm = vm.clone();
        self.tell(&Event::Moved { vm, from, to });
    }

    fn leave_behind(&mut self, vm: &VmId, host: HostId) {
        let Some(devices) = self.vm(vm).map(|v| v.devices.clone()) else {
            return;
        };
        if let Some(host) = self.hosts.get_mut(&host) {
            host.ghosts.insert(vm.clone(), devices);
        }
        self.bump(host);
    }
}

impl World {
    /// Changes a VM's power. Going on opens its disks; a disk that is locked elsewhere, out of its host's reach or
    /// gone keeps it off: `false`.
    pub fn power(&self, vm: &VmId, power: Power) -> bool {
        let mut state = self.state();
        if state.vm(vm).is_none() || power == Power::On && state.keeps_off(vm, Instant::now()) {
            return false;
        }
        state.set_power(vm, power);
        true
    }

    /// What a VM's power is.
    #[must_use]
    pub fn power_of(&self, vm: &VmId) -> Option<Power> {
        self.state().vm(vm).map(|v| v.power)
    }

    /// The host a VM is registered on.
    #[must_use]
    pub fn host_of(&self, vm: &VmId) -> Option<HostId> {
        self.state().vm(vm).map(|v| v.host)
    }

    /// Registers a VM on another host, as vMotion or HA does.
    pub fn register(&self, vm: &VmId, host: HostId) {
        self.state().move_to(vm, host);
    }

    /// vSphere HA starts a VM on another host, because its own does not answer. It need not be dead: while that host
    /// holds the locks on the VM's own files, or they did not lapse yet, nothing happens. Otherwise the VM is
    /// registered on `to`, and stays registered on its old host too, off. Whether it runs on `to` now; if a disk keeps
    /// it off, it may be started later.
    pub fn restart_elsewhere(&self, vm: &VmId, to: HostId) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let Some(found) = state.vm(vm) else {
            return false;
        };
        let (from, home) = (found.host, found.home.clone());
        let runs = found.power == Power::On && !state.has_lapsed(from, &home, now);
        let locked = found.locked_until.is_some_and(|until| until > now);
        if from == to || runs || locked || !state.reaches(to, &home) {
            return false;
        }
        if found.power == Power::On {
            // What still runs there has lost its files; nothing of it reaches a disk any more.
            state.set_power(vm, Power::Off);
        }
        state.leave_behind(vm, from);
        state.move_to(vm, to);
        if state.keeps_off(vm, now) {
            return false;
        }
        state.set_power(vm, Power::On);
        true
    }

    /// Deletes a VM: no host knows it any more, and nothing of it holds a disk.
    pub fn delete_vm(&self, vm: &VmId) {
        let mut state = self.state();
        let host = state.vm(vm).map(|v| v.host);
        state.vms.retain(|v| v.id != *vm);
        host.into_iter().for_each(|h| state.bump(h));
        state.tell(&Event::Deleted { vm: vm.clone() });
    }

    /// A VM that runs elsewhere is still registered on `host` too, off, with the disks it has now: what a host finds
    /// when it comes back after its VMs were started elsewhere.
    pub fn leave_registered(&self, vm: &VmId, host: HostId) {
        self.state().leave_behind(vm, host);
    }

    /// Makes a VM's snapshot: its configuration as it is. Disks of volumes are independent, so their content is not
    /// part of it, and neither is the VM's memory.
    pub fn snapshot(&self, vm: &VmId) {
        if let Some(found) = self.state().vm_mut(vm) {
            found.snapshot = Some(found.devices.clone());
        }
    }

    /// A VM goes back to its snapshot: it is off, with the disks in its configuration that it had then, whoever they
    /// belong to by now. `false`: it has no snapshot.
    pub fn revert(&self, vm: &VmId) -> bool {
        let mut state = self.state();
        let snapshot = state.vm(vm).and_then(|v| v.snapshot.clone());
        let Some(devices) = snapshot else {
            return false;
        };
        state.set_power(vm, Power::Off);
        let Some(found) = state.vm_mut(vm) else {
            return false;
        };
        let has = |all: &[Device], disk: &DiskPath| all.iter().any(|d| d.disk == *disk);
        let gone = found.devices.iter().filter(|d| !has(&devices, &d.disk));
        let gone: Vec<_> = gone.map(|d| d.disk.clone()).collect();
        let disks = devices.iter().map(|d| d.disk.clone()).collect();
        found.devices = devices;
        let host = found.host;
        state.bump(host);
        for disk in gone {
            state.tell(&Event::Removed {
                vm: vm.clone(),
                disk,
                how: Removal::Elsewhere,
                running: false,
            });
        }
        let vm = vm.clone();
        state.tell(&Event::Reverted { vm, disks });
        true
    }

    /// A disk moves to another path of its datastore, as in a storage vMotion of the VM that has it: configurations
    /// that name it name it by its new path. `false`: there is no such disk, or the new path is taken.
    pub fn rename_disk(&self, disk: &DiskPath, path: &DsPath) -> bool {
        let mut state = self.state();
        let Some(ds) = state.datastores.get_mut(&disk.datastore) else {
            return false;
        };
        if ds.exists(path.as_str()) {
            return false;
        }
        let Some(found) = ds.disks.remove(disk.path.as_str()) else {
            return false;
        };
        if let Some((dir, _)) = path.as_str().rsplit_once('/') {
            ds.make_dirs(dir);
        }
        ds.disks.insert(path.as_str().to_owned(), found);
        let to = DiskPath {
            datastore: disk.datastore.clone(),
            path: path.clone(),
        };
        let devices = state.vms.iter_mut().flat_map(|v| v.devices.iter_mut());
        devices
            .filter(|d| d.disk == *disk)
            .for_each(|d| d.disk = to.clone());
        let hosts: Vec<HostId> = state.hosts.keys().copied().collect();
        hosts.into_iter().for_each(|h| state.bump(h));
        let from = disk.clone();
        state.tell(&Event::Renamed { from, to });
        true
    }

    /// Locks of a VM's disks stay for a while after it is gone, as after a host crash.
    pub fn linger_locks(&self, vm: &VmId, how_long: Duration) {
        let mut state = self.state();
        let until = Instant::now()
            .checked_add(how_long)
            .unwrap_or_else(Instant::now);
        let Some(found) = state.vm_mut(vm) else {
            return;
        };
        found.locked_until = Some(until);
        let (name, devices) = (found.name.clone(), found.devices.clone());
        for device in devices {
            state.lingering.insert(device.disk, (name.clone(), until));
        }
    }

    /// How long locks last after their host died or was cut off.
    pub fn set_lapse(&self, lapse: Duration) {
        self.state().lapse = lapse;
    }

    /// A host loses power with its running VMs; their locks stay until they lapse, and what it had not yet done is not
    /// done. Its agent is the caller's to crash.
    pub fn crash_host(&self, host: HostId) {
        let (running, lapse): (Vec<VmId>, _) = {
            let mut state = self.state();
            state.late.retain(|(_, change)| change.host != host);
            let here = state.vms.iter().filter(|v| v.host == host);
            let running = here.filter(|v| v.power == Power::On);
            (running.map(|v| v.id.clone()).collect(), state.lapse)
        };
        for vm in running {
            self.linger_locks(&vm, lapse);
            self.power(&vm, Power::Off);
        }
    }

    /// Cuts a host off from all datastores, or connects it again. Its VMs run on; after the lapse their locks are gone
    /// and their disks dead, also when it is connected again.
    pub fn cut_off(&self, host: HostId, cut: bool) {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(found) = state.hosts.get_mut(&host) {
            found.cut_off = match (cut, found.cut_off) {
                (true, since) => since.or(Some(now)),
                (false, _) => None,
            };
        }
        state.bump(host);
        let all: Vec<_> = state.datastores.keys().cloned().collect();
        all.iter().for_each(|ds| state.tell_reach(host, ds));
    }

    /// The same for one datastore. Unlike [`World::reach`] it also ends the locks there after the lapse.
    pub fn cut_off_from(&self, host: HostId, ds: &DatastoreName, cut: bool) {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(found) = state.hosts.get_mut(&host) {
            if cut {
                found.cut_from.entry(ds.clone()).or_insert(now);
            } else {
                found.cut_from.remove(ds);
            }
        }
        state.bump(host);
        state.tell_reach(host, ds);
    }

    /// A host's wall clock jumps, forwards or back.
    pub fn jump_clock(&self, host: HostId, millis: i64) {
        if let Some(host) = self.state().hosts.get_mut(&host) {
            host.clock_off = host.clock_off.saturating_add(millis);
        }
    }

    /// Others fill a datastore but for so many bytes; `None`: they take nothing of it.
    pub fn fill(&self, ds: &DatastoreName, but: Option<u64>) {
        if let Some(ds) = self.state().datastores.get_mut(ds) {
            ds.ballast = 0;
            let room = ds.capacity.saturating_sub(ds.used());
            ds.ballast = but.map_or(0, |but| room.saturating_sub(but));
        }
    }
}

/// A VM's configuration file, as far as anybody reads it.
pub(crate) fn config(name: &str, power: Power) -> Vec<u8> {
    let saved = match power {
        Power::Suspended => format!("{name}.vmss"),
        Power::On | Power::Off => String::new(),
    };
    format!("displayName = \"{name}\"\ncheckpoint.vmState = \"{saved}\"\n").into_bytes()
}
