//! Attach: plan → if somebody holds it, wait holding nothing → take the key → plan again → record → host → record.
//!
//! ```text
//!   find ─► under the key: plan ─┬─ Begin ──► operation in record ─► Host.attach ─► owner in record ─► reply
//!             ▲                  ├─ Resolve, Release ─► settle, then again
//!             │                  └─ Wait, Prove ─► key given back ─► park: change here │ 250 ms │ deadline
//!             └────────────────────────────────────────────────────────┘
//! ```
//! The hypervisor's lock decides who writes. A refusal by it is an ordinary answer: the record goes back to *free* and
//! the request waits on, looking at the lock before it tries again. A volume that a VM of another host has is claimed
//! (`claims`). The deadline and the caller's leaving count until the operation is in the record.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use vdvs_domain::error::{Holder, full_name};
use vdvs_domain::record::Fingerprint;
use vdvs_domain::{Error, Failover, GroupId, Ownership, VolumeAddress};

use crate::admission::Admitted;
use crate::api::{Actor, Attached, Call, Caller};
use crate::audit::fingerprint;
use crate::claims::{Claiming, reserved_for_another};
use crate::inner::Inner;
use crate::keyed::{Held, Key};
use crate::layout::Place;
use crate::notices::Changes;
use crate::plan::{Asked, OwnerState, Plan, attach_read_only, plan_attach};
use crate::ports::{AttachedDisk, DiskLock, Power};
use crate::proof::{Proof, SUSPENDED};
use crate::records::Stored;

/// Rounds without waiting. Each settles something another request or host began.
const ROUNDS: usize = 16;
/// A refused disk whose lock the host cannot look at is tried again after this time.
const BLIND_TRY: Duration = Duration::from_secs(2);
/// A fence that is due has happened by so much later, or nobody does it.
const FENCE_TAKES: Duration = Duration::from_secs(5);

/// One request to attach.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) caller: Caller,
    pub(crate) call: Call,
    read_only: bool,
    /// The vmgroup in which the volume was found, and in which the caller may use it.
    group: GroupId,
    pub(crate) fingerprint: Fingerprint,
}

/// What may end a wait, beside a change of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing else.
    Record,
    /// The lock refused: it has to be looked at before anybody tries again.
    Lock,
    /// The owner is not here: its lock may prove it dead, and its host's agent is asked by a claim.
    Proof,
}

/// What one round came to.
pub(crate) enum Step {
    Done(Box<Stored>, AttachedDisk),
    /// Something was settled: plan again at once.
    Again,
    /// Somebody has it.
    Held {
        stored: Box<Stored>,
        holder: Holder,
        look: Look,
        /// This round tried, and so changed the record. That is no reason to look again at once, neither for this
        /// waiter nor for the others: they would keep each other awake.
        tried: bool,
    },
}

/// What a waiting request remembers between rounds.
struct Round {
    proof: Proof,
    claiming: Claiming,
    /// When the lock refused us last.
    refused: Option<Instant>,
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
        let stored = self.adopt(self.find(caller, address).await?).await?;
        self.usable(caller, &stored.place.ds).await?;
        let job = Job {
            caller: caller.clone(),
            call: call.clone(),
            read_only,
            group: stored.record.group,
            fingerprint: fingerprint(caller, "attach", stored.record.id, &read_only.to_string()),
        };
        let begun = self.instant();
        let until = begun.checked_add(wait).unwrap_or(begun).min(call.deadline);
        let since = (self.now(), begun);
        let mut changes = self.notices.changes(stored.record.id);
        let mut round = Round {
            proof: Proof::default(),
            claiming: Claiming::new(self, &caller.vm, call.request),
            refused: None,
        };
        let mut waiter = None;
        let mut rounds = 0;
        loop {
            changes.mark_unchanged();
            let step = self.attach_step(&job, &stored.place, &mut round).await?;
            let (held, holder, look, tried) = match step {
                Step::Done(stored, disk) => {
                    round.claiming.fulfilled();
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
                    look,
                    tried,
                } => (stored, holder, look, tried),
            };
            if self.instant() >= until {
                return Err(self.in_vain(&held, holder, look, begun, wait));
            }
            if look == Look::Proof {
                round.claiming.claim(&held).await;
            }
            let owner = held.record.ownership.owner().map(|o| o.vm.id.clone());
            if waiter.as_ref().is_none_or(|(_, told)| *told != owner) {
                // The old place is given up first, so that one waiter counts once.
                drop(waiter.take());
                let place = self
                    .notices
                    .wait(held.record.id, owner.as_ref(), &caller.vm, since);
                waiter = Some((place, owner));
                tracing::info!(volume = %held.name(), vm = %caller.vm, %holder, "waiting for the volume");
                self.hosts.news();
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
        changes: Option<&mut Changes>,
    ) -> Result<(), Error> {
        let now = self.instant();
        let poll = now
            .checked_add(self.settings.poll)
            .unwrap_or(now)
            .min(until);
        let change = async {
            match changes {
                Some(changes) => changes.changed().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            () = call.cancel.cancelled() => {
                return Err(Error::DeadlinePassed { doing: "waiting for the volume" });
            }
            () = change => {}
            () = sleep_until(poll) => {}
        }
        Ok(())
    }

    fn in_vain(
        &self,
        held: &Stored,
        mut holder: Holder,
        look: Look,
        begun: Instant,
        wait: Duration,
    ) -> Error {
        let name = held.name();
        if wait.is_zero() {
            let verb = "attach";
            return Error::InUse { verb, name, holder };
        }
        let waited = self.instant().saturating_duration_since(begun);
        let options = &held.record.options;
        let fenced_by_now = options.fence_after.duration().saturating_add(FENCE_TAKES);
        if holder.note.is_empty()
            && look == Look::Proof
            && options.failover == Failover::Fence
            && waited > fenced_by_now
        {
            holder.note = "which its host has not taken it from: is the agent there running?";
        }
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
        round: &mut Round,
    ) -> Result<Step, Error> {
        let mut step = self.attach_round(job, place, round.refused).await?;
        let Step::Held {
            stored,
            look,
            holder,
            tried,
        } = &mut step
        else {
            return Ok(step);
        };
        match look {
            Look::Record => return Ok(step),
            Look::Lock => {
                if *tried {
                    round.refused = Some(self.instant());
                }
                return Ok(step);
            }
            Look::Proof => {}
        }
        // Looking at the lock takes time and needs no key.
        if !self.prove_dead(stored, &mut round.proof).await? {
            holder.note = round.proof.against;
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

    async fn attach_round(
        self: &Arc<Self>,
        job: &Job,
        place: &Place,
        refused: Option<Instant>,
    ) -> Result<Step, Error> {
        let id_known = self.read_existing(place).await?.record.id;
        let key = self
            .hold(Key::Volume(id_known), "attach", &job.call)
            .await?;
        let stored = self.read_existing(place).await?;
        if stored.record.group != job.group {
            // It was moved while this request waited: it is looked up anew, by the rules of now.
            let name = stored.name().to_string();
            return Err(Error::OnTheMove { name });
        }
        if self.is_read(&stored) {
            // No wait: a copy may take hours.
            return match self.end_stale_read(&stored).await? {
                true => Ok(Step::Again),
                false => Err(self.being_cloned("attach", &stored).await),
            };
        }
        let state = self.owner_state_of(&stored).await?;
        let read_only = attach_read_only(&stored.record, job.read_only);
        let vm = &job.caller.vm.id;
        let (now, lease) = (self.now(), self.settings.claim_lease);
        let asked = Asked {
            vm,
            request: job.call.request,
            fingerprint: &job.fingerprint,
            read_only,
            reserved: reserved_for_another(&stored.record, vm, now, lease).is_some(),
        };
        let plan = plan_attach(&stored.record, &asked, state);
        match plan {
            Plan::Mismatch => Err(Error::RequestMismatch {
                request: job.call.request.to_string(),
            }),
            Plan::Superseded(given) => Err(Error::Superseded {
                name: stored.name(),
                given,
                current: stored.record.epoch,
            }),
            Plan::Wait | Plan::Prove => Ok(Step::Held {
                holder: self.holder_of(&stored, state),
                stored: Box::new(stored),
                look: match plan {
                    Plan::Prove => Look::Proof,
                    _ => Look::Record,
                },
                tried: false,
            }),
            Plan::Repeat | Plan::Begin | Plan::Resolve | Plan::Release => {
                if plan == Plan::Begin
                    && let Some(refused) = refused
                    && let Some(holder) = self.still_locked(&stored, refused).await
                {
                    return Ok(Step::Held {
                        holder,
                        stored: Box::new(stored),
                        look: Look::Lock,
                        tried: false,
                    });
                }
                self.still_wanted(&job.call, "attaching the volume")?;
                self.attach_act(job.clone(), key, stored, plan, read_only)
                    .await
            }
        }
    }

    /// Whether a volume whose lock refused us at `refused` would refuse us again: then it is not tried, which would
    /// cost two changes of the record. Where the host cannot say, it is tried again after a while.
    async fn still_locked(&self, stored: &Stored, refused: Instant) -> Option<Holder> {
        match self.ports.host.lock(&stored.place.disk()).await {
            DiskLock::Free => None,
            DiskLock::Held { by } => Some(Holder::seen_by_the_lock(&by)),
            DiskLock::Unknown { .. } => {
                let age = self.instant().saturating_duration_since(refused);
                (age < BLIND_TRY).then(|| Holder::seen_by_the_lock("unknown"))
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

    fn holder_of(&self, stored: &Stored, state: OwnerState) -> Holder {
        let record = &stored.record;
        let Some(owner) = record.ownership.owner() else {
            return match (&record.ownership, &record.claim) {
                (Ownership::Free, Some(claim)) => Holder {
                    vm: claim.vm.name.as_str().into(),
                    host: claim.host_name.as_str().into(),
                    since: claim.since,
                    note: "which waited for it before",
                },
                _ => Holder::seen_by_the_lock("a clone that reads it"),
            };
        };
        let mut holder = self.holder(owner);
        if let OwnerState::Here(power) = state {
            holder.host = self.host_name(self.host).into();
            if power == Power::Suspended {
                holder.note = SUSPENDED;
            }
        }
        holder
    }
}
