//! The world of one volume: its record's slots, two VMs, the lock on its disk.
//!
//! What a case changes can be compared and copied; all else was put there before the search and never changes.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::mem;
use std::sync::Arc;

use vdvs_domain::ownership::Locator;
use vdvs_domain::{Capacity, HostId, VmId};
use vdvs_engine::ports::{
    AttachedDisk, Detached, DiskLock, DiskPath, DiskStat, DsPath, Entry, HostError, Power,
    StorageError, Vm, VmDisk,
};

use super::call::{Answer, Op};
use super::{Mistake, datastore};

/// What a VM does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum State {
    On,
    Off,
    Suspended,
}

impl State {
    const fn power(self) -> Power {
        match self {
            Self::On => Power::On,
            Self::Off => Power::Off,
            Self::Suspended => Power::Suspended,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct VmNow {
    pub(crate) host: usize,
    pub(crate) state: State,
    /// The disk is in its configuration, with its mode: read-only or not.
    pub(crate) disk: Option<bool>,
}

/// What never changes during a search.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fixed {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) dirs: BTreeSet<String>,
    disk: Option<(String, Capacity)>,
    pub(crate) hosts: Vec<HostId>,
    pub(crate) vms: Vec<VmId>,
    /// Where the record's slots lie: folder, and how their names begin.
    record: Option<(String, String)>,
    /// VMs come, go and change power in this case.
    lively: bool,
    pub(crate) mistake: Option<Mistake>,
}

#[derive(Debug, Clone)]
pub(crate) struct World {
    /// The record's slots, by path.
    pub(crate) slots: BTreeMap<String, Vec<u8>>,
    pub(crate) vms: Vec<VmNow>,
    /// The lock of a host that died lasts until then.
    pub(crate) lingers: Option<u64>,
    /// Something was changed that this case takes for fixed.
    pub(crate) astray: Option<String>,
    pub(crate) fixed: Arc<Fixed>,
}

impl Hash for World {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.slots, &self.vms, self.lingers, &self.astray).hash(state);
    }
}

impl World {
    pub(crate) fn new(hosts: Vec<HostId>, vms: Vec<(VmId, usize)>) -> Self {
        let now = |(_, host): &(VmId, usize)| VmNow {
            host: *host,
            state: State::On,
            disk: None,
        };
        Self {
            slots: BTreeMap::new(),
            vms: vms.iter().map(now).collect(),
            lingers: None,
            astray: None,
            fixed: Arc::new(Fixed {
                dirs: [String::new()].into(),
                hosts,
                vms: vms.into_iter().map(|(id, _)| id).collect(),
                ..Fixed::default()
            }),
        }
    }

    /// From here on only the record in `dir` whose slots' names begin with `start` changes.
    pub(crate) fn settle(
        &mut self,
        dir: &str,
        start: &str,
        lively: bool,
        mistake: Option<Mistake>,
    ) {
        let fixed = Arc::make_mut(&mut self.fixed);
        let whole = format!("{dir}/{start}");
        let all = mem::take(&mut fixed.files);
        let (slots, files) = all
            .into_iter()
            .partition(|(path, _)| path.starts_with(&whole));
        self.slots = slots;
        fixed.files = files;
        fixed.record = Some((dir.to_owned(), whole));
        fixed.lively = lively;
        fixed.mistake = mistake;
    }

    /// Whether the answer depends on when it is given, or the call changes something.
    pub(crate) fn is_visible(&self, op: &Op) -> bool {
        let Some((dir, slots)) = &self.fixed.record else {
            return false;
        };
        match op {
            Op::Vms => self.fixed.lively,
            Op::ReadDir(path) => path == dir,
            Op::Read(path) => {
                path.starts_with(slots) || (self.fixed.lively && path.ends_with(".vmx"))
            }
            Op::ReadUnless(_, path) => path.starts_with(slots),
            Op::Create(..) | Op::Write(..) | Op::Remove(..) => true,
            Op::MakeDir(path) => !self.fixed.dirs.contains(path),
            Op::StatDisk(_) | Op::MakeDisk(..) => false,
            Op::Deliver(_) | Op::Disks(_) | Op::Attach(..) | Op::Detach(_) | Op::Fence(_) => true,
            Op::Lock => true,
        }
    }

    fn is_slot(&self, path: &str) -> bool {
        let slots = self.fixed.record.as_ref();
        slots.is_some_and(|(_, start)| path.starts_with(start))
    }

    /// Whether it is a call to the record's slots, or a listing of their folder.
    pub(crate) fn is_of_the_record(&self, op: &Op) -> bool {
        match op {
            Op::ReadDir(dir) => self.fixed.record.as_ref().is_some_and(|(d, _)| d == dir),
            Op::Read(path)
            | Op::ReadUnless(_, path)
            | Op::Create(path)
            | Op::Write(path, _)
            | Op::Remove(path) => self.is_slot(path),
            _ => false,
        }
    }

    /// A writer that is none of the hosts makes the slot after the highest, and dies.
    pub(crate) fn stranger(&mut self) {
        let Some((_, start)) = &self.fixed.record else {
            return;
        };
        let number = |path: &String| path.strip_prefix(start)?.parse::<u64>().ok();
        let highest = self.slots.keys().filter_map(number).max().unwrap_or(0);
        self.slots
            .insert(format!("{start}{}", highest + 1), Vec::new());
    }

    fn files(&mut self, path: &str) -> &mut BTreeMap<String, Vec<u8>> {
        if self.is_slot(path) {
            return &mut self.slots;
        }
        if self.fixed.record.is_some() {
            self.astray.get_or_insert_with(|| path.to_owned());
        }
        &mut Arc::make_mut(&mut self.fixed).files
    }

    fn file(&self, path: &str) -> Option<Vec<u8>> {
        let slots = self.slots.get(path);
        let at_rest = slots.or_else(|| self.fixed.files.get(path)).cloned();
        at_rest.or_else(|| self.configuration(path))
    }

    /// A VM's configuration file.
    fn configuration(&self, path: &str) -> Option<Vec<u8>> {
        let is_its = |id: &VmId| id.config_path.ends_with(path) && path.ends_with(".vmx");
        let vm = self.fixed.vms.iter().position(is_its)?;
        let saved = match self.vms.get(vm)?.state {
            State::Suspended => "saved.vmss",
            State::On | State::Off => "",
        };
        Some(format!("checkpoint.vmState = \"{saved}\"\n").into_bytes())
    }

    fn entries(&self, dir: &str) -> Result<Vec<Entry>, StorageError> {
        if !self.fixed.dirs.contains(dir) {
            return Err(StorageError::NotFound(dir.to_owned()));
        }
        let child = |path: &String| {
            let rest = path.strip_prefix(dir)?.strip_prefix('/')?;
            (!rest.contains('/')).then(|| rest.to_owned())
        };
        let disk = self.fixed.disk.iter().map(|(path, _)| path);
        let files = self.slots.keys().chain(self.fixed.files.keys()).chain(disk);
        let plain = files.filter_map(child).map(|name| Entry {
            name,
            is_dir: false,
        });
        let dirs = self.fixed.dirs.iter().filter_map(child);
        let dirs = dirs.map(|name| Entry { name, is_dir: true });
        Ok(plain.chain(dirs).collect())
    }

    /// The volume's disk.
    pub(crate) fn disk(&self) -> Option<DiskPath> {
        let (path, _) = self.fixed.disk.as_ref()?;
        Some(DiskPath {
            datastore: datastore(),
            path: DsPath::new(path).ok()?,
        })
    }

    /// VMs that have the disk open, with their mode.
    pub(crate) fn openers(&self) -> impl Iterator<Item = (usize, bool)> {
        let on = self.vms.iter().enumerate();
        let on = on.filter(|(_, vm)| vm.state == State::On);
        on.filter_map(|(n, vm)| Some((n, vm.disk?)))
    }

    fn lock(&self, now: u64) -> DiskLock {
        if self.fixed.mistake == Some(Mistake::LockReadsFree) {
            return DiskLock::Free;
        }
        let held = self.openers().next().map(|(vm, _)| format!("vm{vm}"));
        let lingers = self.lingers.filter(|until| *until > now);
        held.or_else(|| lingers.map(|_| "a host that died".to_owned()))
            .map_or(DiskLock::Free, |by| DiskLock::Held { by })
    }

    /// Whether the lock keeps `vm` from opening the disk.
    pub(crate) fn refuses(&self, vm: usize, read_only: bool, now: u64) -> Option<String> {
        let other = self
            .openers()
            .find(|(n, ro)| *n != vm && !(*ro && read_only));
        let lingers = self.lingers.filter(|until| *until > now);
        other
            .map(|(n, _)| format!("vm{n}"))
            .or_else(|| lingers.map(|_| "a host that died".to_owned()))
    }

    fn vm_here(&mut self, host: usize, vm: usize) -> Result<&mut VmNow, HostError> {
        let found = self.vms.get_mut(vm).filter(|v| v.host == host);
        found.ok_or_else(|| HostError::NoSuchVm {
            vm: format!("vm{vm}"),
        })
    }

    fn attach(
        &mut self,
        host: usize,
        vm: usize,
        ro: bool,
        now: u64,
    ) -> Result<AttachedDisk, HostError> {
        let refused = self.refuses(vm, ro, now);
        let found = self.vm_here(host, vm)?;
        if found.state != State::On {
            return Err(HostError::PoweredOff {
                vm: format!("vm{vm}"),
            });
        }
        match (found.disk, refused) {
            (Some(mode), _) if mode == ro => {}
            (Some(_), _) => {
                let why = "the VM has the disk in another mode".to_owned();
                return Err(HostError::Failed { why });
            }
            (None, Some(holder)) => return Err(HostError::Locked { holder }),
            (None, None) => found.disk = Some(ro),
        }
        Ok(AttachedDisk {
            locator: place(),
            disk_uuid: None,
        })
    }

    fn detach(&mut self, host: usize, vm: usize) -> Result<Detached, HostError> {
        let found = self.vm_here(host, vm)?;
        Ok(match found.disk.take() {
            Some(_) => Detached::Removed,
            None => Detached::WasAbsent,
        })
    }

    fn vms(&self, host: usize) -> Vec<Vm> {
        let here = self.vms.iter().zip(&self.fixed.vms).enumerate();
        let here = here.filter(|(_, (now, _))| now.host == host);
        here.map(|(n, (now, id))| Vm {
            id: id.clone(),
            name: format!("vm{n}"),
            power: now.state.power(),
            home: Some(datastore()),
        })
        .collect()
    }

    fn disks(&mut self, host: usize, vm: usize) -> Result<Vec<VmDisk>, HostError> {
        let path = self.disk();
        let found = self.vm_here(host, vm)?;
        let (disk, on) = (found.disk, found.state != State::Off);
        let listed = disk.zip(path).map(|(read_only, disk)| VmDisk {
            disk,
            read_only,
            locator: on.then(place),
        });
        Ok(listed.into_iter().collect())
    }

    /// One call of a host's agent has its effect.
    pub(crate) fn act(&mut self, host: usize, op: &Op, now: u64) -> Answer {
        let missing = |path: &String| StorageError::NotFound(path.clone());
        match op {
            Op::Deliver(_) => Answer::Unit(Ok(())),
            Op::ReadDir(dir) => Answer::Entries(self.entries(dir)),
            Op::Read(path) => Answer::Bytes(self.file(path).ok_or_else(|| missing(path))),
            Op::ReadUnless(newer, path) => Answer::Unless(match self.file(newer) {
                Some(_) => Ok(None),
                None => self.file(path).map(Some).ok_or_else(|| missing(path)),
            }),
            Op::Create(path) => Answer::Unit(match self.file(path) {
                Some(_) => Err(StorageError::AlreadyExists(path.clone())),
                None => {
                    self.files(path).insert(path.clone(), Vec::new());
                    Ok(())
                }
            }),
            Op::Write(path, bytes) => Answer::Unit(match self.files(path).get_mut(path) {
                Some(content) => {
                    content.clone_from(bytes);
                    Ok(())
                }
                None => Err(missing(path)),
            }),
            Op::Remove(path) => Answer::Flag(Ok(self.files(path).remove(path).is_some())),
            Op::MakeDir(path) => {
                let mut at = String::new();
                for part in path.split('/') {
                    at = if at.is_empty() {
                        part.to_owned()
                    } else {
                        format!("{at}/{part}")
                    };
                    Arc::make_mut(&mut self.fixed).dirs.insert(at.clone());
                }
                Answer::Unit(Ok(()))
            }
            Op::MakeDisk(path, capacity) => {
                Arc::make_mut(&mut self.fixed).disk = Some((path.clone(), *capacity));
                Answer::Unit(Ok(()))
            }
            Op::StatDisk(path) => {
                let disk = self.fixed.disk.as_ref().filter(|(p, _)| p == path);
                Answer::Stat(disk.map(|(_, capacity)| DiskStat {
                    capacity: *capacity,
                    allocated_bytes: 0,
                }))
            }
            Op::Vms => Answer::Vms(self.vms(host)),
            Op::Disks(vm) => Answer::Disks(self.disks(host, *vm)),
            Op::Attach(vm, ro) => Answer::Attached(self.attach(host, *vm, *ro, now)),
            Op::Detach(vm) | Op::Fence(vm) => Answer::Detached(self.detach(host, *vm)),
            Op::Lock => Answer::Lock(self.lock(now)),
        }
    }
}

fn place() -> Locator {
    Locator::Scsi {
        controller_pci_slot: 192,
        target: 0,
    }
}
