//! Finishing or undoing what a record says is under way, by looking: at the disk for *create* and *delete*, at the
//! VM's device list for *attach*, *detach*, *release* and *fence*. Used at start, by the sweep, and by a request that meets
//! such a record. The caller holds the volume's key (and the name's, for create and delete), so the operation is
//! nobody's on this host any more.
//!
//! An attach whose deadline passed is never completed, unless the disk was attached before it began.

use vdvs_domain::{Error, OperationKind, Timestamp, VolumeAddress};

use crate::inner::{Inner, unavailable};
use crate::keyed::Key;
use crate::plan::OwnerState;
use crate::ports::{HostError, Power, VmDisk};
use crate::records::Stored;

impl Inner {
    /// The record with no attach, detach, release or fence under way.
    pub(crate) async fn settled(&self, stored: Stored) -> Result<Stored, Error> {
        let Some(operation) = stored.record.operation.clone() else {
            return Ok(stored);
        };
        tracing::info!(volume = %stored.name(), operation = operation.kind.name(), "finishing what was left");
        match operation.kind {
            OperationKind::Attach => self.settle_attach(&stored).await,
            OperationKind::Detach => match self.finish_detach(&stored).await {
                // The guest uses it again, or still: it stays attached, and that is settled.
                Err(Error::InUse { .. }) => self.read_existing(&stored.place).await,
                other => other,
            },
            OperationKind::Release => self.finish_release(&stored).await,
            OperationKind::Fence => self.finish_fence(&stored).await,
            OperationKind::Create | OperationKind::Delete => Err(Self::unresolved(
                stored.name(),
                &operation,
                "it is not a volume yet or any more",
            )),
        }
    }

    async fn settle_attach(&self, stored: &Stored) -> Result<Stored, Error> {
        let (Some(owner), Some(operation)) =
            (stored.record.ownership.owner(), &stored.record.operation)
        else {
            return Err(Error::Internal("an attach without owner".to_owned()));
        };
        let unresolved = |why: String| Self::unresolved(stored.name(), operation, why);
        let power = match self.owner_state(&owner.vm.id).await? {
            OwnerState::Here(power) => power,
            OwnerState::NotHere | OwnerState::None => {
                return Err(unresolved(
                    "its VM is not registered on this host".to_owned(),
                ));
            }
        };
        let disk = self
            .disk_in(stored)
            .await
            .map_err(|why| unresolved(why.to_string()))?;
        let Some(VmDisk {
            locator, read_only, ..
        }) = disk
        else {
            return self.undo_attach(stored).await;
        };
        let in_time = self.now() <= operation.deadline;
        let was_attached = owner.locator.is_some();
        let mode_fits = read_only == owner.read_only;
        if power != Power::Off && locator.is_some() && (was_attached || (in_time && mode_fits)) {
            return self.end_attach(stored, locator).await;
        }
        let queue = self
            .keys
            .hold(Key::Vm(owner.vm.id.clone()), "undo attach")
            .await;
        let deadline = self.host_deadline();
        let undone = self
            .ports
            .host
            .detach(&owner.vm.id, &stored.place.disk(), deadline)
            .await;
        drop(queue);
        match undone {
            Ok(_) => self.undo_attach(stored).await,
            // In use: then it is attached, whatever the caller heard.
            Err(HostError::Busy) => self.end_attach(stored, locator).await,
            Err(why) => Err(unresolved(why.to_string())),
        }
    }

    /// Finishes a create whose disk is complete, undoes one without; finishes a delete.
    pub(crate) async fn resolve_making(&self, stored: &Stored) -> Result<(), Error> {
        let Some(operation) = &stored.record.operation else {
            return Ok(());
        };
        let (place, id) = (&stored.place, stored.record.id);
        if !self.may_resolve_making(stored) {
            // It is at it, and needs no help.
            return Ok(());
        }
        tracing::info!(volume = %stored.name(), operation = operation.kind.name(), "finishing what was left");
        match operation.kind {
            OperationKind::Delete => {
                let group = stored.record.group;
                self.remove_everything(place, group, id, [operation.request])
                    .await
            }
            OperationKind::Create => {
                let disk = place.disk();
                let stat = self
                    .ports
                    .datastores
                    .stat_disk(&disk.datastore, &disk.path)
                    .await;
                let stat = stat.map_err(|why| unavailable(&place.ds, &why))?;
                let complete = stat.is_some_and(|s| s.capacity == stored.record.capacity);
                let good =
                    complete && self.is_entered(stored).await? && self.copy_is_good(stored).await?;
                if !good || self.finish_create(place, &stored.record).await.is_err() {
                    self.undo_create(place, id).await?;
                }
                self.free_source_of(stored).await
            }
            _ => Ok(()),
        }
    }

    /// Whether a create or delete is this host's own, or another's that is old enough to be finished by anybody, or
    /// that nobody renewed while this host looked. Courtesy, not safety: both would write the result by *swap*.
    pub(crate) fn may_resolve_making(&self, stored: &Stored) -> bool {
        const OLD_MILLIS: u64 = 10 * 60 * 1000;
        if self.works.get(stored.record.id).is_some() {
            return false;
        }
        let age = |started: Timestamp| self.now().millis().saturating_sub(started.millis());
        let operation = stored.record.operation.as_ref();
        let seen = stored.record.making.as_ref().map(|m| m.seen);
        let last = |started: Timestamp| seen.map_or(started, |seen| seen.max(started));
        operation.is_none_or(|o| o.host == self.host || age(last(o.started)) > OLD_MILLIS)
            || self.is_ripe(&format!(
                "making of {} in version {}",
                stored.record.id, stored.seq
            ))
    }

    /// Whether the vmgroup's total has room for a volume that is being made: its disk may be there before that is known.
    async fn is_entered(&self, stored: &Stored) -> Result<bool, Error> {
        let ledger = self.ledger(&stored.place.ds, stored.record.group).await?;
        Ok(ledger.entries.contains_key(&stored.record.id))
    }

    /// Takes the keys and resolves whatever is under way with this volume.
    pub(crate) async fn resolve_one(&self, stored: &Stored) -> Result<(), Error> {
        let place = &stored.place;
        if self.works.get(stored.record.id).is_some() {
            // This host is at it.
            return Ok(());
        }
        let making = !stored.record.exists();
        let name = Key::Name(place.ds.clone(), stored.record.group, place.name.clone());
        let _name = match making {
            true => Some(self.keys.hold(name, "resolve").await),
            false => None,
        };
        let _key = self
            .keys
            .hold(Key::Volume(stored.record.id), "resolve")
            .await;
        let Some(now) = self.read_record(place).await? else {
            return Ok(());
        };
        if now.record.exists() {
            return self.settled(now).await.map(drop);
        }
        if making {
            return self.resolve_making(&now).await;
        }
        // It became a delete since: the next sweep comes with both keys.
        Ok(())
    }

    /// How messages name a volume.
    pub(crate) fn subject(name: &VolumeAddress) -> String {
        format!("volume {name}")
    }
}
