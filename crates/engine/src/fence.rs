//! The fence: taking a volume from a live VM, because its options say `failover=fence` and another VM has waited.
//!
//! ```text
//!  wanted for fence-after ─► under the key: still owned, still wanted, VM runs ─► operation in the record
//!     ─► Host.fence (the guest's requests fail; when it returns no byte changes any more) ─► owner away ─► audit
//! ```
//! Only the agent of the host where the owner is registered does this, and never to a VM that is suspended: the host
//! cannot change the configuration of one. After a crash the operation is finished while it is young, and given up when
//! it is old and the disk is still there; a disk that is gone from the VM ends it either way.

use std::sync::Arc;
use std::time::Duration;

use vdvs_domain::record::Fingerprint;
use vdvs_domain::{Error, Operation, OperationKind, RequestId};

use crate::inner::Inner;
use crate::keyed::{Held, Key};
use crate::plan::OwnerState;
use crate::ports::{Detached, HostError, Power};
use crate::records::{Change, Stored};
use crate::release::Taken;

impl Inner {
    /// Fences the owner as it was when `planned` was read, for `claimant`, who has waited for `waited`. Does
    /// nothing when anything changed meanwhile, or had to be settled first: the next look decides anew.
    pub(crate) async fn fence(
        self: &Arc<Self>,
        planned: &Stored,
        claimant: &str,
        waited: Duration,
    ) -> Result<(), Error> {
        let key = self
            .keys
            .hold(Key::Volume(planned.record.id), "fence")
            .await;
        let now = self.read_existing(&planned.place).await?;
        if now.record.operation.is_some() {
            return self.settled(now).await.map(drop);
        }
        if self.wanted_now(&now).is_none() {
            return Ok(());
        }
        let why = format!("for {claimant}, which waited {:.1} s", waited.as_secs_f64());
        self.fence_under_key(planned, now, key, why).await
    }

    /// Fences the owner as it was when `planned` was read, because an administrator says so.
    pub(crate) async fn fence_for_admin(
        self: &Arc<Self>,
        planned: &Stored,
        who: &str,
    ) -> Result<(), Error> {
        let key = Key::Volume(planned.record.id);
        let key = self.keys.hold(key, "forced detach").await;
        let now = self.read_existing(&planned.place).await?;
        if now.record.operation.is_some() {
            return self.settled(now).await.map(drop);
        }
        let why = format!("by force, for {who}");
        self.fence_under_key(planned, now, key, why).await
    }

    async fn fence_under_key(
        self: &Arc<Self>,
        planned: &Stored,
        now: Stored,
        key: Held,
        why: String,
    ) -> Result<(), Error> {
        let running = OwnerState::Here(Power::On);
        if !now.record.same_attachment(&planned.record)
            || self.owner_state_of(&now).await? != running
        {
            return Ok(());
        }
        let me = Arc::clone(self);
        self.to_the_end(async move {
            let _key = key;
            let begun = me.begin_fence(&now, why).await?;
            me.finish_fence(&begun).await.map(drop)
        })
        .await
    }

    async fn begin_fence(&self, planned: &Stored, why: String) -> Result<Stored, Error> {
        let operation = Operation {
            kind: OperationKind::Fence,
            request: RequestId::new(self.ports.ids.uuid()),
            fingerprint: Fingerprint(why),
            host: self.host,
            started: self.now(),
            deadline: self.wall(self.host_deadline()),
        };
        self.change(&planned.place, |record| {
            if record.operation.as_ref() == Some(&operation) {
                return Ok(Change::Keep);
            }
            if !record.same_attachment(&planned.record) {
                return Err(Error::Contended {
                    name: planned.name(),
                });
            }
            let mut next = record.clone();
            next.operation = Some(operation.clone());
            Ok(next.into())
        })
        .await
    }

    /// Finishes a fence that stands in the record, or gives it up.
    pub(crate) async fn finish_fence(&self, begun: &Stored) -> Result<Stored, Error> {
        let (Some(owner), Some(operation)) = (
            begun.record.ownership.owner().cloned(),
            begun.record.operation.clone(),
        ) else {
            return Err(Error::Internal(
                "a fence without owner or operation".to_owned(),
            ));
        };
        let unresolved = |why: String| Self::unresolved(begun.name(), &operation, why);
        let vm = &owner.vm.id;
        let queue = self.keys.hold(Key::Vm(vm.clone()), "fence").await;
        let late = self.now() > operation.deadline;
        match self.owner_state_of(begun).await? {
            OwnerState::Here(Power::Off) => {}
            OwnerState::Here(Power::On) if !late => {}
            OwnerState::Here(_) => {
                drop(queue);
                return self
                    .give_taking_up(begun, Taken::by_fence(&operation))
                    .await;
            }
            OwnerState::NotHere | OwnerState::None => {
                return Err(unresolved(
                    "its VM is not registered on this host".to_owned(),
                ));
            }
        }
        let answer = self.host_fence(begun).await;
        drop(queue);
        if let Err(why) = answer {
            match self.disk_in(begun).await {
                Ok(None) => {}
                Ok(Some(_)) if !why.outcome_is_unknown() => {
                    let taken = Taken::by_fence(&operation);
                    self.give_taking_up(begun, taken).await?;
                    return Err(Error::HostFailed {
                        verb: "take the disk from the VM",
                        why: why.to_string(),
                    });
                }
                Ok(Some(_)) | Err(_) => return Err(unresolved(why.to_string())),
            }
        }
        self.released(begun, Taken::by_fence(&operation)).await
    }

    /// The host call, once more when it gave no answer: repeating it is harmless and tells.
    async fn host_fence(&self, begun: &Stored) -> Result<Detached, HostError> {
        let Some(owner) = begun.record.ownership.owner() else {
            return Ok(Detached::WasAbsent);
        };
        let (host, vm, disk) = (&self.ports.host, &owner.vm.id, begun.place.disk());
        match host.fence(vm, &disk, self.host_deadline()).await {
            Err(why) if why.outcome_is_unknown() => {
                tracing::debug!(%disk, %why, "asking the host once more");
                host.fence(vm, &disk, self.host_deadline()).await
            }
            answer => answer,
        }
    }
}
