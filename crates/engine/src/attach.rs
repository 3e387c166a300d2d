//! Attach: plan → if somebody holds it, wait holding nothing → take the key → plan again → record → host → record.
//!
//! ```text
//!   find ─► under the key: plan ─┬─ Begin ──► operation in record ─► Host.attach ─► owner in record ─► reply
//!             ▲                  ├─ Resolve, Release ─► settle, then again
//!             │                  └─ Wait, Prove ─► key given back ─► park: change here │ 250 ms │ deadline
//!             └────────────────────────────────────────────────────────┘
//! ```
//! The hypervisor's lock decides who writes. A refusal by it is an ordinary answer: the record goes back to *free* and
//! the request waits on. The deadline and the caller's leaving count until the operation is in the record.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use vdvs_domain::error::{Holder, full_name};
use vdvs_domain::ownership::{Event, Locator};
use vdvs_domain::record::{Answer, Fingerprint, RequestResult};
use vdvs_domain::{Error, OperationKind, Owner, Timestamp, VolumeAddress, VolumeRecord};

use crate::admission::Admitted;
use crate::api::{Actor, Attached, Call, Caller};
use crate::audit::fingerprint;
use crate::inner::Inner;
use crate::keyed::{Held, Key};
use crate::layout::Place;
use crate::plan::{Asked, Plan, attach_read_only, plan_attach};
use crate::ports::{AttachedDisk, HostError, VmDisk};
use crate::proof::Proof;
use crate::records::{Change, Stored};

/// Rounds without waiting. Each settles something another request or host began.
const ROUNDS: usize = 16;

/// One request to attach.
#[derive(Debug, Clone)]
struct Job {
    caller: Caller,
    call: Call,
    read_only: bool,
    fingerprint: Fingerprint,
}

/// What one round came to.
enum Step {
    Done(Box<Stored>, AttachedDisk),
    /// Something was settled: plan again at once.
    Again,
    /// Somebody has it.
    Held {
        stored: Box<Stored>,
        holder: Holder,
        /// Looking at the lock may help.
        prove: bool,
        /// This round tried, and so changed the record. That is no reason to look again at once, neither for this
        /// waiter nor for the others: they would keep each other awake.
        tried: bool,
    },
}

impl Inner {
    pub(crate) async fn attach(
        self: &Arc<Self>,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        read_only: bool,
        wait: Duration,
        mut admitted: Admitted,
    ) -> Result<Attached, Error> {
        let stored = self.find(caller, address).await?;
        self.usable(caller, &stored.place.ds).await?;
        let job = Job {
            caller: caller.clone(),
            call: call.clone(),
            read_only,
            fingerprint: fingerprint(caller, "attach", stored.record.id, &read_only.to_string()),
        };
        let begun = self.instant();
        let until = begun.checked_add(wait).unwrap_or(begun).min(call.deadline);
        let mut changes = self.notices.changes();
        let mut proof = Proof::default();
        let mut waiter = None;
        let mut rounds = 0;
        loop {
            changes.mark_unchanged();
            let (held, holder, tried) =
                match self.attach_step(&job, &stored.place, &mut proof).await? {
                    Step::Done(stored, disk) => {
                        drop(waiter);
                        let waited = self.instant().saturating_duration_since(begun);
                        return Ok(self.attached(&job, &stored, disk, waited).await);
                    }
                    Step::Again if rounds < ROUNDS => {
                        rounds += 1;
                        continue;
                    }
                    Step::Again => {
                        return Err(Error::Contended {
                            name: stored.name(),
                        });
                    }
                    Step::Held {
                        stored,
                        holder,
                        tried,
                        ..
                    } => (stored, holder, tried),
                };
            if self.instant() >= until {
                return Err(self.in_vain(&held, holder, begun, wait));
            }
            let owner = held.record.ownership.owner().map(|o| o.vm.id.clone());
            if waiter.as_ref().is_none_or(|(_, told)| *told != owner) {
                // The old place is given up first, so that one waiter counts once.
                drop(waiter.take());
                let place = self
                    .notices
                    .wait(held.record.id, owner.as_ref(), &caller.vm);
                waiter = Some((place, owner));
                tracing::info!(volume = %held.name(), vm = %caller.vm, %holder, "waiting for the volume");
            }
            admitted.park()?;
            let wake = (!tried).then_some(&mut changes);
            self.park(call, until, wake).await?;
            admitted.resume().await?;
            rounds = 0;
        }
    }

    /// Waits for a change here if `changes` are of interest, for the next poll, or for the end of the wait.
    async fn park(
        &self,
        call: &Call,
        until: Instant,
        changes: Option<&mut watch::Receiver<u64>>,
    ) -> Result<(), Error> {
        let now = self.instant();
        let poll = now
            .checked_add(self.settings.poll)
            .unwrap_or(now)
            .min(until);
        let change = async {
            match changes {
                Some(changes) => drop(changes.changed().await),
                None => pending().await,
            }
        };
        tokio::select! {
            () = call.cancel.cancelled() => {
                return Err(Error::DeadlinePassed { doing: "waiting for the volume" });
            }
            () = change => {}
            () = sleep_until(poll) => {}
        }
        Ok(())
    }

    fn in_vain(&self, held: &Stored, holder: Holder, begun: Instant, wait: Duration) -> Error {
        let name = held.name();
        if wait.is_zero() {
            let verb = "attach";
            return Error::InUse { verb, name, holder };
        }
        let waited = self.instant().saturating_duration_since(begun);
        Error::WaitedInVain {
            name,
            holder,
            waited_ms: u64::try_from(waited.as_millis()).unwrap_or(u64::MAX),
        }
    }

    async fn attached(
        &self,
        job: &Job,
        stored: &Stored,
        disk: AttachedDisk,
        waited: Duration,
    ) -> Attached {
        let detail = format!(
            "epoch {}, waited {} ms",
            stored.record.epoch,
            waited.as_millis()
        );
        let (actor, id) = (Actor::Vm(&job.caller), Some(stored.record.id));
        self.audit(actor, "attach", stored.name().to_string(), id, detail)
            .await;
        Attached {
            view: self.view(stored).await,
            epoch: stored.record.epoch,
            locator: disk.locator,
            disk_uuid: disk.disk_uuid,
            waited,
        }
    }

    async fn attach_step(
        self: &Arc<Self>,
        job: &Job,
        place: &Place,
        proof: &mut Proof,
    ) -> Result<Step, Error> {
        let step = self.attach_round(job, place).await?;
        let Step::Held {
            stored,
            prove: true,
            ..
        } = &step
        else {
            return Ok(step);
        };
        // Looking at the lock takes time and needs no key.
        if !self.prove_dead(stored, proof).await? {
            return Ok(step);
        }
        let key = self
            .hold(Key::Volume(stored.record.id), "release", &job.call)
            .await?;
        let (me, stored) = (Arc::clone(self), stored.clone());
        self.to_the_end(async move {
            let _key = key;
            me.release_proven(&stored).await
        })
        .await?;
        Ok(Step::Again)
    }

    async fn attach_round(self: &Arc<Self>, job: &Job, place: &Place) -> Result<Step, Error> {
        let id_known = self.read_existing(place).await?.record.id;
        let key = self
            .hold(Key::Volume(id_known), "attach", &job.call)
            .await?;
        let stored = self.read_existing(place).await?;
        let state = self.owner_state_of(&stored.record).await?;
        let read_only = attach_read_only(&stored.record, job.read_only);
        let asked = Asked {
            vm: &job.caller.vm.id,
            request: job.call.request,
            fingerprint: &job.fingerprint,
            read_only,
        };
        let superseded = |given| Error::Superseded {
            name: stored.name(),
            given,
            current: stored.record.epoch,
        };
        let plan = plan_attach(&stored.record, &asked, state);
        match plan {
            Plan::Mismatch => Err(Error::RequestMismatch {
                request: job.call.request.to_string(),
            }),
            Plan::Superseded(given) => Err(superseded(given)),
            Plan::Wait | Plan::Prove => Ok(Step::Held {
                holder: self.holder_of(&stored),
                stored: Box::new(stored),
                prove: plan == Plan::Prove,
                tried: false,
            }),
            Plan::Repeat | Plan::Begin | Plan::Resolve | Plan::Release => {
                self.still_wanted(&job.call, "attaching the volume")?;
                self.attach_act(job.clone(), key, stored, plan, read_only)
                    .await
            }
        }
    }

    async fn attach_act(
        self: &Arc<Self>,
        job: Job,
        key: Held,
        stored: Stored,
        plan: Plan,
        read_only: bool,
    ) -> Result<Step, Error> {
        let me = Arc::clone(self);
        self.to_the_end(async move {
            let _key = key;
            match plan {
                Plan::Resolve => me.settled(stored).await.map(|_| Step::Again),
                Plan::Release => me.release_powered_off(&stored).await.map(|_| Step::Again),
                Plan::Repeat => me.attach_again(&job, stored).await,
                _ => Box::pin(me.attach_new(&job, stored, read_only)).await,
            }
        })
        .await
    }

    /// The record of a volume that exists.
    pub(crate) async fn read_existing(&self, place: &Place) -> Result<Stored, Error> {
        let found = self.read_record(place).await?;
        found
            .filter(|s| s.record.exists())
            .ok_or_else(|| Error::VolumeNotFound {
                address: full_name(&place.name, &place.ds).to_string(),
                looked_on: place.ds.to_string(),
            })
    }

    fn holder_of(&self, stored: &Stored) -> Holder {
        match stored.record.ownership.owner() {
            Some(owner) => self.holder(owner),
            None => held_by("a clone that reads it"),
        }
    }

    /// The same request again: the host says where the disk is; nothing changes.
    async fn attach_again(&self, job: &Job, stored: Stored) -> Result<Step, Error> {
        let read_only = stored.record.ownership.owner().is_some_and(|o| o.read_only);
        match self.host_attach(job, &stored.place, read_only).await {
            Ok(disk) => Ok(Step::Done(Box::new(stored), disk)),
            Err(why) => Err(self.attach_error(&why, &stored)),
        }
    }

    async fn attach_new(&self, job: &Job, stored: Stored, read_only: bool) -> Result<Step, Error> {
        let begun = match self.begin_attach(job, &stored, read_only).await {
            Ok(begun) => begun,
            // Another host was first: look again.
            Err(Error::Contended { .. }) => return Ok(Step::Again),
            Err(why) => return Err(why),
        };
        let failed = match self.host_attach(job, &begun.place, read_only).await {
            Ok(disk) => {
                let done = self.end_attach(&begun, Some(disk.locator.clone())).await;
                if let Err(Error::Superseded { .. }) = &done {
                    self.take_back(&begun).await;
                }
                return Ok(Step::Done(Box::new(done?), disk));
            }
            Err(why) => why,
        };
        match self.disk_in(&begun).await {
            // Attached by an earlier try, whatever this one said.
            Ok(Some(VmDisk {
                locator: Some(locator),
                read_only: mode,
                ..
            })) if mode == read_only => {
                let done = self.end_attach(&begun, Some(locator.clone())).await?;
                let disk_uuid = None;
                Ok(Step::Done(
                    Box::new(done),
                    AttachedDisk { locator, disk_uuid },
                ))
            }
            Ok(None) => {
                let undone = self.undo_attach(&begun).await?;
                if let HostError::Locked { holder } = &failed {
                    return Ok(Step::Held {
                        holder: held_by(holder),
                        stored: Box::new(undone),
                        prove: false,
                        tried: true,
                    });
                }
                Err(self.attach_error(&failed, &undone))
            }
            Ok(Some(_)) | Err(_) => match &begun.record.operation {
                Some(operation) => Err(Self::unresolved(begun.name(), operation, failed)),
                None => Err(Error::Internal("an attach without operation".to_owned())),
            },
        }
    }

    /// The volume was taken from the VM while the host was attaching it: nobody was told of the disk, so it goes again.
    async fn take_back(&self, begun: &Stored) {
        let Some(owner) = begun.record.ownership.owner() else {
            return;
        };
        let vm = &owner.vm.id;
        let now = self.read_record(&begun.place).await;
        if !now.is_ok_and(|s| s.is_some_and(|s| !s.record.ownership.is_owned_by(vm))) {
            return;
        }
        let _queue = self.keys.hold(Key::Vm(vm.clone()), "take back").await;
        let (disk, deadline) = (begun.place.disk(), self.host_deadline());
        if let Err(why) = self.ports.host.detach(vm, &disk, deadline).await {
            let subject = Self::subject(&begun.name());
            self.said
                .once(subject, &format!("{why}: it stays in VM {}", owner.vm));
        }
    }

    async fn begin_attach(
        &self,
        job: &Job,
        planned: &Stored,
        read_only: bool,
    ) -> Result<Stored, Error> {
        let operation = self.operation(OperationKind::Attach, &job.call, &job.fingerprint);
        let (since, host) = (self.now(), self.host);
        self.change(&planned.place, |record| {
            if record
                .operation
                .as_ref()
                .is_some_and(|o| o.request == operation.request && o.host == host)
            {
                return Ok(Change::Keep);
            }
            if *record != planned.record {
                return Err(Error::Contended {
                    name: planned.name(),
                });
            }
            let mut next = record.clone();
            let owner = Owner {
                vm: job.caller.vm.clone(),
                host,
                since,
                read_only,
                // Kept while the same VM attaches again: an unfinished attach that has a locator was attached before,
                // so undoing it must not take the disk away.
                locator: record.ownership.owner().and_then(|o| o.locator.clone()),
            };
            next.ownership = record.ownership.apply(Event::BeginAttach(owner))?;
            next.epoch = record.epoch.next();
            next.operation = Some(operation.clone());
            Ok(next.into())
        })
        .await
    }

    /// The host call, once more when the first gave no answer: repeating it is harmless and tells.
    async fn host_attach(
        &self,
        job: &Job,
        place: &Place,
        read_only: bool,
    ) -> Result<AttachedDisk, HostError> {
        let vm = &job.caller.vm.id;
        let _queue = self.keys.hold(Key::Vm(vm.clone()), "attach").await;
        let (host, disk, deadline) = (&self.ports.host, place.disk(), self.host_deadline());
        match host.attach(vm, &disk, read_only, deadline).await {
            Err(why) if why.outcome_is_unknown() => {
                tracing::debug!(%disk, %why, "asking the host once more");
                host.attach(vm, &disk, read_only, deadline).await
            }
            answer => answer,
        }
    }

    /// The disk as it stands in the configuration of the VM the record names.
    pub(crate) async fn disk_in(&self, stored: &Stored) -> Result<Option<VmDisk>, HostError> {
        let Some(owner) = stored.record.ownership.owner() else {
            return Ok(None);
        };
        let disk = stored.place.disk();
        let disks = self.ports.host.disks(&owner.vm.id).await?;
        Ok(disks.into_iter().find(|d| d.disk == disk))
    }

    /// The host attached the disk.
    pub(crate) async fn end_attach(
        &self,
        begun: &Stored,
        locator: Option<Locator>,
    ) -> Result<Stored, Error> {
        self.change(&begun.place, |record| match &record.operation {
            Some(operation) if record.operation == begun.record.operation => {
                let mut next = record.clone();
                next.ownership = record.ownership.apply(Event::Attached(locator.clone()))?;
                next.remember(RequestResult {
                    request: operation.request,
                    fingerprint: operation.fingerprint.clone(),
                    answer: Answer::Attached {
                        epoch: record.epoch,
                    },
                });
                next.operation = None;
                Ok(next.into())
            }
            None if record.epoch == begun.record.epoch && same_owner(record, begun) => {
                Ok(Change::Keep)
            }
            _ => Err(Error::Superseded {
                name: begun.name(),
                given: begun.record.epoch,
                current: record.epoch,
            }),
        })
        .await
    }

    /// The disk is not in the VM's configuration.
    pub(crate) async fn undo_attach(&self, begun: &Stored) -> Result<Stored, Error> {
        self.change(&begun.place, |record| {
            if record.operation != begun.record.operation || record.operation.is_none() {
                return Ok(Change::Keep);
            }
            let mut next = record.clone();
            next.ownership = record.ownership.apply(Event::AttachUndone)?;
            next.operation = None;
            Ok(next.into())
        })
        .await
    }

    fn attach_error(&self, why: &HostError, stored: &Stored) -> Error {
        match why {
            HostError::NoSlot { vm } => Error::NoSlot { vm: vm.clone() },
            HostError::NoSuchDisk { disk } => Error::Damaged {
                what: format!("volume {}", stored.name()),
                why: format!("its disk {disk} does not exist"),
            },
            HostError::Locked { holder } => Error::InUse {
                verb: "attach",
                name: stored.name(),
                holder: held_by(holder),
            },
            other => Error::HostFailed {
                verb: "attach the disk",
                why: other.to_string(),
            },
        }
    }
}

fn same_owner(record: &VolumeRecord, begun: &Stored) -> bool {
    let owner = begun.record.ownership.owner();
    owner.is_some_and(|o| record.ownership.is_owned_by(&o.vm.id))
}

/// A holder that only the hypervisor knows of.
fn held_by(who: &str) -> Holder {
    Holder {
        vm: who.to_owned(),
        host: "unknown".to_owned(),
        since: Timestamp::default(),
    }
}
