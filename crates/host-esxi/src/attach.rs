//! Attach and detach: *look, change one thing, look again*, until what was asked for is so.
//!
//! ```text
//!   look ── disk is (not) there ──► done
//!    ▲  └── one reconfigure: a controller alone, or the disk
//!    │           │ done, refused for its place, somebody else changes the VM, session lost
//!    └───────────┘
//!                 no answer: wait until no task of the VM runs, then look: the device list says what happened
//! ```
//!
//! Nothing is concluded from what hostd answered to a change, only from the device list read after it. Once a change
//! went out without an answer, every failure says so (`NoAnswer`) until a look has settled it.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use vdvs_domain::VmId;
use vdvs_engine::ports::{AttachedDisk, Detached, DiskLock, DiskPath, HostError, Power};
use vdvs_vim::{ConfigSpec, DeviceChange, DiskMode, Effect, Error, FaultKind, Hardware, MoRef};

use crate::devices::{self, Mine};
use crate::esx::Known;
use crate::faults;
use crate::host::EsxHost;
use crate::place::{self, Place, Unit};

/// Rounds of one attach or detach: three controllers added, a few units refused, a few other changes of the VM.
const ROUNDS: usize = 24;
/// Before the same is tried once more.
const PAUSE: Duration = Duration::from_millis(200);
/// A temporary key; hostd gives the device its own.
const KEY: i32 = -101;

/// What one reconfigure came to.
enum Made {
    /// Done, as hostd says.
    Done,
    /// Nothing was done, and it may be tried again.
    Again,
    /// Nothing was done; the host does not want the device there.
    BadPlace(Error),
    /// Nothing was done.
    Refused(Error),
    /// Nobody knows; no task of the VM runs any more.
    Doubt,
}

/// What is known while one attach or detach is under way.
struct Course<'a> {
    host: &'a EsxHost,
    id: &'a VmId,
    disk: &'a DiskPath,
    deadline: Instant,
    /// A change that went out without an answer, until a look settles it.
    doubt: Option<String>,
}

impl Course<'_> {
    /// The VM and its devices, now. With a doubt it is worth waiting for hostd to come back.
    async fn look(&mut self) -> Result<(Known, Hardware), HostError> {
        loop {
            let why = match self.host.look(self.id, self.deadline).await {
                Ok(seen) => {
                    self.doubt = None;
                    return Ok(seen);
                }
                Err(why) => why,
            };
            // A VM that is gone took the doubt with it.
            let settled = matches!(why, HostError::NoSuchVm { .. });
            if self.doubt.is_none() || settled || Instant::now() + PAUSE >= self.deadline {
                return Err(if settled { why } else { self.doubtful(why) });
            }
            self.pause().await;
        }
    }

    /// A failure, with the doubt there is.
    fn doubtful(&self, why: HostError) -> HostError {
        match &self.doubt {
            Some(doubt) => HostError::NoAnswer {
                why: format!("{doubt}; and then: {why}"),
            },
            None => why,
        }
    }

    async fn pause(&self) {
        sleep_until(self.deadline.min(Instant::now() + PAUSE)).await;
    }

    async fn find(&self, hardware: &Hardware) -> Option<Mine> {
        let stores = &self.host.stores;
        let wanted = stores.names.plain(&stores.catalog, self.disk).await;
        let mine = devices::disks(stores, hardware).await;
        mine.into_iter().find(|m| m.path == wanted)
    }

    /// Changes one thing.
    async fn change(&mut self, vm: &Known, change: DeviceChange) -> Made {
        let (client, spec) = (&self.host.esx.client, ConfigSpec::device(change));
        let begun = client.reconfig_vm(&vm.object, &spec, self.deadline).await;
        let error = match begun {
            Ok(task) => match client.finish(&task, |_| (), self.deadline).await {
                Ok(_) => return Made::Done,
                Err(why) => why,
            },
            Err(why) => why,
        };
        if error.effect() == Effect::Unknown {
            self.doubt = Some(error.to_string());
            self.quiet(&vm.object).await;
            return Made::Doubt;
        }
        if faults::is_worth_another_try(&error) || faults::is_gone(&error) {
            return Made::Again;
        }
        match faults::is_bad_place(&error) {
            true => Made::BadPlace(error),
            false => Made::Refused(error),
        }
    }

    /// Waits until no task of the VM is queued or runs: what was sent has happened by then, or never will. While hostd is
    /// away there is nothing to wait for; the look that follows waits for it.
    async fn quiet(&self, vm: &MoRef) {
        let client = &self.host.esx.client;
        while Instant::now() < self.deadline {
            let read = client.properties(vm, &["recentTask"], self.deadline).await;
            let Ok(found) = read else { return };
            let tasks: Vec<MoRef> = found
                .get("recentTask")
                .map(|list| list.children().iter().filter_map(|e| e.moref()).collect())
                .unwrap_or_default();
            let states = client
                .properties_of("Task", &tasks, &["info.state"], self.deadline)
                .await;
            let runs = |text: &str| matches!(text, "queued" | "running");
            let busy = match states {
                Ok(states) => states
                    .iter()
                    .any(|t| t.properties.text("info.state").is_some_and(runs)),
                // One of them ended and is forgotten: look at the others again.
                Err(why) if faults::is_gone(&why) => true,
                Err(_) => return,
            };
            if !busy {
                return;
            }
            self.pause().await;
        }
    }
}

impl EsxHost {
    pub(crate) async fn attach_disk(
        &self,
        id: &VmId,
        disk: &DiskPath,
        how: DiskMode,
        deadline: Instant,
    ) -> Result<AttachedDisk, HostError> {
        let _turn = self.queues.turn(id, deadline).await?;
        let mut course = self.course(id, disk, deadline);
        let mut refused: BTreeSet<Unit> = BTreeSet::new();
        let mut last = HostError::Failed {
            why: "it is not there though hostd says it was attached".to_owned(),
        };
        let mut is_asked = false;
        for _ in 0..ROUNDS {
            let (vm, hardware) = course.look().await?;
            if let Some(mine) = course.find(&hardware).await {
                match already(&vm, &hardware, &mine, how)? {
                    Some(there) => return Ok(there),
                    // Attached, and the host does not say where yet.
                    None if Instant::now() + PAUSE < deadline => course.pause().await,
                    None => break,
                }
                continue;
            }
            if vm.vm.power != Power::On {
                break;
            }
            if !is_asked {
                // A disk that somebody has open may freeze the VM that opens it as well: rather ask first.
                if let DiskLock::Held { by } = self.lock_elsewhere(disk, how).await {
                    return Err(HostError::Locked { holder: by });
                }
                is_asked = true;
            }
            let (change, at) = match place::next(&hardware, &refused) {
                Place::Full => return Err(HostError::NoSlot { vm: vm.vm.name }),
                Place::AddController { bus } => {
                    (DeviceChange::AddParaVirtual { key: KEY, bus }, None)
                }
                Place::At { controller, unit } => {
                    (add(disk, how, controller, unit), Some((controller, unit)))
                }
            };
            match (course.change(&vm, change).await, at) {
                (Made::Done | Made::Doubt, _) => {}
                (Made::Again, _) => course.pause().await,
                (Made::BadPlace(why), Some(at)) => {
                    tracing::info!(vm = vm.vm.name, unit = at.1, %why, "the host does not take a disk there");
                    refused.insert(at);
                    last = faults::host(&why, &vm.vm.name, &disk.to_string());
                }
                (Made::BadPlace(why) | Made::Refused(why), _) => {
                    return Err(self.refusal(&why, &vm, disk).await);
                }
            }
        }
        let (vm, hardware) = course.look().await?;
        match (course.find(&hardware).await, vm.vm.power) {
            (Some(_), _) => Err(HostError::NoAnswer {
                why: "the disk is attached, and hostd does not say where".to_owned(),
            }),
            (None, Power::On) => Err(last),
            (None, Power::Off | Power::Suspended) => Err(HostError::PoweredOff { vm: vm.vm.name }),
        }
    }

    pub(crate) async fn detach_disk(
        &self,
        id: &VmId,
        disk: &DiskPath,
        deadline: Instant,
    ) -> Result<Detached, HostError> {
        let _turn = self.queues.turn(id, deadline).await?;
        let mut course = self.course(id, disk, deadline);
        let mut was_there = false;
        for _ in 0..ROUNDS {
            let (vm, hardware) = course.look().await?;
            let Some(mine) = course.find(&hardware).await else {
                return Ok(match was_there {
                    true => Detached::Removed,
                    false => Detached::WasAbsent,
                });
            };
            was_there = true;
            match course
                .change(&vm, DeviceChange::RemoveDisk(mine.disk))
                .await
            {
                Made::Done | Made::Doubt => {}
                Made::Again => course.pause().await,
                Made::BadPlace(why) | Made::Refused(why) => {
                    return Err(match vm.vm.power {
                        Power::Suspended => HostError::Failed {
                            why: format!(
                                "VM {} is suspended and keeps its disks: resume it, or power it off",
                                vm.vm.name
                            ),
                        },
                        Power::On | Power::Off => {
                            faults::host(&why, &vm.vm.name, &disk.to_string())
                        }
                    });
                }
            }
        }
        Err(course.doubtful(HostError::Failed {
            why: "hostd keeps it in the VM's configuration though it says it was removed"
                .to_owned(),
        }))
    }

    fn course<'a>(&'a self, id: &'a VmId, disk: &'a DiskPath, deadline: Instant) -> Course<'a> {
        Course {
            host: self,
            id,
            disk,
            deadline,
            doubt: None,
        }
    }

    /// Who has the disk now, as far as the host can tell. Readers beside readers are no matter.
    async fn lock_elsewhere(&self, disk: &DiskPath, how: DiskMode) -> DiskLock {
        match is_read_only(how) {
            true => DiskLock::Free,
            false => self.locks.of(disk).await,
        }
    }

    /// What a refused attach means. That the disk is held is worth a name.
    async fn refusal(&self, why: &Error, vm: &Known, disk: &DiskPath) -> HostError {
        let meant = faults::host(why, &vm.vm.name, &disk.to_string());
        let is_config = why.fault().is_some_and(|f| {
            matches!(
                f.kind,
                FaultKind::VmConfigFault { .. } | FaultKind::FileFault { .. }
            )
        });
        if !is_config && !matches!(meant, HostError::Locked { .. }) {
            return meant;
        }
        match (self.locks.of(disk).await, meant) {
            (DiskLock::Held { by }, _) => HostError::Locked { holder: by },
            (_, meant) => meant,
        }
    }
}

/// The answer for a disk the VM has already. None: it has it, and the host does not say where.
fn already(
    vm: &Known,
    hardware: &Hardware,
    mine: &Mine,
    how: DiskMode,
) -> Result<Option<AttachedDisk>, HostError> {
    if devices::is_read_only(&mine.disk) != is_read_only(how) {
        return Err(HostError::Failed {
            why: format!(
                "disk {} is attached to VM {} in the other mode",
                mine.path, vm.vm.name
            ),
        });
    }
    if vm.vm.power != Power::On {
        return Err(HostError::PoweredOff {
            vm: vm.vm.name.clone(),
        });
    }
    Ok(
        devices::locator(hardware, &mine.disk).map(|locator| AttachedDisk {
            locator,
            disk_uuid: mine.disk.backing.uuid.clone(),
        }),
    )
}

fn add(disk: &DiskPath, how: DiskMode, controller_key: i32, unit: i32) -> DeviceChange {
    DeviceChange::AddDisk {
        key: KEY,
        file: disk.to_string(),
        controller_key,
        unit,
        mode: how,
        // A limit belongs to the attachment; volumes have none yet.
        iops_limit: None,
    }
}

fn is_read_only(mode: DiskMode) -> bool {
    mode == DiskMode::IndependentNonpersistent
}
