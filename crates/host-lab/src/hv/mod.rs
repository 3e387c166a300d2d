//! The VMkernel's stand-in: which VMs there are, whether they run, which disks they have open, who holds a disk.
//!
//! ```text
//!             power on (pid, start time)                     attach
//!   off ────────────────────────────────► on     configured ────────► open (loop device + node in the VM)
//!    ▲        every configured disk opened │            ▲                │ detach: O_EXCL, node away, unbind
//!    └─────────────────────────────────────┘            └── gone ◄───────┤
//!       init ends, seen through its pidfd                                │ power lost: unbind; configured stays
//!                                                       closing ◄────────┘
//! ```
//!
//! Invariants:
//! * `vm.json` and `devices.json` are written before what they announce; after kill -9 the folder names everything
//!   that may exist, and sysfs tells what does.
//! * A disk is held while any loop device of the machine is bound to its extent and was not cut off, or another host
//!   has a lock file for it and a lease that has not lapsed (`arbiter`, `locks`, `leases`). *Closing* devices, whose
//!   file system the kernel is still taking down after the VM's death, hold it too.
//! * A device that was cut off (`fence`) gets no capacity again, but for a suspended VM's, by that VM's host alone
//!   (`suspend`).
//! * A loop device is only unbound after its node left the VM: numbers are used again, nodes must not point at
//!   somebody else's disk.
//! * A VM that is a QEMU process has its disks plugged into it (`machines`); its own locks on the files count like a
//!   loop device does.
//! * Killing this process changes nothing for VMs, attachments and locks.
//!
//! One mutex guards the world: calls take milliseconds, and order among them is what a hypervisor gives.

mod arbiter;
mod devices;
mod disks;
mod fence;
mod init;
mod leases;
mod locks;
mod machines;
mod processes;
mod server;
mod stock;
mod suspend;
mod vm;
mod vmx;
mod world;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use init::{InitId, start_time};
pub use server::{ServeError, cleanup, serve};
pub use vm::{ConfiguredDisk, Cut, DevicesFile, Stamp, VmFile};
use world::World;

use crate::config::ConfigError;
use crate::protocol::{Answer, Call, LabError};

/// Longest wait of [`Call::WaitChange`].
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A host could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its configuration.
    #[error("the host's configuration cannot be used")]
    Config(#[from] ConfigError),
    /// Its VMs or devices.
    #[error("cannot take stock of VMs and devices")]
    Stock(#[source] io::Error),
}

/// A host, shared by all connections.
#[derive(Debug, Clone)]
pub struct Hypervisor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    world: Mutex<World>,
    changed: Condvar,
}

impl Hypervisor {
    /// Reads the host's folder, finds the loop devices of an earlier run again, opens what is configured for living
    /// VMs and closes what nobody's configuration names.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(host_dir: &Path) -> Result<Self, StartError> {
        let world = World::start(host_dir)?;
        Ok(Self {
            shared: Arc::new(Shared {
                world: Mutex::new(world),
                changed: Condvar::new(),
            }),
        })
    }

    /// Serves one call.
    ///
    /// # Errors
    /// The refusal, in the protocol's form.
    pub fn handle(&self, call: Call) -> Result<Answer, LabError> {
        if let Call::WaitChange { since, timeout_ms } = call {
            return Ok(Answer::Generation(
                self.wait(since, Duration::from_millis(timeout_ms)),
            ));
        }
        self.with(|world| {
            world.refresh();
            match call {
                Call::ListVms => Ok(Answer::Vms(world.list())),
                Call::ListDevices { vm } => world.devices(&vm).map(Answer::Devices),
                Call::Attach {
                    vm,
                    disk,
                    read_only,
                } => world.attach(&vm, &disk, read_only),
                Call::Detach { vm, disk, force } => world.detach(&vm, &disk, force),
                Call::Lock { disk } => world.lock(&disk),
                Call::PowerOn {
                    vm,
                    pid,
                    start_time,
                } => world.power_on(&vm, InitId { pid, start_time }),
                Call::PowerOff { vm } => world.power_off(&vm),
                Call::Suspend { vm } => world.suspend(&vm),
                Call::Resume { vm } => world.resume(&vm),
                Call::WaitChange { .. } => Ok(Answer::Generation(world.generation())),
            }
        })
    }

    /// Lets go of what a host without running VMs still holds.
    pub(crate) fn leave(&self) {
        self.with(World::leave);
    }

    /// Looks for ended VMs, new folders and closed devices.
    pub(crate) fn tick(&self) {
        self.with(World::refresh);
    }

    /// Handles that become readable when a VM ends.
    pub(crate) fn watches(&self) -> Vec<OwnedFd> {
        self.lock().watches()
    }

    fn with<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.lock();
        let before = world.generation();
        let result = act(&mut world);
        if world.generation() != before {
            self.shared.changed.notify_all();
        }
        result
    }

    fn wait(&self, since: u64, timeout: Duration) -> u64 {
        let deadline = Instant::now() + timeout.min(MAX_WAIT);
        let mut world = self.lock();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if world.generation() != since || left.is_zero() {
                return world.generation();
            }
            let waited = self.shared.changed.wait_timeout(world, left);
            world = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A panic in a call leaves the world as that call left it; the next `refresh` looks at the machine again.
    fn lock(&self) -> MutexGuard<'_, World> {
        self.shared
            .world
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
