//! The state of the world.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::ownership::Locator;
use vdvs_domain::policy::PolicyExpression;
use vdvs_domain::{Capacity, DatastoreName, HostId, RequestId, VmId, VolumeId};
use vdvs_engine::ports::{
    AuditEntry, Autostart, DatastoreKind, DiskLock, DiskPath, DiskSpec, DsPath, Entry, KeptConfig,
    Power, StorageError, VmDisk,
};

use crate::bell::Bell;
use crate::changes::Change;
use crate::disk_io::BLOCK_BYTES;
use crate::fault::When;
use crate::observe::{Event, Observers};

/// Disks a VM can have: four controllers with fifteen places each.
pub(crate) const MAX_DEVICES: usize = 60;

#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) capacity: Capacity,
    pub(crate) allocated: u64,
    /// Its descriptor exists.
    pub(crate) complete: bool,
    /// It takes room only for what was written.
    pub(crate) thin: bool,
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// The vSAN policy it was given.
    pub(crate) policy: Option<PolicyExpression>,
}

/// What a disk holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bytes {
    /// Stands for all of it, for those who write no blocks.
    pub(crate) content: u64,
    /// Blocks that were written.
    pub(crate) blocks: BTreeMap<u64, Vec<u8>>,
    /// Writes of blocks, ever.
    pub(crate) writes: u64,
}

#[derive(Debug)]
pub(crate) struct Datastore {
    pub(crate) kind: DatastoreKind,
    /// Hosts that contribute storage to it, where it is a vSAN.
    pub(crate) storage_hosts: u32,
    /// Disks that take no policy.
    pub(crate) stubborn: BTreeSet<String>,
    pub(crate) capacity: u64,
    /// Bytes that others take of it.
    pub(crate) ballast: u64,
    /// What happened to its disks and nobody was told yet.
    pub(crate) happened: Vec<Event>,
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
    /// The disks in its configuration when its snapshot was made.
    pub(crate) snapshot: Option<Vec<Device>>,
    /// Its own files are locked until then by a host that died.
    pub(crate) locked_until: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct HostState {
    pub(crate) name: String,
    /// Rings at every change of its VMs.
    pub(crate) changes: Bell,
    /// Datastores this host cannot reach now.
    pub(crate) unreachable: BTreeSet<DatastoreName>,
    /// Datastores whose calls never return on this host.
    pub(crate) hanging: BTreeSet<DatastoreName>,
    /// VMs that run elsewhere and are still registered here, off, with the disks they had.
    pub(crate) ghosts: BTreeMap<VmId, Vec<Device>>,
    /// Since when it reaches no datastore at all.
    pub(crate) cut_off: Option<Instant>,
    /// Since when it does not reach single datastores, not even to renew its locks there.
    pub(crate) cut_from: BTreeMap<DatastoreName, Instant>,
    /// How far its wall clock is off, in milliseconds.
    pub(crate) clock_off: i64,
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
    /// Disks that a VM's snapshots contain.
    pub(crate) pinned: BTreeSet<(VmId, DiskPath)>,
    /// What each host starts by itself.
    pub(crate) autostart: BTreeMap<HostId, Vec<Autostart>>,
    pub(crate) ids: u64,
    /// Changes that hosts still make, for which nobody waits.
    pub(crate) late: Vec<(Instant, Change)>,
    /// What calls take: luck, and the most in milliseconds.
    pub(crate) pace: (u64, u64),
    /// Folders are listed in two parts, one after the other.
    pub(crate) lists_in_parts: bool,
    pub(crate) observers: Observers,
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
            .filter(|v| v.power == Power::On)
            .filter(|v| !self.has_lapsed(v.host, &disk.datastore, now))
            .filter_map(|v| v.device(disk).map(|d| (v, d)))
            .filter(|(_, d)| !d.dead)
            .map(|(v, d)| (v, d.read_only))
            .collect()
    }

    /// Whether a host has been cut off from a datastore for so long that its locks there are gone.
    pub(crate) fn has_lapsed(&self, host: HostId, ds: &DatastoreName, now: Instant) -> bool {
        let Some(host) = self.hosts.get(&host) else {
            return false;
        };
        let since = host.cut_off.iter().chain(host.cut_from.get(ds)).min();
        since.is_some_and(|since| now.saturating_duration_since(*since) >= self.lapse)
    }

    /// Whether a host reaches a datastore now.
    pub(crate) fn reaches(&self, host: HostId, ds: &DatastoreName) -> bool {
        self.hosts.get(&host).is_some_and(|h| {
            h.cut_off.is_none() && !h.unreachable.contains(ds) && !h.cut_from.contains_key(ds)
        })
    }

    /// What a call takes that begins now; none: it is as good as nothing. It hangs on nothing but the call and its moment:
    /// in which order an agent makes those it makes at once does not matter.
    pub(crate) fn time_of_call(
        &self,
        host: HostId,
        verb: &str,
        since: Duration,
    ) -> Option<Duration> {
        let (mut luck, most) = self.pace;
        if most == 0 {
            return None;
        }
        let host = host.uuid().as_u128().to_le_bytes();
        let moment = since.as_millis().to_le_bytes();
        for byte in host.iter().chain(verb.as_bytes()).chain(&moment) {
            luck = (luck ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            luck ^= luck >> 29;
        }
        let millis = (luck >> 20).checked_rem(most * 2 + 1).unwrap_or(0);
        // About half of them take no time.
        let millis = millis.checked_sub(most).filter(|millis| *millis > 0)?;
        Some(Duration::from_millis(millis))
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.observers.tell(event);
    }

    /// What is due by now takes place: locks lapse, and changes that nobody waits for any more.
    pub(crate) fn catch_up(&mut self, now: Instant) {
        self.lapse_now(now);
        while let Some(at) = self.late.iter().position(|(due, _)| *due <= now) {
            let (_, change) = self.late.remove(at);
            change.unheard(self);
        }
    }

    fn lapse_now(&mut self, now: Instant) {
        let cut = |h: &HostState| h.cut_off.is_some() || !h.cut_from.is_empty();
        if !self.hosts.values().any(cut) {
            return;
        }
        let mut lost: Vec<(VmId, Vec<DiskPath>)> = Vec::new();
        for vm in self.vms.iter().filter(|v| v.power == Power::On) {
            let alive = vm.devices.iter().filter(|d| !d.dead);
            let gone = alive.filter(|d| self.has_lapsed(vm.host, &d.disk.datastore, now));
            let gone: Vec<_> = gone.map(|d| d.disk.clone()).collect();
            if !gone.is_empty() {
                lost.push((vm.id.clone(), gone));
            }
        }
        for (vm, disks) in lost {
            if let Some(found) = self.vm_mut(&vm) {
                let devices = found.devices.iter_mut();
                let these = devices.filter(|d| disks.contains(&d.disk));
                these.for_each(|d| d.dead = true);
            }
            self.tell(&Event::Lapsed { vm, disks });
        }
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
            host.changes.ring();
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
        let disks = self.disks.values().map(|d| d.allocated);
        disks.fold(self.ballast, u64::saturating_add)
    }

    /// Not even a small file has room.
    pub(crate) fn is_full(&self) -> bool {
        self.used() >= self.capacity
    }

    pub(crate) fn make_disk(
        &mut self,
        file: &DsPath,
        spec: &DiskSpec,
        bytes: &Bytes,
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
        let written = u64::try_from(bytes.blocks.len()).unwrap_or(u64::MAX);
        let allocated = match spec.format.is_allocated() {
            true => spec.capacity.bytes(),
            false => written.saturating_mul(BLOCK_BYTES),
        };
        if self.used().saturating_add(allocated) > self.capacity {
            return Err(StorageError::NoSpace);
        }
        let disk = Disk {
            capacity: spec.capacity,
            allocated,
            thin: !spec.format.is_allocated(),
            complete: when == When::After,
            bytes: bytes.clone(),
            policy: None,
        };
        self.disks.insert(path.to_owned(), disk);
        Ok(())
    }

    /// A disk exists now, if it is whole.
    pub(crate) fn made(&mut self, ds: &DatastoreName, file: &DsPath, source: Option<&DiskPath>) {
        if self.disks.get(file.as_str()).is_some_and(|d| d.complete) {
            self.happened.push(Event::Made {
                disk: DiskPath {
                    datastore: ds.clone(),
                    path: file.clone(),
                },
                source: source.cloned(),
            });
        }
    }

    /// A disk is gone.
    pub(crate) fn unmade(&mut self, ds: &DatastoreName, file: &DsPath) {
        self.happened.push(Event::Unmade {
            disk: DiskPath {
                datastore: ds.clone(),
                path: file.clone(),
            },
        });
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
