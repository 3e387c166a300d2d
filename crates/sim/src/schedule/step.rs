//! What may happen next. Each step carries all its numbers; a number too large for the world it meets is taken modulo.

use std::fmt;
use std::time::Duration;

use vdvs_host_sim::{Fault, When};

/// A step and the pause before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// Simulated time that passes first.
    pub after: Duration,
    /// What happens then.
    pub step: Step,
}

/// How the present owner of a service's volume ends in an episode that measures a takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Death {
    /// Its VM loses power; its host lives and says so.
    Vm,
    /// Its host loses power.
    Host,
    /// Its host is cut off from all storage and lives on.
    Isolated,
    /// Its host loses power, and HA starts the VM elsewhere.
    Restarted,
    /// Nothing ends: the orchestrator lost sight of the node, which goes on writing.
    Partitioned,
}

/// What a connection between a guest and its agent does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// The next requests never arrive.
    LoseRequests(u32),
    /// The next answers are lost after the call took effect.
    LoseReplies(u32),
    /// The next requests are carried out twice.
    Duplicate(u32),
    /// The next requests arrive so late.
    Delay(u32, Duration),
    /// The connection breaks, and the next requests arrive so late all the same.
    Late(u32, Duration),
    /// It is cut.
    Cut,
    /// It works.
    Mend,
}

/// An administrator's command at a bad moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// `vdvs status`, `volume ls`, `vm ls`.
    Look,
    /// `volume detach`, without force.
    Take,
    /// `volume detach --force`.
    TakeByForce,
    /// `volume rm`.
    Remove,
    /// `volume set failover=…`.
    SetFailover(bool),
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Time passes.
    Pause,
    /// The orchestrator wants a service to run.
    Deploy(usize),
    /// It does not any more.
    Retire(usize),
    /// A person makes a volume from a VM.
    Create(usize, usize),
    /// A volume is made from every VM at once.
    Rush(usize),
    /// A person makes a volume from a VM whose content is another's.
    Clone(usize, usize),
    /// A person removes a volume from a VM.
    Remove(usize, usize),
    /// A person lists volumes in a VM.
    List(usize),
    /// A person runs a container of their own with a volume in a VM, for so long.
    RunOnce(usize, usize, Duration),
    /// Two containers in two VMs, each of which wants the two volumes in the other order.
    Embrace(usize, usize),
    /// A container of their own with a service's volume in every VM at once, for so long.
    Rivals(usize, Duration),
    /// A container ends and its plugin with it, is started again, and what was asked for before arrives so late.
    Stale(usize, usize, Duration),
    /// No host can say who holds a lock while a VM wants a service's volume.
    Grope(usize, usize),
    /// So many of a VM's next looks at what is on a volume's disk fail.
    Unreadable(usize, u32),
    /// The next write of a host has no answer, and it cannot look whether it took place. `true`: it did.
    Blind(usize, bool),
    /// A VM loses power; the number says what of its page cache reached the disks.
    PowerCut(usize, u64),
    /// A VM is started.
    PowerOn(usize),
    /// A VM is suspended, and resumed after a while.
    Suspend(usize, Duration),
    /// A VM's state is remembered.
    Snapshot(usize),
    /// A VM goes back to it.
    Revert(usize),
    /// A VM's plugin is killed, and starts again after a while.
    KillPlugin(usize, Duration),
    /// A VM's plugin is told to end, and starts again after a while.
    StopPlugin(usize, Duration),
    /// A VM's dockerd is killed, and starts again after a while. Its containers run on until then.
    KillDockerd(usize, Duration),
    /// A VM's dockerd loses so many of its next Unmounts.
    LoseUnmounts(usize, u32),
    /// The next Unmount of a VM's dockerd leaves so late.
    DelayUnmount(usize, Duration),
    /// A person copies something out of a container that runs in a VM.
    CopyFrom(usize),
    /// A VM's wall clock jumps by so many seconds.
    Skew(usize, i64),
    /// A snapshot of a VM contains the disks it has, for so long: nothing takes them out of it.
    Pin(usize, Duration),
    /// A VM's own file system is full, or not any more.
    GuestFull(usize, bool),
    /// The next write of a VM's journal is torn, and the plugin dies at it.
    TearJournal(usize),
    /// A VM's connection to its agent.
    Link(usize, Link),
    /// The orchestrator does not hear a VM, or hears it again.
    Partition(usize, bool),
    /// A running VM moves to a host.
    VMotion(usize, usize),
    /// A copy of a VM with its instance UUID is started on a host.
    Twin(usize, usize),
    /// A host's agent is killed and starts again after a while.
    KillAgent(usize, Duration),
    /// A host loses power; it comes back after a while. `true`: HA starts its VMs elsewhere meanwhile, and it comes back
    /// with its old registrations.
    CrashHost(usize, Duration, bool),
    /// A host is cut off from all storage, or reaches it again.
    Isolate(usize, bool),
    /// A host does not reach one datastore, or does again.
    Reach(usize, usize, bool),
    /// Calls of a host to one datastore hang, or go through again.
    Hang(usize, usize, bool),
    /// No host can say who holds a lock, or they can again.
    HideLocks(bool),
    /// A datastore has no room, or has again.
    Full(usize, bool),
    /// What goes wrong at a later call of a host's agent.
    Fault(usize, u64, Fault),
    /// This step of a VM, and what goes wrong at the next call of this verb that its host's agent makes.
    Amid(&'static str, Fault, Box<Self>),
    /// What goes wrong at the next calls, so many, of this verb that a host's agent makes.
    FaultAt(usize, &'static str, Fault, u32),
    /// A host loses power at the next call of this verb that its agent makes, with so much of its effect; it comes back
    /// after a while.
    Strike(usize, &'static str, When, Duration),
    /// A host's wall clock jumps by so many seconds.
    ClockJump(usize, i64),
    /// An administrator on a host, with a volume.
    Admin(usize, usize, Admin),
    /// Everything is well, a service runs; its node ends so; it must run elsewhere in time.
    Takeover(usize, Death),
}

impl fmt::Display for Timed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:>6} ms  {:?}", self.after.as_millis(), self.step)
    }
}
