//! The world as tests and people arrange it and look at it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::{DatastoreName, HostId, VmId};
use vdvs_engine::ports::{AuditEntry, DatastoreKind, DiskPath, Power, VmDisk};

use crate::bell::Bell;
use crate::life::config;
use crate::observe::{Event, Removal};
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.catch_up(Instant::now());
        state
    }

    pub(crate) const fn begun(&self) -> Instant {
        self.begun
    }

    /// Calls `watcher` at everything that happens to disks and VMs from now on. It must not call the world.
    pub fn observe(&self, watcher: impl Fn(Instant, &Event) + Send + Sync + 'static) {
        self.state().observers.add(Arc::new(watcher));
    }

    /// All datastores.
    #[must_use]
    pub fn datastores(&self) -> Vec<DatastoreName> {
        self.state().datastores.keys().cloned().collect()
    }

    /// All VMs, in the order in which they were made.
    #[must_use]
    pub fn vms(&self) -> Vec<VmId> {
        self.state().vms.iter().map(|v| v.id.clone()).collect()
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
                ballast: 0,
                happened: Vec::new(),
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
                changes: Bell::default(),
                unreachable: Default::default(),
                hanging: Default::default(),
                ghosts: BTreeMap::new(),
                cut_off: None,
                cut_from: BTreeMap::new(),
                clock_off: 0,
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
            snapshot: None,
            locked_until: None,
        });
        state.bump(host);
        id
    }

    /// A new agent process on `host`.
    #[must_use]
    pub fn session(&self, host: HostId) -> Arc<Session> {
        Session::new(self.clone(), host)
    }

    /// Whether `host` reaches a datastore.
    pub fn reach(&self, host: HostId, ds: &DatastoreName, reachable: bool) {
        let mut state = self.state();
        if let Some(found) = state.hosts.get_mut(&host) {
            if reachable {
                found.unreachable.remove(ds);
            } else {
                found.unreachable.insert(ds.clone());
            }
        }
        state.tell_reach(host, ds);
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
            let before = found.devices.len();
            found.devices.retain(|d| d.disk != *disk);
            let removed = found.devices.len() < before;
            let (host, running) = (found.host, found.power != Power::Off);
            state.bump(host);
            if removed {
                state.tell(&Event::Removed {
                    vm: vm.clone(),
                    disk: disk.clone(),
                    how: Removal::Elsewhere,
                    running,
                });
            }
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
            found.bytes.content = content;
        }
    }

    /// What a complete disk holds.
    #[must_use]
    pub fn read_disk(&self, disk: &DiskPath) -> Option<u64> {
        let state = self.state();
        let found = state.datastores.get(&disk.datastore)?;
        let found = found.disks.get(disk.path.as_str())?;
        found.complete.then_some(found.bytes.content)
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
