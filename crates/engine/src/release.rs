//! Taking a volume from an owner that is proven unable to write; and the last step, common with the fence: the record
//! says that the owner lost it, the owner's guest is told, the audit gets its row.

use vdvs_domain::ownership::Event;
use vdvs_domain::record::Fingerprint;
use vdvs_domain::{Error, Operation, OperationKind, RequestId};

use crate::api::Actor;
use crate::inner::Inner;
use crate::keyed::Key;
use crate::plan::OwnerState;
use crate::ports::Power;
use crate::records::{Change, Stored};

/// How an owner lost a volume, for the audit.
#[derive(Debug)]
pub(crate) struct Taken {
    verb: &'static str,
    how: String,
}

impl Taken {
    /// With proof that the owner cannot write.
    pub(crate) fn by_proof(how: &str) -> Self {
        Self {
            verb: "release",
            how: how.to_owned(),
        }
    }

    /// Without proof, because an administrator said so.
    pub(crate) fn by_force(how: String) -> Self {
        Self {
            verb: "forced release",
            how,
        }
    }

    /// From a live owner, for who `operation` says.
    pub(crate) fn by_fence(operation: &Operation) -> Self {
        Self {
            verb: "fence",
            how: format!("taken from the live VM {}", operation.fingerprint.0),
        }
    }
}

impl Inner {
    /// The *power-off release*: takes the disk out of the configuration of an owner that is off on this host. The
    /// caller holds the volume's key.
    pub(crate) async fn release_powered_off(&self, stored: &Stored) -> Result<Stored, Error> {
        let begun = self.begin_release(stored).await?;
        self.finish_release(&begun).await
    }

    async fn begin_release(&self, stored: &Stored) -> Result<Stored, Error> {
        let now = self.now();
        let operation = Operation {
            kind: OperationKind::Release,
            request: RequestId::new(self.ports.ids.uuid()),
            fingerprint: Fingerprint("power-off release".to_owned()),
            host: self.host,
            started: now,
            deadline: now,
        };
        self.change(&stored.place, |record| {
            if record.operation.as_ref() == Some(&operation) {
                return Ok(Change::Keep);
            }
            if !record.same_attachment(&stored.record) {
                return Err(Error::Contended {
                    name: stored.name(),
                });
            }
            let mut next = record.clone();
            next.operation = Some(operation.clone());
            Ok(next.into())
        })
        .await
    }

    /// Finishes a release that stands in the record, or gives it up when the owner runs again.
    pub(crate) async fn finish_release(&self, begun: &Stored) -> Result<Stored, Error> {
        let (Some(owner), Some(operation)) = (
            begun.record.ownership.owner().cloned(),
            begun.record.operation.clone(),
        ) else {
            return Err(Error::Internal(
                "a release without owner or operation".to_owned(),
            ));
        };
        let unresolved = |why: String| Self::unresolved(begun.name(), &operation, why);
        let queue = self
            .keys
            .hold(Key::Vm(owner.vm.id.clone()), "release")
            .await;
        match self.owner_state_of(begun).await? {
            OwnerState::Here(Power::Off) => {}
            OwnerState::Here(_) => {
                drop(queue);
                let taken = Taken::by_proof("its VM runs again without the disk");
                return self.give_taking_up(begun, taken).await;
            }
            OwnerState::NotHere | OwnerState::None => {
                return Err(unresolved(
                    "its VM is not registered on this host".to_owned(),
                ));
            }
        }
        let (disk, deadline) = (begun.place.disk(), self.host_deadline());
        let detached = self.ports.host.detach(&owner.vm.id, &disk, deadline).await;
        drop(queue);
        if let Err(why) = detached {
            match self.disk_in(begun).await {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => return Err(unresolved(why.to_string())),
            }
        }
        self.released(begun, Taken::by_proof("power-off release"))
            .await
    }

    /// Ends a release or fence without it: the owner keeps the disk. If it has none any more, it lost it all the same.
    /// Either begins only where nothing else is under way, so that the volume is *attached* and stays so.
    pub(crate) async fn give_taking_up(
        &self,
        begun: &Stored,
        taken: Taken,
    ) -> Result<Stored, Error> {
        let present = self.disk_in(begun).await.map_err(|why| Error::HostFailed {
            verb: "list the VM's disks",
            why: why.to_string(),
        })?;
        if present.is_none() {
            return self.released(begun, taken).await;
        }
        self.change(&begun.place, |record| {
            if record.operation != begun.record.operation {
                return Ok(Change::Keep);
            }
            let mut next = record.clone();
            next.operation = None;
            Ok(next.into())
        })
        .await
    }

    /// Writes that the owner lost the volume, and says so to everybody.
    pub(crate) async fn released(&self, begun: &Stored, taken: Taken) -> Result<Stored, Error> {
        let released = self
            .change(&begun.place, |record| {
                if record.operation != begun.record.operation
                    || record.ownership != begun.record.ownership
                {
                    // Over already: perhaps by our own write, which somebody's next attach followed so soon that we
                    // could not tell that it was there.
                    let over = record.epoch != begun.record.epoch;
                    return match record.ownership.owner() {
                        Some(_) if !over => Err(Error::Contended { name: begun.name() }),
                        _ => Ok(Change::Keep),
                    };
                }
                let mut next = record.clone();
                next.ownership = record.ownership.apply(Event::Released)?;
                next.operation = None;
                Ok(Change::Taken(Box::new(next)))
            })
            .await?;
        if let Some(owner) = begun.record.ownership.owner() {
            let (id, epoch) = (begun.record.id, begun.record.epoch);
            self.notices.superseded(&owner.vm.id, id, epoch);
            let Taken { verb, how } = taken;
            let holder = self.holder(owner);
            let detail = format!("{how}: was attached to {holder}, epoch {epoch}");
            let name = begun.name().to_string();
            self.audit(Actor::Reconciler, verb, name, Some(id), detail)
                .await;
        }
        Ok(released)
    }

    /// Takes the volume from an owner that is not here and was proven dead. No host call is needed: one change of the
    /// record, which fails if anything happened since the proof.
    pub(crate) async fn release_proven(&self, stored: &Stored) -> Result<(), Error> {
        let now = self.read_existing(&stored.place).await?;
        if !now.record.same_attachment(&stored.record)
            || self.owner_state_of(&now).await? != OwnerState::NotHere
        {
            return Ok(());
        }
        let proof = Taken::by_proof("its lock was free, its VM is not suspended");
        self.released(&now, proof).await.map(drop)
    }
}
