//! What exists in the world, and the hands that change it from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;
use vdvs_domain::{Capacity, DatastoreName, HostId, VmId};
use vdvs_engine::ports::{DatastoreKind, DiskLock, DiskPath, DsPath, Power, StorageError};

use crate::faults::{CallKind, Fault, Faults};

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) capacity: Capacity,
    pub(crate) allocated: u64,
}

#[derive(Debug)]
pub(crate) struct Datastore {
    pub(crate) kind: DatastoreKind,
    pub(crate) capacity: u64,
    pub(crate) unreachable_from: BTreeSet<HostId>,
    pub(crate) dirs: BTreeSet<String>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) disks: BTreeMap<String, Disk>,
}

impl Datastore {
    pub(crate) fn used(&self) -> u64 {
        self.disks.values().map(|d| d.allocated).sum()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) disk: DiskPath,
    pub(crate) read_only: bool,
    pub(crate) unit: u32,
}

#[derive(Debug)]
pub(crate) struct VmState {
    pub(crate) name: String,
    pub(crate) host: HostId,
    pub(crate) power: Power,
    pub(crate) home: DatastoreName,
    pub(crate) devices: Vec<Device>,
    /// Disks a guest has mounted or opened.
    pub(crate) in_use: BTreeSet<DiskPath>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) hosts: BTreeMap<String, HostId>,
    pub(crate) datastores: BTreeMap<DatastoreName, Datastore>,
    pub(crate) vms: BTreeMap<VmId, VmState>,
    pub(crate) lock_unknown: BTreeSet<DiskPath>,
    pub(crate) generation: u64,
}

impl State {
    /// Who has a disk open, apart from `except`. A suspended VM keeps its disks open; a powered-off one does not.
    pub(crate) fn openers(&self, disk: &DiskPath, except: Option<&VmId>) -> Vec<(String, bool)> {
        self.vms
            .iter()
            .filter(|(id, vm)| Some(*id) != except && vm.power != Power::Off)
            .flat_map(|(_, vm)| vm.devices.iter().map(move |d| (vm, d)))
            .filter(|(_, d)| d.disk == *disk)
            .map(|(vm, d)| (vm.name.clone(), d.read_only))
            .collect()
    }

    /// The opener that keeps a disk from being opened in this mode.
    pub(crate) fn blocker(
        &self,
        disk: &DiskPath,
        read_only: bool,
        except: Option<&VmId>,
    ) -> Option<String> {
        self.openers(disk, except)
            .into_iter()
            .find(|(_, theirs)| !(read_only && *theirs))
            .map(|(name, _)| name)
    }

    /// The datastore as a host sees it.
    pub(crate) fn datastore(
        &mut self,
        host: HostId,
        name: &DatastoreName,
    ) -> Result<&mut Datastore, StorageError> {
        let ds = self
            .datastores
            .get_mut(name)
            .ok_or_else(|| StorageError::NotFound(format!("datastore {name}")))?;
        if ds.unreachable_from.contains(&host) {
            return Err(StorageError::Io(format!(
                "datastore {name} does not answer"
            )));
        }
        Ok(ds)
    }
}

/// The world.
#[derive(Debug, Default)]
pub struct World {
    state: Mutex<State>,
    changed: Notify,
    faults: Faults,
    identities: AtomicU64,
}

impl World {
    /// An empty world whose identities grow from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        let world = Self::default();
        world.identities.store(seed, Ordering::Relaxed);
        Arc::new(world)
    }

    /// What goes wrong in it.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Adds a datastore of `capacity` bytes that every host reaches.
    pub fn add_datastore(&self, name: &DatastoreName, kind: DatastoreKind, capacity: u64) {
        let fresh = Datastore {
            kind,
            capacity,
            unreachable_from: BTreeSet::new(),
            dirs: BTreeSet::new(),
            files: BTreeMap::new(),
            disks: BTreeMap::new(),
        };
        self.lock().datastores.entry(name.clone()).or_insert(fresh);
    }

    /// Adds a host, or finds it by its name.
    pub fn add_host(&self, name: &str) -> HostId {
        let fresh = HostId::new(self.identity());
        *self.lock().hosts.entry(name.to_owned()).or_insert(fresh)
    }

    /// Registers a running VM on a host; its configuration file lies on `home`.
    pub fn add_vm(&self, host: &str, name: &str, home: &DatastoreName) -> VmId {
        let instance_uuid = self.identity();
        self.add_vm_with(host, name, home, instance_uuid)
    }

    /// The same with a given instance UUID, which a copied VM may share with its original.
    pub fn add_vm_with(
        &self,
        host: &str,
        name: &str,
        home: &DatastoreName,
        instance_uuid: Uuid,
    ) -> VmId {
        let host = self.add_host(host);
        let id = VmId {
            instance_uuid,
            config_path: format!("[{home}] {name}/{name}.vmx"),
        };
        let vm = VmState {
            name: name.to_owned(),
            host,
            power: Power::On,
            home: home.clone(),
            devices: Vec::new(),
            in_use: BTreeSet::new(),
        };
        self.change(|state| state.vms.insert(id.clone(), vm));
        id
    }

    /// Cuts a VM's power: its disks are closed, its configuration stays.
    pub fn power_off(&self, vm: &VmId) {
        self.with_vm(vm, |vm| {
            vm.power = Power::Off;
            vm.in_use.clear();
        });
    }

    /// Suspends a VM: it does not run, its disks stay open.
    pub fn suspend(&self, vm: &VmId) {
        self.with_vm(vm, |vm| vm.power = Power::Suspended);
    }

    /// Powers a VM on, opening the disks of its configuration. False: one is locked elsewhere, the VM stays off.
    pub fn power_on(&self, vm: &VmId) -> bool {
        self.change(|state| {
            let devices = state
                .vms
                .get(vm)
                .map(|v| v.devices.clone())
                .unwrap_or_default();
            let blocked = devices
                .iter()
                .any(|d| state.blocker(&d.disk, d.read_only, Some(vm)).is_some());
            match state.vms.get_mut(vm) {
                Some(vm) if !blocked => {
                    vm.power = Power::On;
                    true
                }
                _ => false,
            }
        })
    }

    /// Takes a VM out of the inventory of its host without a trace, as an unregister or a lost host would.
    pub fn forget_vm(&self, vm: &VmId) {
        self.change(|state| state.vms.remove(vm));
    }

    /// Moves a VM to another host, as vMotion does.
    pub fn move_vm(&self, vm: &VmId, host: &str) {
        let host = self.add_host(host);
        self.with_vm(vm, |vm| vm.host = host);
    }

    /// The guest mounts or releases a disk it has.
    pub fn guest_uses(&self, vm: &VmId, disk: &DiskPath, uses: bool) {
        self.with_vm(vm, |vm| {
            if uses {
                vm.in_use.insert(disk.clone());
            } else {
                vm.in_use.remove(disk);
            }
        });
    }

    /// Makes a datastore reachable or unreachable from a host.
    pub fn set_accessible(&self, host: &str, ds: &DatastoreName, accessible: bool) {
        let host = self.add_host(host);
        self.change(|state| {
            if let Some(ds) = state.datastores.get_mut(ds) {
                if accessible {
                    ds.unreachable_from.remove(&host);
                } else {
                    ds.unreachable_from.insert(host);
                }
            }
        });
    }

    /// Makes the lock of a disk unknowable, or knowable again.
    pub fn set_lock_unknown(&self, disk: &DiskPath, unknown: bool) {
        let mut state = self.lock();
        if unknown {
            state.lock_unknown.insert(disk.clone());
        } else {
            state.lock_unknown.remove(disk);
        }
    }

    /// Removes a file behind everybody's back.
    pub fn lose_file(&self, ds: &DatastoreName, file: &str) -> bool {
        self.lock()
            .datastores
            .get_mut(ds)
            .is_some_and(|ds| ds.files.remove(file).is_some())
    }

    /// Puts a file behind everybody's back.
    pub fn plant_file(&self, ds: &DatastoreName, file: &str, bytes: &[u8]) {
        if let Some(ds) = self.lock().datastores.get_mut(ds) {
            if let Some((dir, _)) = file.rsplit_once('/') {
                let parents = dir.match_indices('/').filter_map(|(at, _)| dir.get(..at));
                let dirs: Vec<String> = parents.chain([dir]).map(str::to_owned).collect();
                ds.dirs.extend(dirs);
            }
            ds.files.insert(file.to_owned(), bytes.to_vec());
        }
    }

    /// Paths of all small files of a datastore, sorted.
    #[must_use]
    pub fn files(&self, ds: &DatastoreName) -> Vec<String> {
        let state = self.lock();
        state
            .datastores
            .get(ds)
            .map(|ds| ds.files.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Paths of all disks of a datastore, sorted.
    #[must_use]
    pub fn disks(&self, ds: &DatastoreName) -> Vec<String> {
        let state = self.lock();
        state
            .datastores
            .get(ds)
            .map(|ds| ds.disks.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The disks in a VM's configuration.
    #[must_use]
    pub fn devices(&self, vm: &VmId) -> Vec<DiskPath> {
        let state = self.lock();
        let vm = state.vms.get(vm);
        vm.map(|vm| vm.devices.iter().map(|d| d.disk.clone()).collect())
            .unwrap_or_default()
    }

    /// Names of the VMs that can write a disk now. More than one would break promise P1.
    #[must_use]
    pub fn writers(&self, disk: &DiskPath) -> Vec<String> {
        let openers = self.lock().openers(disk, None);
        openers
            .into_iter()
            .filter(|(_, read_only)| !read_only)
            .map(|(name, _)| name)
            .collect()
    }

    /// Every disk some VM's configuration names.
    #[must_use]
    pub fn configured_disks(&self) -> Vec<(VmId, DiskPath)> {
        let state = self.lock();
        let devices = |(id, vm): (&VmId, &VmState)| {
            let id = id.clone();
            vm.devices
                .iter()
                .map(move |d| (id.clone(), d.disk.clone()))
                .collect::<Vec<_>>()
        };
        state.vms.iter().flat_map(devices).collect()
    }

    /// A path of a disk, for tests.
    ///
    /// # Panics
    /// `path` is not a path below a datastore.
    #[must_use]
    pub fn disk(ds: &DatastoreName, path: &str) -> DiskPath {
        let path = DsPath::new(path).expect("the test names a path below a datastore");
        DiskPath {
            datastore: ds.clone(),
            path,
        }
    }

    pub(crate) fn lock_of(&self, disk: &DiskPath) -> DiskLock {
        let state = self.lock();
        if state.lock_unknown.contains(disk) {
            return DiskLock::Unknown {
                why: "the host has no way to tell".to_owned(),
            };
        }
        match state.openers(disk, None).into_iter().next() {
            Some((by, _)) => DiskLock::Held { by },
            None => DiskLock::Free,
        }
    }

    /// A fresh number, mixed so that every digit looks random (splitmix64) and still depends on the seed alone.
    pub(crate) fn identity(&self) -> Uuid {
        let n = self.identities.fetch_add(1, Ordering::Relaxed);
        let mix = |salt: u64| {
            let mut z = n.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Uuid::from_u64_pair(mix(1), mix(2))
    }

    pub(crate) async fn wait_changed(&self, since: u64) -> u64 {
        loop {
            let next = self.changed.notified();
            let generation = self.lock().generation;
            if generation > since {
                return generation;
            }
            next.await;
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// A port call: counted, delayed, failed, lost or crashed as the plan says.
    pub(crate) async fn call<T, E>(
        &self,
        kind: CallKind,
        refused: impl FnOnce(&'static str, bool) -> E,
        effect: impl FnOnce(&mut State, bool) -> Result<T, E>,
    ) -> Result<T, E> {
        let fault = self.faults.enter(kind).await;
        match fault {
            Some(Fault::Fail) => return Err(refused("planned failure", false)),
            Some(Fault::LostRequest) => return Err(refused("request lost", true)),
            Some(Fault::CrashBefore) => return self.faults.crash().await,
            Some(Fault::Torn) if kind != CallKind::Write => return self.faults.crash().await,
            _ => {}
        }
        let result = effect(&mut self.lock(), fault == Some(Fault::Torn));
        if matches!(kind, CallKind::HostAttach | CallKind::HostDetach) && result.is_ok() {
            self.change(|_| ());
        }
        match fault {
            Some(Fault::LostReply) => Err(refused("reply lost", true)),
            Some(Fault::CrashAfter | Fault::Torn) => self.faults.crash().await,
            _ => result,
        }
    }

    fn with_vm(&self, id: &VmId, change: impl FnOnce(&mut VmState)) {
        self.change(|state| {
            if let Some(vm) = state.vms.get_mut(id) {
                change(vm);
            }
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.lock();
            state.generation += 1;
            change(&mut state)
        };
        self.changed.notify_waiters();
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
