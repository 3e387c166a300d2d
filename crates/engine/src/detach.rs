//! Detach: compare the epoch under the key → operation in the record → `Host.detach` → record.
//!
//! Works from what is observable alone and needs no privilege: who holds a volume may always let it go. A message
//! about an older attachment succeeds and changes nothing.

use std::sync::Arc;

use vdvs_domain::error::full_name;
use vdvs_domain::ownership::Event;
use vdvs_domain::record::{Answer, Fingerprint, RequestResult};
use vdvs_domain::{Epoch, Error, OperationKind, VolumeId};

use crate::api::{Actor, Call, Caller, Outcome};
use crate::audit::fingerprint;
use crate::inner::Inner;
use crate::keyed::Key;
use crate::ports::{HostError, VmDisk};
use crate::records::{Change, RECORD_LOST, Stored};

impl Inner {
    pub(crate) async fn detach(
        self: &Arc<Self>,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
    ) -> Result<Outcome<()>, Error> {
        let fingerprint = fingerprint(caller, "detach", volume, &epoch.to_string());
        let Some(found) = self.by_id(volume).await? else {
            if self.has_disk_of(&caller.vm.id, volume).await {
                return Err(Error::Damaged {
                    what: format!("the record of volume {volume}"),
                    why: RECORD_LOST.to_owned(),
                });
            }
            return Ok(Outcome::Unchanged(()));
        };
        let key = self.hold(Key::Volume(volume), "detach", call).await?;
        self.still_wanted(call, "detaching the volume")?;
        let (me, caller, call) = (Arc::clone(self), caller.clone(), call.clone());
        self.to_the_end(async move {
            let _key = key;
            Box::pin(me.detach_under_key(&caller, &call, found, epoch, fingerprint)).await
        })
        .await
    }

    async fn detach_under_key(
        &self,
        caller: &Caller,
        call: &Call,
        found: Stored,
        epoch: Epoch,
        fingerprint: Fingerprint,
    ) -> Result<Outcome<()>, Error> {
        let Some(stored) = self.read_record(&found.place).await? else {
            return Ok(Outcome::Unchanged(()));
        };
        if !stored.record.exists() {
            return Ok(Outcome::Unchanged(()));
        }
        let stored = self.settled(stored).await?;
        if let Some(result) = stored.record.recall(call.request) {
            if result.fingerprint == fingerprint {
                return Ok(Outcome::Unchanged(()));
            }
            let request = call.request.to_string();
            return Err(Error::RequestMismatch { request });
        }
        let name = full_name(&stored.record.name, &stored.place.ds);
        if epoch > stored.record.epoch {
            return Err(Error::Invalid {
                what: "epoch",
                problem: format!(
                    "{name} never had epoch {epoch}, it has {}",
                    stored.record.epoch
                ),
            });
        }
        if stored.record.rebuilt
            && epoch < stored.record.epoch
            && stored.record.ownership.is_owned_by(&caller.vm.id)
        {
            // Nobody can say any more whether that is this attachment or an earlier one. The guest learns the epoch
            // with its next report, and asks again.
            return Err(Error::Unresolved {
                name,
                operation: "rebuild",
                why: format!(
                    "its record was rebuilt, it has epoch {} now",
                    stored.record.epoch
                ),
            });
        }
        if epoch < stored.record.epoch || !stored.record.ownership.is_owned_by(&caller.vm.id) {
            return Ok(Outcome::Unchanged(()));
        }
        let operation = self.operation(OperationKind::Detach, call, &fingerprint);
        let begun = self
            .change(&stored.place, |record| {
                if record
                    .operation
                    .as_ref()
                    .is_some_and(|o| o.request == operation.request)
                {
                    return Ok(Change::Keep);
                }
                if !record.same_attachment(&stored.record) {
                    return Err(Error::Contended { name: name.clone() });
                }
                let mut next = record.clone();
                next.ownership = record.ownership.apply(Event::BeginDetach)?;
                next.operation = Some(operation.clone());
                Ok(next.into())
            })
            .await?;
        self.finish_detach(&begun).await?;
        let (actor, detail) = (Actor::Vm(caller), format!("epoch {epoch}"));
        self.audit(
            actor,
            "detach",
            name.to_string(),
            Some(stored.record.id),
            detail,
        )
        .await;
        Ok(Outcome::Changed(()))
    }

    /// The host call of a detach that stands in the record, and its result. May run again after a crash: the guest
    /// let the device go before it asked, and cannot have it again without a new attach.
    pub(crate) async fn finish_detach(&self, begun: &Stored) -> Result<Stored, Error> {
        let (Some(owner), Some(operation)) = (
            begun.record.ownership.owner().cloned(),
            begun.record.operation.clone(),
        ) else {
            return Err(Error::Internal(
                "a detach without owner or operation".to_owned(),
            ));
        };
        let (vm, disk) = (&owner.vm.id, begun.place.disk());
        let queue = self.keys.hold(Key::Vm(vm.clone()), "detach").await;
        let mut answer = self
            .ports
            .host
            .detach(vm, &disk, self.host_deadline())
            .await;
        if let Err(why) = &answer
            && why.outcome_is_unknown()
        {
            tracing::debug!(%disk, %why, "asking the host once more");
            answer = self
                .ports
                .host
                .detach(vm, &disk, self.host_deadline())
                .await;
        }
        drop(queue);
        let failed = match answer {
            Ok(_) => return self.detach_result(begun, Event::Detached).await,
            Err(why) => why,
        };
        let unknown = failed.outcome_is_unknown();
        match self.disk_in(begun).await {
            Ok(None) => self.detach_result(begun, Event::Detached).await,
            Ok(Some(VmDisk { .. })) if !unknown => {
                let refused = self.detach_result(begun, Event::DetachRefused).await?;
                Err(self.detach_error(failed, &refused))
            }
            Ok(Some(_)) | Err(_) => Err(Self::unresolved(begun.name(), &operation, failed)),
        }
    }

    async fn detach_result(&self, begun: &Stored, event: Event) -> Result<Stored, Error> {
        let done = event == Event::Detached;
        self.change(&begun.place, |record| {
            let Some(operation) = &record.operation else {
                return Ok(Change::Keep);
            };
            if record.operation != begun.record.operation {
                return Err(Error::Contended { name: begun.name() });
            }
            let mut next = record.clone();
            next.ownership = record.ownership.apply(event.clone())?;
            if done {
                next.remember(RequestResult {
                    request: operation.request,
                    fingerprint: operation.fingerprint.clone(),
                    answer: Answer::Detached,
                });
            }
            next.operation = None;
            Ok(next.into())
        })
        .await
    }

    fn detach_error(&self, why: HostError, stored: &Stored) -> Error {
        match (why, stored.record.ownership.owner()) {
            (HostError::Busy, Some(owner)) => Error::InUse {
                verb: "detach",
                name: stored.name(),
                holder: self.holder(owner),
            },
            (other, _) => Error::HostFailed {
                verb: "detach the disk",
                why: other.to_string(),
            },
        }
    }
}
