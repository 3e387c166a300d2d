//! The state of the world.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::ownership::Locator;
use vdvs_domain::policy::PolicyExpression;
use vdvs_domain::{Capacity, DatastoreName, HostId, RequestId, VmId, VolumeId};
use vdvs_engine::ports::{
    AuditEntry, DatastoreKind, DiskLock, DiskPath, DiskSpec, DsPath, Entry, KeptConfig, Power,
    StorageError, VmDisk,
};

use crate::fault::When;

/// Disks a VM can have: four controllers with fifteen places each.
pub(crate) const MAX_DEVICES: usize = 60;

#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) capacity: Capacity,
    pub(crate) allocated: u64,
    /// Its descriptor exists.
    pub(crate) complete: bool,
    /// Stands for its bytes.
    pub(crate) content: u64,
    /// The vSAN policy it was given.
    pub(crate) policy: Option<PolicyExpression>,
}

#[derive(Debug)]
pub(crate) struct Datastore {
    pub(crate) kind: DatastoreKind,
    /// Hosts that contribute storage to it, where it is a vSAN.
    pub(crate) storage_hosts: u32,
    /// Disks that take no policy.
    pub(crate) stubborn: BTreeSet<String>,
    pub(crate) capacity: u64,
    pub(crate) dirs: BTreeSet<String>,
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) disks: BTreeMap<String, Disk>,
}

#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub(crate) disk: DiskPath,
    pub(crate) read_only: bool,
    pub(crate) unit: u8,
    /// Its lock lapsed while its host was cut off: requests of the guest fail until it is attached anew.
    pub(crate) dead: bool,
}

#[derive(Debug)]
pub(crate) struct VmState {
    pub(crate) id: VmId,
    pub(crate) name: String,
    pub(crate) host: HostId,
    pub(crate) power: Power,
    pub(crate) home: DatastoreName,
    pub(crate) devices: Vec<Device>,
    /// Disks the guest uses: a hot-remove of one is refused.
    pub(crate) busy: BTreeSet<DiskPath>,
}

#[derive(Debug)]
pub(crate) struct HostState {
    pub(crate) name: String,
    pub(crate) generation: watch::Sender<u64>,
    /// Datastores this host cannot reach now.
    pub(crate) unreachable: BTreeSet<DatastoreName>,
    /// Datastores whose calls never return on this host.
    pub(crate) hanging: BTreeSet<DatastoreName>,
    /// VMs that run elsewhere and are still registered here, off, with the disks they had.
    pub(crate) ghosts: BTreeMap<VmId, Vec<Device>>,
    /// Since when it reaches no datastore at all.
    pub(crate) cut_off: Option<Instant>,
    pub(crate) kept: BTreeMap<Uuid, KeptConfig>,
    pub(crate) deleted: HashMap<RequestId, VolumeId>,
    pub(crate) audit: Vec<AuditEntry>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) datastores: BTreeMap<DatastoreName, Datastore>,
    pub(crate) hosts: BTreeMap<HostId, HostState>,
    pub(crate) vms: Vec<VmState>,
    /// Locks that outlive their holders.
    pub(crate) lingering: BTreeMap<DiskPath, (String, Instant)>,
    /// How long the lock of a host lasts that cannot renew it any more.
    pub(crate) lapse: Duration,
    pub(crate) lock_unknown: bool,
    /// Long work stands still at so many hundredths.
    pub(crate) slow_work: Option<u64>,
    pub(crate) ids: u64,
}

impl Device {
    pub(crate) fn locator(&self) -> Locator {
        Locator::Scsi {
            controller_pci_slot: 192,
            target: self.unit,
        }
    }
}

/// A configuration's disks, as the host lists them.
pub(crate) fn disks_of(devices: &[Device], running: bool) -> Vec<VmDisk> {
    let disk = |d: &Device| VmDisk {
        disk: d.disk.clone(),
        read_only: d.read_only,
        locator: running.then(|| d.locator()),
    };
    devices.iter().map(disk).collect()
}

impl VmState {
    pub(crate) fn device(&self, disk: &DiskPath) -> Option<&Device> {
        self.devices.iter().find(|d| d.disk == *disk)
    }

    pub(crate) fn disks(&self) -> Vec<VmDisk> {
        disks_of(&self.devices, self.power != Power::Off)
    }

    pub(crate) fn free_unit(&self) -> Option<u8> {
        (self.devices.len() < MAX_DEVICES)
            .then(|| (0..=u8::MAX).find(|unit| self.devices.iter().all(|d| d.unit != *unit)))
            .flatten()
    }
}

impl State {
    pub(crate) fn vm(&self, id: &VmId) -> Option<&VmState> {
        self.vms.iter().find(|v| v.id == *id)
    }

    pub(crate) fn vm_mut(&mut self, id: &VmId) -> Option<&mut VmState> {
        self.vms.iter_mut().find(|v| v.id == *id)
    }

    /// The disks of a VM that is registered on `host` too, and runs elsewhere.
    pub(crate) fn ghost(&mut self, host: HostId, vm: &VmId) -> Option<&mut Vec<Device>> {
        if self.vm(vm).is_some_and(|v| v.host == host) {
            return None;
        }
        self.hosts.get_mut(&host)?.ghosts.get_mut(vm)
    }

    /// VMs that have the disk open, with their mode.
    pub(crate) fn openers(&self, disk: &DiskPath, now: Instant) -> Vec<(&VmState, bool)> {
        self.vms
            .iter()
            .filter(|v| v.power == Power::On && !self.has_lapsed(v.host, now))
            .filter_map(|v| v.device(disk).map(|d| (v, d)))
            .filter(|(_, d)| !d.dead)
            .map(|(v, d)| (v, d.read_only))
            .collect()
    }

    /// Whether a host has been cut off for so long that its locks are gone.
    pub(crate) fn has_lapsed(&self, host: HostId, now: Instant) -> bool {
        let since = self.hosts.get(&host).and_then(|h| h.cut_off);
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.lapse)
    }

    /// Who stands in the way of opening the disk for `vm`.
    pub(crate) fn refusal(
        &self,
        disk: &DiskPath,
        vm: &VmId,
        read_only: bool,
        now: Instant,
    ) -> Option<String> {
        let other = self
            .openers(disk, now)
            .into_iter()
            .find(|(v, ro)| v.id != *vm && !(*ro && read_only));
        let lingering = self.lingering.get(disk).filter(|(_, until)| *until > now);
        other
            .map(|(v, _)| v.name.clone())
            .or_else(|| lingering.map(|(who, _)| who.clone()))
    }

    pub(crate) fn lock(&self, disk: &DiskPath, now: Instant) -> DiskLock {
        if self.lock_unknown {
            return DiskLock::Unknown {
                why: "this host cannot query locks".to_owned(),
            };
        }
        let open = self.openers(disk, now).first().map(|(v, _)| v.name.clone());
        let lingering = self.lingering.get(disk).filter(|(_, until)| *until > now);
        open.or_else(|| lingering.map(|(who, _)| who.clone()))
            .map_or(DiskLock::Free, |by| DiskLock::Held { by })
    }

    pub(crate) fn bump(&self, host: HostId) {
        if let Some(host) = self.hosts.get(&host) {
            host.generation.send_modify(|g| *g += 1);
        }
    }
}

impl Datastore {
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.files.contains_key(path)
            || self.dirs.contains(path)
            || self.disks.get(path).is_some_and(|d| d.complete)
    }

    pub(crate) fn used(&self) -> u64 {
        self.disks.values().map(|d| d.allocated).sum()
    }

    pub(crate) fn make_disk(
        &mut self,
        file: &DsPath,
        spec: &DiskSpec,
        content: u64,
        when: When,
    ) -> Result<(), StorageError> {
        let path = file.as_str();
        if self.exists(path) {
            return Err(StorageError::AlreadyExists(path.to_owned()));
        }
        let parent = path.rsplit_once('/').map_or("", |(dir, _)| dir);
        if !self.dirs.contains(parent) {
            return Err(StorageError::NotFound(path.to_owned()));
        }
        let allocated = match spec.format.is_allocated() {
            true => spec.capacity.bytes(),
            false => 0,
        };
        if self.used().saturating_add(allocated) > self.capacity {
            return Err(StorageError::NoSpace);
        }
        let disk = Disk {
            capacity: spec.capacity,
            allocated,
            complete: when == When::After,
            content,
            policy: None,
        };
        self.disks.insert(path.to_owned(), disk);
        Ok(())
    }

    pub(crate) fn set_policy(
        &mut self,
        file: &DsPath,
        policy: &PolicyExpression,
    ) -> Result<(), StorageError> {
        let refused = |why: &str| Err(StorageError::PolicyRefused(why.to_owned()));
        if self.kind != DatastoreKind::Vsan {
            return refused("the datastore is no vSAN");
        }
        if self.stubborn.contains(file.as_str()) {
            return refused("simulated refusal");
        }
        if let Some(why) = policy.unsatisfiable_with(self.storage_hosts) {
            return refused(&why);
        }
        let disk = self.disks.get_mut(file.as_str()).filter(|d| d.complete);
        let disk = disk.ok_or_else(|| StorageError::NotFound(file.to_string()))?;
        disk.policy = Some(policy.clone());
        Ok(())
    }

    pub(crate) fn make_dirs(&mut self, path: &str) {
        let mut at = String::new();
        for part in path.split('/') {
            if !at.is_empty() {
                at.push('/');
            }
            at.push_str(part);
            self.dirs.insert(at.clone());
        }
    }

    pub(crate) fn entries(&self, dir: &str) -> Result<Vec<Entry>, StorageError> {
        if !self.dirs.contains(dir) {
            return Err(StorageError::NotFound(dir.to_owned()));
        }
        let child = |path: &str| {
            let rest = path.strip_prefix(dir)?.strip_prefix('/')?;
            (!rest.contains('/')).then(|| rest.to_owned())
        };
        let files = self.files.keys().filter_map(|p| child(p));
        let descriptors = self
            .disks
            .iter()
            .filter(|(_, d)| d.complete)
            .filter_map(|(p, _)| child(p));
        let extents = self.disks.keys().filter_map(|p| child(p));
        let extents = extents.map(|p| extent_of(&p));
        let plain = files.chain(descriptors).chain(extents).map(|name| Entry {
            name,
            is_dir: false,
        });
        let dirs = self
            .dirs
            .iter()
            .filter_map(|p| child(p))
            .map(|name| Entry { name, is_dir: true });
        Ok(plain.chain(dirs).collect())
    }
}

/// The extent beside a descriptor: only the ending counts, a name may hold `.vmdk` too.
pub(crate) fn extent_of(descriptor: &str) -> String {
    let stem = descriptor.strip_suffix(".vmdk").unwrap_or(descriptor);
    format!("{stem}-flat.vmdk")
}
