//! A guest's operating system, as far as disks go: device nodes, file systems, page cache.
//!
//! * A node is bound to one plugging-in of one disk. A disk that left and came back is another node, and what was
//!   mounted from the old one only gets errors.
//! * What is written lies in the page cache until a flush, an unmount or the write-back takes it to the disk, block by
//!   block, each at a moment of its own. A power cut takes some of the rest there, and loses the others.
//! * A file system lives as long as the plugin's mount or a container's uses it: taking one away is not the end.
//! * After the first error it stops: what was not written is lost, and every `fsync` says so.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;
use vdvs_domain::ownership::Locator;
use vdvs_domain::{FsType, VmId};
use vdvs_engine::ports::DiskPath;
use vdvs_host_sim::{DiskIoError, Event, World};

use super::format;
use super::life::Life;
use crate::check::Checker;
use crate::schedule::Dice;

/// Errors by their numbers.
pub(crate) const EIO: i32 = 5;
pub(crate) const ENXIO: i32 = 6;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EROFS: i32 = 30;

/// How often, and how long apart, a request is repeated that the storage did not answer: a guest's SCSI layer gives up
/// after about half a minute.
const REPEATS: u32 = 30;
const PAUSE: Duration = Duration::from_secs(1);

/// How often some of the dirty pages are written back, in no order that a program may rely on.
const WRITE_BACK: Duration = Duration::from_secs(2);

/// A disk as it was plugged in once.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) disk: DiskPath,
    plug: u64,
    pub(crate) minor: u32,
    pub(crate) read_only: bool,
}

/// A file system in use.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) disk: DiskPath,
    pub(crate) fstype: FsType,
    pub(crate) read_only: bool,
    dirty: BTreeMap<u64, Vec<u8>>,
    /// What was written and not yet promised to be safe.
    unsafe_yet: BTreeMap<u64, u64>,
    pub(crate) stopped: bool,
    /// Containers.
    users: BTreeSet<u64>,
    /// The last number written.
    last: u64,
    /// The checker knows of it.
    told: bool,
}

/// A place in the plugin's tree.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) id: u32,
    pub(crate) at: PathBuf,
    pub(crate) minor: u32,
    pub(crate) node: PathBuf,
    pub(crate) read_only: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) nodes: BTreeMap<u8, Node>,
    minors: u32,
    pub(crate) mounted: BTreeMap<u32, Mounted>,
    pub(crate) places: Vec<Place>,
    pub(crate) last_place: u32,
}

/// How often each disk was plugged into a VM, and where those are now that were moved under it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plugs(Arc<Mutex<Plugged>>);

#[derive(Debug, Default)]
struct Plugged {
    counts: BTreeMap<DiskPath, u64>,
    moved: BTreeMap<DiskPath, DiskPath>,
}

impl Plugs {
    /// Counts from now on.
    pub(crate) fn of(world: &World, vm: &VmId) -> Self {
        let plugs = Self::default();
        let (counted, vm) = (plugs.clone(), vm.clone());
        world.observe(move |_, event| match event {
            Event::Attached { vm: to, disk, .. } if *to == vm => counted.one_more(disk),
            Event::Renamed { from, to } => counted.moves(from, to),
            _ => {}
        });
        plugs
    }

    fn one_more(&self, disk: &DiskPath) {
        *self.plugged().counts.entry(disk.clone()).or_default() += 1;
    }

    fn count(&self, disk: &DiskPath) -> u64 {
        self.plugged().counts.get(disk).copied().unwrap_or(0)
    }

    fn moves(&self, from: &DiskPath, to: &DiskPath) {
        let mut plugged = self.plugged();
        if let Some(count) = plugged.counts.remove(from) {
            plugged.counts.insert(to.clone(), count);
        }
        plugged.moved.remove(to);
        plugged.moved.insert(from.clone(), to.clone());
    }

    /// Where a disk is now. A guest does not notice that its file moved.
    fn follow(&self, disk: &mut DiskPath) {
        let plugged = self.plugged();
        while let Some(to) = plugged.moved.get(disk) {
            disk.clone_from(to);
        }
    }

    fn plugged(&self) -> MutexGuard<'_, Plugged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The operating system from one start of the machine to its end.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) vm: VmId,
    pub(crate) world: World,
    pub(crate) checker: Checker,
    pub(crate) life: Life,
    plugs: Plugs,
    dice: Arc<Mutex<Dice>>,
    state: Mutex<State>,
    /// So many of the next probes find that the disk cannot be read.
    unreadable: AtomicU32,
}

fn errno(error: DiskIoError) -> i32 {
    match error {
        DiskIoError::NoSpace => ENOSPC,
        DiskIoError::ReadOnly => EROFS,
        _ => EIO,
    }
}

impl Kernel {
    pub(crate) fn new(
        vm: &VmId,
        world: &World,
        checker: &Checker,
        life: Life,
        plugs: Plugs,
        dice: Arc<Mutex<Dice>>,
    ) -> Self {
        Self {
            vm: vm.clone(),
            world: world.clone(),
            checker: checker.clone(),
            life,
            plugs,
            dice,
            state: Mutex::default(),
            unreadable: AtomicU32::new(0),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state with its nodes as the bus shows them now.
    pub(crate) fn look(&self) -> MutexGuard<'_, State> {
        let listed = self.world.devices(&self.vm);
        let mut state = self.state();
        let mut before = mem::take(&mut state.nodes);
        let nodes = before.values_mut().map(|node| &mut node.disk);
        let mounted = state.mounted.values_mut().map(|fs| &mut fs.disk);
        nodes
            .chain(mounted)
            .for_each(|disk| self.plugs.follow(disk));
        for found in listed {
            let Some(Locator::Scsi { target, .. }) = found.locator else {
                continue;
            };
            let plug = self.plugs.count(&found.disk);
            let same = before
                .remove(&target)
                .filter(|node| node.disk == found.disk && node.plug == plug);
            let node = same.unwrap_or_else(|| {
                state.minors += 1;
                Node {
                    disk: found.disk,
                    plug,
                    minor: state.minors,
                    read_only: found.read_only,
                }
            });
            state.nodes.insert(target, node);
        }
        state
    }

    /// The disk behind a node; none: it is gone.
    pub(crate) fn disk_of(&self, minor: u32) -> Result<DiskPath, i32> {
        let state = self.look();
        let found = state.nodes.values().find(|node| node.minor == minor);
        found.map(|node| node.disk.clone()).ok_or(ENXIO)
    }

    /// Writes to the disk itself, past the page cache.
    pub(crate) async fn write(&self, minor: u32, block: u64, bytes: &[u8]) -> Result<(), i32> {
        self.patiently(minor, |disk| {
            self.world.write_block(&self.vm, disk, block, bytes)
        })
        .await
    }

    /// Reads from the disk itself.
    pub(crate) async fn read(&self, minor: u32, block: u64) -> Result<Vec<u8>, i32> {
        self.patiently(minor, |disk| self.world.read_block(&self.vm, disk, block))
            .await
    }

    async fn patiently<T>(
        &self,
        minor: u32,
        mut request: impl FnMut(&DiskPath) -> Result<T, DiskIoError>,
    ) -> Result<T, i32> {
        for _ in 0..REPEATS {
            self.life.step().await;
            match request(&self.disk_of(minor)?) {
                Ok(done) => return Ok(done),
                Err(DiskIoError::Unreachable) => sleep(PAUSE).await,
                Err(error) => return Err(errno(error)),
            }
        }
        Err(EIO)
    }

    /// So many of the next probes find that the disk cannot be read.
    pub(crate) fn make_unreadable(&self, times: u32) {
        self.unreadable.store(times, Ordering::Relaxed);
    }

    /// Whether a disk can be read for a probe.
    pub(crate) fn readable(&self) -> Result<(), i32> {
        let left = self.unreadable.load(Ordering::Relaxed);
        self.unreadable
            .store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 0 { Ok(()) } else { Err(EIO) }
    }

    /// Whether a disk answers at all; asked once.
    pub(crate) fn answers(&self, minor: u32) -> Result<(), i32> {
        let disk = self.disk_of(minor)?;
        match self.world.read_block(&self.vm, &disk, format::SUPER) {
            // A guest cannot tell this from a slow answer.
            Ok(_) | Err(DiskIoError::Unreachable) => Ok(()),
            Err(error) => Err(errno(error)),
        }
    }

    /// A number into the page cache. Returns the block it went to.
    pub(crate) fn put(&self, minor: u32) -> Result<u64, i32> {
        let mut state = self.state();
        let fs = state.mounted.get_mut(&minor).ok_or(EIO)?;
        if fs.stopped {
            return Err(EIO);
        }
        if fs.read_only {
            return Err(EROFS);
        }
        fs.last += 1;
        let block = format::DATA + fs.last % format::BLOCKS;
        fs.dirty.insert(block, format::number(fs.last));
        fs.unsafe_yet.insert(block, fs.last);
        Ok(block)
    }

    /// Bytes into the page cache.
    pub(crate) fn put_bytes(&self, minor: u32, block: u64, bytes: Vec<u8>) -> Result<(), i32> {
        let mut state = self.state();
        let fs = state.mounted.get_mut(&minor).ok_or(EIO)?;
        match fs.stopped || fs.read_only {
            true => Err(if fs.stopped { EIO } else { EROFS }),
            false => {
                fs.dirty.insert(block, bytes);
                Ok(())
            }
        }
    }

    /// What a program reads: from the page cache, else from the disk.
    pub(crate) async fn get(&self, minor: u32, block: u64) -> Result<Vec<u8>, i32> {
        let cached = {
            let state = self.state();
            let fs = state.mounted.get(&minor).ok_or(EIO)?;
            fs.dirty.get(&block).cloned()
        };
        match cached {
            Some(bytes) => Ok(bytes),
            None => self.read(minor, block).await,
        }
    }

    /// Later numbers are larger than this one.
    pub(crate) fn begin_after(&self, minor: u32, value: u64) {
        if let Some(fs) = self.state().mounted.get_mut(&minor) {
            fs.last = fs.last.max(value);
        }
    }

    /// `fsync`: success promises what was written before.
    pub(crate) async fn sync(&self, minor: u32) -> Result<(), i32> {
        let promised = {
            let state = self.state();
            let fs = state.mounted.get(&minor).ok_or(EIO)?;
            fs.unsafe_yet.clone()
        };
        self.write_out(minor, self.dirty(minor)).await?;
        let mut state = self.state();
        let fs = state.mounted.get_mut(&minor).ok_or(EIO)?;
        if fs.stopped {
            return Err(EIO);
        }
        for (block, value) in promised {
            self.checker.flushed(&self.vm, &fs.disk, block, value);
            if fs.unsafe_yet.get(&block) == Some(&value) {
                fs.unsafe_yet.remove(&block);
            }
        }
        Ok(())
    }

    fn dirty(&self, minor: u32) -> Vec<u64> {
        let state = self.state();
        let fs = state.mounted.get(&minor);
        fs.map(|fs| fs.dirty.keys().copied().collect())
            .unwrap_or_default()
    }

    /// Takes dirty pages of a file system to its disk. Each goes as it is at its own moment.
    async fn write_out(&self, minor: u32, blocks: Vec<u64>) -> Result<(), i32> {
        for block in blocks {
            let written = self
                .patiently(minor, |disk| {
                    let mut state = self.state();
                    let fs = state.mounted.get_mut(&minor);
                    let Some((fs, page)) = fs.and_then(|fs| {
                        let page = fs.dirty.get(&block).cloned()?;
                        Some((fs, page))
                    }) else {
                        return Ok(());
                    };
                    self.world.write_block(&self.vm, disk, block, &page)?;
                    fs.dirty.remove(&block);
                    Ok(())
                })
                .await;
            if let Err(error) = written {
                self.stop(minor);
                return Err(error);
            }
        }
        Ok(())
    }

    /// A file system stops: nothing of what was not written will be.
    pub(crate) fn stop(&self, minor: u32) {
        if let Some(fs) = self.state().mounted.get_mut(&minor) {
            fs.stopped = true;
            fs.dirty.clear();
            fs.unsafe_yet.clear();
        }
    }

    /// A file system comes into use, or is used once more.
    pub(crate) fn begin_use(&self, node: &Node, fstype: &FsType, read_only: bool, staging: bool) {
        let mut state = self.state();
        let fs = state.mounted.entry(node.minor).or_insert_with(|| Mounted {
            disk: node.disk.clone(),
            fstype: fstype.clone(),
            read_only,
            dirty: BTreeMap::new(),
            unsafe_yet: BTreeMap::new(),
            stopped: false,
            users: BTreeSet::new(),
            last: 0,
            told: false,
        });
        if !staging {
            fs.told = true;
            self.checker.mounted(&self.vm, &node.disk, "plugin");
        }
    }

    /// A container uses what is mounted at this place, or below it. Returns its device.
    pub(crate) fn open(&self, path: &Path, user: u64) -> Option<u32> {
        let mut state = self.state();
        let place = state.places.iter().rev().find(|p| path.starts_with(&p.at));
        let minor = place?.minor;
        let fs = state.mounted.get_mut(&minor)?;
        fs.users.insert(user);
        let task = format!("container {user}");
        self.checker.mounted(&self.vm, &fs.disk, &task);
        Some(minor)
    }

    /// A container ends.
    pub(crate) async fn close(&self, minor: u32, user: u64) {
        if let Some(fs) = self.state().mounted.get_mut(&minor) {
            fs.users.remove(&user);
        }
        self.end_use(minor).await;
    }

    /// Writes out and ends a file system that nobody uses any more.
    pub(crate) async fn end_use(&self, minor: u32) {
        let unused = |state: &State| {
            let users = state.mounted.get(&minor).map(|fs| fs.users.is_empty());
            users == Some(true) && state.places.iter().all(|p| p.minor != minor)
        };
        if !unused(&self.state()) {
            return;
        }
        // An error has stopped the file system: there is nobody to tell.
        self.write_out(minor, self.dirty(minor))
            .await
            .unwrap_or_default();
        let mut state = self.state();
        if unused(&state)
            && let Some(fs) = state.mounted.remove(&minor)
            && fs.told
        {
            self.checker.unmounted(&self.vm, &fs.disk);
        }
    }

    /// Whether a mount or a container uses the device.
    pub(crate) fn in_use(&self, minor: u32) -> bool {
        self.state().mounted.contains_key(&minor)
    }

    /// Whether a disk is in use, as it is plugged in now.
    pub(crate) fn uses(&self, disk: &DiskPath) -> bool {
        let state = self.look();
        let mut nodes = state.nodes.values().filter(|node| node.disk == *disk);
        nodes.any(|node| state.mounted.get(&node.minor).is_some_and(|fs| fs.told))
    }

    /// Writes back from time to time, for as long as the machine runs.
    pub(crate) async fn write_back(&self) {
        loop {
            sleep(WRITE_BACK).await;
            let minors: Vec<u32> = self.state().mounted.keys().copied().collect();
            for minor in minors {
                let mut some = self.dirty(minor);
                {
                    let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
                    some.retain(|_| dice.once_in(2));
                }
                self.write_out(minor, some).await.unwrap_or_default();
            }
        }
    }

    /// The power goes: of the dirty pages some reach the disks, in any order, the others are lost.
    pub(crate) fn power_cut(&self, dice: &mut Dice) {
        let mut state = self.look();
        let state = &mut *state;
        for (minor, fs) in &state.mounted {
            let there = state.nodes.values().any(|node| node.minor == *minor);
            for (block, page) in fs.dirty.iter().filter(|_| there) {
                if dice.once_in(2) {
                    // Refused: then it did not reach the disk.
                    self.world
                        .write_block(&self.vm, &fs.disk, *block, page)
                        .unwrap_or_default();
                }
            }
        }
        *state = State::default();
    }
}
