//! Who judges: it watches the disks and their writers, and hears what was acknowledged to whom.
//!
//! It asks neither engine nor plugin and uses no code of theirs: what the hypervisor did comes from the [`World`]'s
//! observer, what was promised comes from those who heard the promise (a docker that was told *created*, a container
//! whose `fsync` returned), and the files on the datastores are read by a reader of its own. So it can say that both
//! are wrong.
//!
//! | promise | broken when |
//! |---|---|
//! | P1 | two VMs have a disk open and one of them can write; a write is accepted from a VM that has it not open; a disk goes to a VM, or is written by one, while a suspended one had it mounted |
//! | P2 | a reader finds less than what was flushed; a disk with data, or of a volume that was reported created, is gone |
//! | P3 | `mkfs` on anything but a blank disk or one's own unfinished format; on a disk that was ever mounted |
//! | P4 | *not found* for a volume that is there, or while a datastore could not be asked; a local twin of a name the plugin knew |
//! | P5 | two answers to one request; one short name made twice |
//! | P6 | at the end: operations, half-made files, attachments and ledgers that do not explain each other; a volume nobody can mount |
//! | P8 | a mounted disk is taken from a VM that runs, other than by a fence that was allowed; a record says that a VM has a volume no more that it has mounted |
//!
//! **Facts are told when they are true**, in the order of the simulation: `removing` before the request leaves, `removed`
//! after its answer; `mounted` after the mount, `unmounted` before it ends; `flushed` after the flush.
//! What is not told is not judged, so a forgotten call makes the checker blind, not wrong. Two must not be forgotten,
//! or it cries out: `removing` and `may_fence`.

mod facts;
mod files;
mod removal;
mod settled;
mod state;
mod watch;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use vdvs_domain::{DatastoreName, VmId};
use vdvs_engine::ports::DiskPath;
use vdvs_host_sim::World;

use state::State;

pub use removal::Removal;
pub use state::Asked;

/// What was promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// P1
    OneWriter,
    /// P2
    NothingLost,
    /// P3
    NeverFormatByGuess,
    /// P4
    NeverDenyByGuess,
    /// P5
    TwiceIsOnce,
    /// P6
    NoTrace,
    /// P8
    DetachUnused,
    /// Every wait ends in time.
    Liveness,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneWriter => "P1 one writer",
            Self::NothingLost => "P2 nothing acknowledged is lost",
            Self::NeverFormatByGuess => "P3 never format by guess",
            Self::NeverDenyByGuess => "P4 never say not found by guess",
            Self::TwiceIsOnce => "P5 every operation may run twice",
            Self::NoTrace => "P6 failure leaves no trace",
            Self::DetachUnused => "P8 detach only what is unused",
            Self::Liveness => "every wait ends",
        })
    }
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// When, since the world began.
    pub at: Duration,
    /// What happened, in words.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3}s {}: {}",
            self.at.as_secs_f64(),
            self.promise,
            self.text
        )
    }
}

/// What was on a device when `mkfs` ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing: every byte that a file system or partition table could have is zero.
    Blank,
    /// A file system with the UUID that the record stores, from a format that did not end.
    OwnUnfinished,
    /// Something else.
    Foreign,
    /// It could not be read.
    Unknown,
}

/// The checker: a handle that everybody may have a copy of.
#[derive(Debug, Clone)]
pub struct Checker {
    world: World,
    begun: Instant,
    state: Arc<Mutex<State>>,
}

impl Checker {
    /// Watches a world from now on.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let checker = Self {
            world: world.clone(),
            begun: Instant::now(),
            state: Arc::default(),
        };
        let state = Arc::clone(&checker.state);
        let begun = checker.begun;
        world.observe(move |now, event| {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.now = now.saturating_duration_since(begun);
            state.happened(event);
        });
        checker
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = Instant::now().saturating_duration_since(self.begun);
        state
    }

    /// A VM was told that its Create made a volume.
    pub fn created(&self, volume: &str, ds: &DatastoreName) {
        self.state().created(volume, ds);
    }

    /// A VM was told that the volume was there before its Create.
    pub fn there_already(&self, volume: &str, ds: &DatastoreName, asked: Asked) {
        self.state().there_already(volume, ds, asked);
    }

    /// Somebody is about to ask for a volume's removal. From now on it may be there or not, and once the removal is over,
    /// until it is found there.
    pub fn removing(&self, volume: &str) -> Removal {
        self.state().removing(volume);
        Removal::begun(Arc::clone(&self.state), volume)
    }

    /// Somebody was told that a volume is removed.
    pub fn removed(&self, volume: &str) {
        self.state().removed(volume);
    }

    /// A VM's plugin knows a name: it created or mounted it, or had it in a list it answered with.
    pub fn seen(&self, vm: &VmId, name: &str) {
        self.state().seen(vm, name);
    }

    /// A VM's plugin knows a name and could not write it down, its disk being full: as long as its process lives.
    pub fn heard(&self, vm: &VmId, name: &str, dead: CancellationToken) {
        self.state().heard(vm, name, dead);
    }

    /// Whether a VM's plugin knows a name.
    #[must_use]
    pub fn has_seen(&self, vm: &VmId, name: &str) -> bool {
        self.state().has_seen(vm, name)
    }

    /// Somebody begins to ask.
    #[must_use]
    pub fn asks(&self) -> Asked {
        self.state().asks()
    }

    /// A VM's dockerd was told that a volume does not exist.
    pub fn told_not_found(&self, vm: &VmId, name: &str, asked: Asked) {
        self.state().told_not_found(vm, name, asked);
    }

    /// A VM's dockerd made a local volume of this name, after it had asked for it.
    pub fn local_twin(&self, vm: &VmId, name: &str, asked: Asked) {
        self.state().local_twin(vm, name, asked);
    }

    /// A VM's guest runs `mkfs` now.
    pub fn formats(&self, vm: &VmId, disk: &DiskPath, found: Found) {
        self.state().formats(vm, disk, found);
    }

    /// A VM's guest has a disk mounted, for a task.
    pub fn mounted(&self, vm: &VmId, disk: &DiskPath, task: &str) {
        self.state().mounted(vm, disk, task);
    }

    /// A VM's guest is about to unmount a disk.
    pub fn unmounted(&self, vm: &VmId, disk: &DiskPath) {
        self.state().unmounted(vm, disk);
    }

    /// A container was told that what it wrote is safe: its `fsync` returned. Values of a block grow.
    pub fn flushed(&self, vm: &VmId, disk: &DiskPath, block: u64, value: u64) {
        self.state().flushed(vm, disk, block, value);
    }

    /// A container read a block back; 0 is what was never written.
    pub fn read(&self, vm: &VmId, disk: &DiskPath, block: u64, value: u64) {
        self.state().read(vm, disk, block, value);
    }

    /// A VM's guest asks its agent to detach a disk; whether it was mounted anywhere in the guest at that moment.
    pub fn detached(&self, vm: &VmId, disk: &DiskPath, was_mounted: bool) {
        self.state().detached(vm, disk, was_mounted);
    }

    /// A volume may be taken from a VM that uses it: it was created with `failover=fence`, or an administrator
    /// forces it, from now on.
    pub fn may_fence(&self, volume: &str) {
        self.state().may_fence(volume);
    }

    /// An administrator takes a volume by force. Where no host answers for its VM and the lock cannot be seen, it is
    /// released without proof: then the record says that a VM has it no more which writes it, and its host takes the
    /// disk out when it hears of that. Until the next VM gets it, or until it is known that it went otherwise.
    pub fn forced(&self, volume: &str, forced: bool) {
        self.state().forced(volume, forced);
    }

    /// A request got an answer of success; its first word says about which volume. One that comes again long after
    /// others have changed the volume is not judged: results are kept for some requests only.
    pub fn answered(&self, request: Uuid, answer: &str) {
        self.state().answered(request, answer);
    }

    /// Somebody else found a promise broken: a wait that did not end, a volume that cannot be mounted.
    pub fn broken(&self, promise: Promise, text: impl Into<String>) {
        self.state().broken(promise, text.into());
    }

    /// What is broken so far.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.state().violations.clone()
    }

    /// Volumes, by their full names, whose records give them to VMs that exist no more.
    #[must_use]
    pub fn kept_by_the_gone(&self) -> Vec<String> {
        settled::kept_by_the_gone(&self.world)
    }

    /// What is broken, asked when faults have stopped and the world had the time to settle: looks at the datastores
    /// too.
    #[must_use]
    pub fn verdict(&self) -> Vec<Violation> {
        let found = settled::look(&self.world, &self.state());
        let mut state = self.state();
        for (promise, text) in found {
            state.broken(promise, text);
        }
        state.violations.clone()
    }
}
