//! The world as tests and people arrange it and look at it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::{DatastoreName, HostId, VmId};
use vdvs_engine::ports::{AuditEntry, DatastoreKind, DiskPath, Power, VmDisk};

use crate::session::Session;
use crate::state::{Datastore, HostState, State, VmState, extent_of};

/// Hosts that contribute storage to a vSAN, until somebody says otherwise.
const STORAGE_HOSTS: u32 = 3;
/// Size of a simulated datastore.
const DATASTORE_BYTES: u64 = 10 << 40;
/// How often held-up work looks whether it may go on.
pub(crate) const WORK_STEP: Duration = Duration::from_millis(10);

/// Everything that survives an agent.
#[derive(Debug, Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    begun: Instant,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            begun: Instant::now(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn begun(&self) -> Instant {
        self.begun
    }

    /// A datastore of all hosts.
    pub fn add_datastore(&self, name: &DatastoreName, kind: DatastoreKind) {
        self.state().datastores.insert(
            name.clone(),
            Datastore {
                kind,
                storage_hosts: STORAGE_HOSTS,
                stubborn: BTreeSet::new(),
                capacity: DATASTORE_BYTES,
                dirs: [String::new()].into(),
                files: BTreeMap::new(),
                disks: BTreeMap::new(),
            },
        );
    }

    /// So many hosts contribute storage to a vSAN: what decides which policies it can satisfy.
    pub fn set_storage_hosts(&self, name: &DatastoreName, hosts: u32) {
        if let Some(ds) = self.state().datastores.get_mut(name) {
            ds.storage_hosts = hosts;
        }
    }

    /// A disk takes no policy any more, or does again.
    pub fn refuse_policies(&self, disk: &DiskPath, refuse: bool) {
        if let Some(ds) = self.state().datastores.get_mut(&disk.datastore) {
            let path = disk.path.as_str().to_owned();
            match refuse {
                true => drop(ds.stubborn.insert(path)),
                false => drop(ds.stubborn.remove(&path)),
            }
        }
    }

    /// The policy a disk was given.
    #[must_use]
    pub fn policy_of(&self, disk: &DiskPath) -> Option<String> {
        let state = self.state();
        let disks = &state.datastores.get(&disk.datastore)?.disks;
        let policy = disks.get(disk.path.as_str())?.policy.as_ref()?;
        Some(policy.to_string())
    }

    /// A host.
    #[must_use]
    pub fn add_host(&self, name: &str) -> HostId {
        let mut state = self.state();
        let number = u128::try_from(state.hosts.len()).unwrap_or(0) + 1;
        let id = HostId::new(Uuid::from_u128((0x0051_u128 << 112) | number));
        state.hosts.insert(
            id,
            HostState {
                name: name.to_owned(),
                generation: watch::channel(1).0,
                unreachable: Default::default(),
                hanging: Default::default(),
                ghosts: BTreeMap::new(),
                cut_off: None,
                kept: BTreeMap::new(),
                deleted: HashMap::new(),
                audit: Vec::new(),
            },
        );
        id
    }

    /// A running VM on `host`, its configuration file on `home`.
    #[must_use]
    pub fn add_vm(&self, host: HostId, name: &str, home: &DatastoreName) -> VmId {
        let number = u128::try_from(self.state().vms.len()).unwrap_or(0) + 1;
        self.add_vm_with_uuid(
            host,
            name,
            home,
            Uuid::from_u128((0x5711_u128 << 112) | number),
        )
    }

    /// The same with a given instance UUID, to make twins.
    #[must_use]
    pub fn add_vm_with_uuid(
        &self,
        host: HostId,
        name: &str,
        home: &DatastoreName,
        uuid: Uuid,
    ) -> VmId {
        let id = VmId {
            instance_uuid: uuid,
            config_path: format!("[{home}] {name}/{name}.vmx"),
        };
        let mut state = self.state();
        if let Some(ds) = state.datastores.get_mut(home) {
            ds.make_dirs(name);
            ds.files
                .insert(format!("{name}/{name}.vmx"), config(name, Power::On));
        }
        state.vms.push(VmState {
            id: id.clone(),
            name: name.to_owned(),
            host,
            power: Power::On,
            home: home.clone(),
            devices: Vec::new(),
            busy: Default::default(),
        });
        state.bump(host);
        id
    }

    /// A new agent process on `host`.
    #[must_use]
    pub fn session(&self, host: HostId) -> Arc<Session> {
        Session::new(self.clone(), host)
    }

    /// Changes a VM's power. Going on opens its disks; a disk that is locked elsewhere keeps it off: `false`.
    pub fn power(&self, vm: &VmId, power: Power) -> bool {
        let mut state = self.state();
        let now = Instant::now();
        let Some(found) = state.vm(vm) else {
            return false;
        };
        let (host, home, name) = (found.host, found.home.clone(), found.name.clone());
        let refused = power == Power::On
            && found
                .devices
                .iter()
                .any(|d| state.refusal(&d.disk, vm, d.read_only, now).is_some());
        if refused {
            return false;
        }
        if let Some(found) = state.vm_mut(vm) {
            found.power = power;
            found.busy.clear();
            for device in &mut found.devices {
                // Going on opens them anew.
                device.dead &= power != Power::On;
            }
        }
        if let Some(ds) = state.datastores.get_mut(&home) {
            ds.files
                .insert(format!("{name}/{name}.vmx"), config(&name, power));
        }
        state.bump(host);
        true
    }

    /// Registers a VM on another host, as vMotion or HA does.
    pub fn register(&self, vm: &VmId, host: HostId) {
        let mut state = self.state();
        let from = state.vm(vm).map(|v| v.host);
        if let Some(found) = state.vm_mut(vm) {
            found.host = host;
        }
        from.into_iter().chain([host]).for_each(|h| state.bump(h));
    }

    /// Deletes a VM: no host knows it any more, and nothing of it holds a disk.
    pub fn delete_vm(&self, vm: &VmId) {
        let mut state = self.state();
        let host = state.vm(vm).map(|v| v.host);
        state.vms.retain(|v| v.id != *vm);
        host.into_iter().for_each(|h| state.bump(h));
    }

    /// A VM that runs elsewhere is still registered on `host` too, off, with the disks it has now: what a host finds
    /// when it comes back after its VMs were started elsewhere.
    pub fn leave_registered(&self, vm: &VmId, host: HostId) {
        let mut state = self.state();
        let Some(found) = state.vm(vm) else { return };
        let devices = found.devices.clone();
        if let Some(host) = state.hosts.get_mut(&host) {
            host.ghosts.insert(vm.clone(), devices);
        }
        state.bump(host);
    }

    /// Locks of a VM's disks stay for a while after it is gone, as after a host crash.
    pub fn linger_locks(&self, vm: &VmId, how_long: Duration) {
        let mut state = self.state();
        let until = Instant::now()
            .checked_add(how_long)
            .unwrap_or_else(Instant::now);
        let Some(found) = state.vm(vm) else { return };
        let (name, devices) = (found.name.clone(), found.devices.clone());
        for device in devices {
            state.lingering.insert(device.disk, (name.clone(), until));
        }
    }

    /// How long locks last after their host died or was cut off.
    pub fn set_lapse(&self, lapse: Duration) {
        self.state().lapse = lapse;
    }

    /// A host loses power with its running VMs; their locks stay until they lapse. Its agent is the caller's to crash.
    pub fn crash_host(&self, host: HostId) {
        let running: Vec<VmId> = {
            let state = self.state();
            let here = state.vms.iter().filter(|v| v.host == host);
            let running = here.filter(|v| v.power == Power::On);
            running.map(|v| v.id.clone()).collect()
        };
        let lapse = self.state().lapse;
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
        let lapsed = state.has_lapsed(host, now);
        if let Some(found) = state.hosts.get_mut(&host) {
            found.cut_off = match (cut, found.cut_off) {
                (true, None) => Some(now),
                (true, since) => since,
                (false, _) => None,
            };
        }
        if lapsed && !cut {
            let here = state.vms.iter_mut().filter(|v| v.host == host);
            here.flat_map(|v| v.devices.iter_mut())
                .for_each(|d| d.dead = true);
        }
        state.bump(host);
    }

    /// Whether `host` reaches a datastore.
    pub fn reach(&self, host: HostId, ds: &DatastoreName, reachable: bool) {
        if let Some(host) = self.state().hosts.get_mut(&host) {
            if reachable {
                host.unreachable.remove(ds);
            } else {
                host.unreachable.insert(ds.clone());
            }
        }
    }

    /// Makes every call to a datastore hang on `host`, while it still counts as accessible.
    pub fn hang(&self, host: HostId, ds: &DatastoreName, hangs: bool) {
        if let Some(host) = self.state().hosts.get_mut(&host) {
            if hangs {
                host.hanging.insert(ds.clone());
            } else {
                host.hanging.remove(ds);
            }
        }
    }

    /// Makes every answer about locks *unknown*.
    pub fn hide_locks(&self, hidden: bool) {
        self.state().lock_unknown = hidden;
    }

    /// The guest uses a disk, or lets it go.
    pub fn use_disk(&self, vm: &VmId, disk: &DiskPath, used: bool) {
        if let Some(vm) = self.state().vm_mut(vm) {
            if used {
                vm.busy.insert(disk.clone());
            } else {
                vm.busy.remove(disk);
            }
        }
    }

    /// The disks in a VM's configuration.
    #[must_use]
    pub fn devices(&self, vm: &VmId) -> Vec<VmDisk> {
        self.state().vm(vm).map(VmState::disks).unwrap_or_default()
    }

    /// Takes a disk out of a VM behind the agent's back.
    pub fn pull_disk(&self, vm: &VmId, disk: &DiskPath) {
        let mut state = self.state();
        if let Some(found) = state.vm_mut(vm) {
            found.devices.retain(|d| d.disk != *disk);
            let host = found.host;
            state.bump(host);
        }
    }

    /// Long work (making and cloning disks) stands still at so many hundredths, or goes on.
    pub fn hold_work(&self, percent: Option<u64>) {
        self.state().slow_work = percent;
    }

    pub(crate) fn slow_work(&self) -> Option<u64> {
        self.state().slow_work
    }

    /// Writes to a disk; `content` stands for its bytes.
    pub fn write_disk(&self, disk: &DiskPath, content: u64) {
        let mut state = self.state();
        let found = state.datastores.get_mut(&disk.datastore);
        if let Some(found) = found.and_then(|ds| ds.disks.get_mut(disk.path.as_str())) {
            found.content = content;
        }
    }

    /// What a complete disk holds.
    #[must_use]
    pub fn read_disk(&self, disk: &DiskPath) -> Option<u64> {
        let state = self.state();
        let found = state.datastores.get(&disk.datastore)?;
        let found = found.disks.get(disk.path.as_str())?;
        found.complete.then_some(found.content)
    }

    /// Names of the running VMs that can write a disk. More than one breaks the first promise.
    #[must_use]
    pub fn writers(&self, disk: &DiskPath) -> Vec<String> {
        let state = self.state();
        let writers = state
            .openers(disk, Instant::now())
            .into_iter()
            .filter(|(_, read_only)| !read_only);
        writers.map(|(vm, _)| vm.name.clone()).collect()
    }

    /// Every file on a datastore, sorted; disks also by their extents.
    #[must_use]
    pub fn files(&self, ds: &DatastoreName) -> Vec<String> {
        let state = self.state();
        let Some(ds) = state.datastores.get(ds) else {
            return Vec::new();
        };
        let disks = ds.disks.iter().flat_map(|(path, disk)| {
            let extent = extent_of(path);
            disk.complete
                .then(|| path.clone())
                .into_iter()
                .chain([extent])
        });
        let mut all: Vec<_> = ds.files.keys().cloned().chain(disks).collect();
        all.sort();
        all
    }

    /// Puts a file on a datastore behind everybody's back.
    pub fn put_file(&self, ds: &DatastoreName, path: &str, bytes: &[u8]) {
        if let Some(ds) = self.state().datastores.get_mut(ds) {
            if let Some((dir, _)) = path.rsplit_once('/') {
                ds.make_dirs(dir);
            }
            ds.files.insert(path.to_owned(), bytes.to_vec());
        }
    }

    /// A file of a datastore is gone behind everybody's back.
    pub fn lose_file(&self, ds: &DatastoreName, path: &str) {
        if let Some(ds) = self.state().datastores.get_mut(ds) {
            ds.files.remove(path);
        }
    }

    /// A host's own store is empty, as after a reboot that forgets it.
    pub fn forget_store(&self, host: HostId) {
        if let Some(host) = self.state().hosts.get_mut(&host) {
            host.kept.clear();
            host.deleted.clear();
            host.audit.clear();
        }
    }

    /// The bytes of a file.
    #[must_use]
    pub fn file(&self, ds: &DatastoreName, path: &str) -> Option<Vec<u8>> {
        self.state().datastores.get(ds)?.files.get(path).cloned()
    }

    /// The audit of a host.
    #[must_use]
    pub fn audit(&self, host: HostId) -> Vec<AuditEntry> {
        self.state()
            .hosts
            .get(&host)
            .map(|h| h.audit.clone())
            .unwrap_or_default()
    }
}

fn config(name: &str, power: Power) -> Vec<u8> {
    let saved = match power {
        Power::Suspended => format!("{name}.vmss"),
        Power::On | Power::Off => String::new(),
    };
    format!("displayName = \"{name}\"\ncheckpoint.vmState = \"{saved}\"\n").into_bytes()
}
