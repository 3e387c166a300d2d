//! `vdvs volume detach`: an administrator takes a volume from the VM that has it.
//!
//! | the VM | asked | with force |
//! |---|---|---|
//! | runs here | its guest is told; it lets go what it does not use | taken from it: the fence |
//! | is off here | released | the same |
//! | is elsewhere | a claim, as another VM's; proof that it cannot write releases it | a claim that its agent answers with the fence |
//! | elsewhere, and nobody answers | refused, naming what is missing | released without proof, if nobody holds the disk |
//! | is suspended | refused: it writes again when it is resumed | the same |
//!
//! A release without proof changes only what we write down. Who writes is still decided by the hypervisor's lock: a VM
//! that lives after all keeps others out, so where the lock is seen to be held nothing is released.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use uuid::Uuid;
use vdvs_domain::error::Holder;
use vdvs_domain::{Error, Failover, Owner, Ownership, VmId, VmRef};

use crate::api::{Actor, Call, LocalUser, Outcome};
use crate::claims::Claiming;
use crate::inner::Inner;
use crate::keyed::Key;
use crate::plan::OwnerState;
use crate::ports::{DiskLock, Power};
use crate::proof::{Proof, SUSPENDED};
use crate::records::Stored;
use crate::release::Taken;

/// How long a guest that runs here is given to let go: it needs a moment to unmount.
const ORDERLY: Duration = Duration::from_secs(10);
/// How long another host's agent, or a proof, is waited for: a proof takes five seconds of a free lock, a fence less.
const ELSEWHERE: Duration = Duration::from_secs(25);

/// What one look came to.
enum Look {
    /// Nobody has it.
    Free,
    /// Something was done: look again.
    Again,
    /// Wait.
    Held(Owner, OwnerState),
}

/// An administrator who takes a volume.
struct Taker<'a> {
    who: String,
    call: &'a Call,
    force: bool,
    since: Instant,
    proof: Proof,
    claiming: Claiming,
}

impl Inner {
    /// Takes a volume from its VM. `Unchanged`: nobody had it. Says what happened, line by line.
    ///
    /// # Errors
    /// [`Error::InUse`] naming the holder, why it was not taken, and what to do.
    pub(crate) async fn admin_take(
        self: &Arc<Self>,
        user: &LocalUser,
        call: &Call,
        address: &str,
        force: bool,
    ) -> Result<Outcome<Vec<String>>, Error> {
        let stored = self.admin_find(address).await?;
        let name = stored.name();
        if stored.is_unrecorded() {
            return Ok(Outcome::Unchanged(vec![format!("{name} is not attached")]));
        }
        let by = VmRef {
            id: VmId {
                instance_uuid: Uuid::nil(),
                config_path: String::new(),
            },
            name: user.to_string(),
        };
        let claiming = Claiming::new(self, &by, call.request);
        let mut taker = Taker {
            who: user.to_string(),
            call,
            force,
            since: self.instant(),
            proof: Proof::default(),
            claiming: match force {
                true => claiming.at_once(),
                false => claiming,
            },
        };
        let before = self.read_existing(&stored.place).await?;
        let Some(owner) = before.record.ownership.owner().cloned() else {
            self.not_being_read(&before).await?;
            return Ok(Outcome::Unchanged(vec![format!("{name} is not attached")]));
        };
        let line = self.take(&mut taker, &before, &by).await?;
        let holder = self.holder(&owner);
        let how = match force {
            true => "by force",
            false => "in order",
        };
        let detail = format!("{how}: was attached to {holder}");
        let id = Some(before.record.id);
        self.audit(Actor::Admin(user), "detach", name.to_string(), id, detail)
            .await;
        let first = format!("{name} was taken from {holder}");
        Ok(Outcome::Changed([first].into_iter().chain(line).collect()))
    }

    async fn not_being_read(&self, stored: &Stored) -> Result<(), Error> {
        match stored.record.ownership {
            Ownership::Reading { .. } => Err(self.being_cloned("detach", stored).await),
            _ => Ok(()),
        }
    }

    /// Until nobody has it; what was lost by that, if anything.
    async fn take(
        self: &Arc<Self>,
        taker: &mut Taker<'_>,
        before: &Stored,
        by: &VmRef,
    ) -> Result<Option<String>, Error> {
        let mut changes = self.notices.changes(before.record.id);
        let began = (self.now(), taker.since);
        let mut waiter = None;
        let mut lost = None;
        loop {
            changes.mark_unchanged();
            let stored = self.read_existing(&before.place).await?;
            let looked = self.take_look(taker, &stored, before, &mut lost).await?;
            let (owner, state) = match looked {
                Look::Free => return Ok(lost),
                Look::Again => continue,
                Look::Held(owner, state) => (owner, state),
            };
            if waiter.is_none() && matches!(state, OwnerState::Here(_)) {
                // The guest is told, once.
                let id = before.record.id;
                waiter = Some(self.notices.wait(id, Some(&owner.vm.id), by, began));
            }
            let now = self.instant();
            let left = taker.call.deadline.saturating_duration_since(now);
            if now >= self.patience(taker, state) || left < Duration::from_secs(1) {
                if taker.force && state == OwnerState::NotHere {
                    lost = Some(self.release_by_force(taker, &stored, &owner).await?);
                    continue;
                }
                return Err(self.not_taken(taker, &stored, &owner, state));
            }
            let poll = now.checked_add(self.settings.poll).unwrap_or(now);
            tokio::select! {
                biased;
                () = taker.call.cancel.cancelled() => {
                    return Err(Error::DeadlinePassed { doing: "waiting for the volume" });
                }
                () = changes.changed() => {}
                () = sleep_until(poll) => {}
            }
        }
    }

    fn patience(&self, taker: &Taker<'_>, state: OwnerState) -> Instant {
        let wait = match state {
            OwnerState::Here(_) => ORDERLY,
            OwnerState::NotHere | OwnerState::None => ELSEWHERE,
        };
        taker.since.checked_add(wait).unwrap_or(taker.since)
    }

    async fn take_look(
        self: &Arc<Self>,
        taker: &mut Taker<'_>,
        stored: &Stored,
        before: &Stored,
        lost: &mut Option<String>,
    ) -> Result<Look, Error> {
        let Some(owner) = stored.record.ownership.owner().cloned() else {
            return Ok(Look::Free);
        };
        // Taken from who had it, and somebody else has it by now.
        if stored.record.epoch != before.record.epoch {
            return Ok(Look::Free);
        }
        let state = self.owner_state_of(stored).await?;
        match state {
            OwnerState::Here(Power::Off) => {
                self.release_if_off(stored).await?;
                // What is under way is settled by the next look.
                let now = self.read_existing(&stored.place).await?;
                if now.record == stored.record {
                    self.resolve_one(stored).await?;
                }
                return Ok(Look::Again);
            }
            OwnerState::Here(Power::Suspended) => {
                return Err(self.not_taken(taker, stored, &owner, state));
            }
            OwnerState::Here(Power::On) if taker.force => {
                self.fence_for_admin(stored, &taker.who).await?;
                *lost = Some(format!(
                    "VM {} runs: what it had not written to the volume is lost",
                    owner.vm
                ));
                return Ok(Look::Again);
            }
            OwnerState::Here(Power::On) => {}
            OwnerState::NotHere | OwnerState::None => {
                taker.claiming.claim(stored).await;
                if self.prove_dead(stored, &mut taker.proof).await? {
                    let key = Key::Volume(stored.record.id);
                    let _key = self.hold(key, "release", taker.call).await?;
                    self.release_proven(stored).await?;
                    return Ok(Look::Again);
                }
            }
        }
        Ok(Look::Held(owner, state))
    }

    /// Nobody answers for the owner, and an administrator says that it is to go.
    async fn release_by_force(
        &self,
        taker: &Taker<'_>,
        stored: &Stored,
        owner: &Owner,
    ) -> Result<String, Error> {
        let held = match self.ports.host.lock(&stored.place.disk()).await {
            DiskLock::Held { .. } => true,
            DiskLock::Free | DiskLock::Unknown { .. } => false,
        };
        if held || taker.proof.against == SUSPENDED {
            return Err(self.not_taken(taker, stored, owner, OwnerState::NotHere));
        }
        let key = Key::Volume(stored.record.id);
        let _key = self.hold(key, "forced release", taker.call).await?;
        let now = self.read_existing(&stored.place).await?;
        if now.record.same_attachment(&stored.record) {
            let how = format!("without proof, by force, for {}", taker.who);
            self.released(&now, Taken::by_force(how)).await?;
        }
        let host = self.holder(owner).host;
        Ok(format!(
            "host {host} did not answer and nothing proves that VM {} is dead: if it still runs, what it had not written is lost, and the hypervisor's lock keeps one of the two out; power it off before you use the volume",
            owner.vm
        ))
    }

    fn not_taken(
        &self,
        taker: &Taker<'_>,
        stored: &Stored,
        owner: &Owner,
        state: OwnerState,
    ) -> Error {
        let mut holder: Holder = self.holder(owner);
        holder.note = match state {
            OwnerState::Here(Power::Suspended) => SUSPENDED,
            OwnerState::NotHere if !taker.proof.against.is_empty() => taker.proof.against,
            OwnerState::NotHere if taker.force => {
                "which still holds the disk's lock while its host's agent does not answer: power it off there"
            }
            OwnerState::NotHere => {
                "which was asked for it and did not let it go; nothing proves that it is dead. --force takes it"
            }
            _ if stored.record.options.failover == Failover::Fence => {
                "which still uses it; --force takes it now"
            }
            _ => "which still uses it; --force takes it, and what is not written is lost",
        };
        Error::InUse {
            verb: "detach",
            name: stored.name(),
            holder,
        }
    }
}
