//! Delete: record with the operation → disk → ledger → claim → record.
//!
//! From the first step on the volume exists for nobody. The record goes last, so whatever is left says what it is;
//! the claim goes before it, and only if it still is this volume's.
//!
//! A name may pass to another volume between two tries of one request, and the agent that gets the second need not have
//! heard of the first: it was on another host, or another host finished it. So who asks says which volume is meant, and
//! from the look-up on nothing is touched but what bears its id.

use std::collections::BTreeSet;
use std::sync::Arc;

use vdvs_domain::access::{self, Verb};
use vdvs_domain::error::Holder;
use vdvs_domain::record::Fingerprint;
use vdvs_domain::{
    DatastoreName, Error, GroupId, OperationKind, Ownership, RequestId, VolumeAddress, VolumeId,
    VolumeName,
};

use crate::api::{Actor, Call, Caller};
use crate::audit::fingerprint;
use crate::inner::{Inner, unavailable};
use crate::keyed::Key;
use crate::layout::{self, Place};
use crate::ledger::Entry;
use crate::plan::OwnerState;
use crate::ports::{DiskLock, Power};
use crate::records::{Change, Claim, Stored};

fn check_protection(stored: &Stored) -> Result<(), Error> {
    match stored.record.protected {
        true => Err(Error::Protected {
            name: stored.name(),
        }),
        false => Ok(()),
    }
}

impl Inner {
    pub(crate) async fn delete(
        self: &Arc<Self>,
        caller: &Caller,
        call: &Call,
        address: &VolumeAddress,
        meant: Option<VolumeId>,
    ) -> Result<VolumeId, Error> {
        if let Some(id) = self.recall_deleted(call.request).await {
            return Ok(id);
        }
        let stored = self.find(caller, address).await?;
        if let Some(meant) = meant.filter(|meant| *meant != stored.record.id) {
            let name = stored.name();
            return Err(Error::AnotherVolume { name, meant });
        }
        let open = self.usable(caller, &stored.place.ds).await?;
        access::decide(&open.rules.access, &caller.access(), Verb::Delete, &open.ds)?;
        let fingerprint = fingerprint(caller, "delete", stored.record.id, "");
        let id = self.delete_volume(call, &stored, fingerprint).await?;
        let (actor, name) = (Actor::Vm(caller), stored.name().to_string());
        self.audit(actor, "delete", name, Some(id), String::new())
            .await;
        Ok(id)
    }

    /// Deletes a volume that nobody holds.
    pub(crate) async fn delete_volume(
        self: &Arc<Self>,
        call: &Call,
        stored: &Stored,
        fingerprint: Fingerprint,
    ) -> Result<VolumeId, Error> {
        let stored = self.adopt(stored.clone()).await?;
        let (place, group, id) = (stored.place, stored.record.group, stored.record.id);
        if let Some(work) = self.works.get(id) {
            // An administrator does not want what is being made: its maker takes it back.
            work.progress.stop();
            self.ended_by(&work, call.deadline).await;
            self.still_wanted(call, "waiting for the end of the volume's making")?;
        }
        let name_key = Key::Name(place.ds.clone(), group, place.name.clone());
        let name_key = self.hold(name_key, "delete", call).await?;
        let key = self.hold(Key::Volume(id), "delete", call).await?;
        self.still_wanted(call, "deleting the volume")?;
        let (me, call) = (Arc::clone(self), call.clone());
        self.to_the_end(async move {
            let _keys = (name_key, key);
            Box::pin(me.delete_under_keys(&call, &place, group, id, fingerprint)).await
        })
        .await
    }

    async fn delete_under_keys(
        self: &Arc<Self>,
        call: &Call,
        place: &Place,
        group: GroupId,
        id: VolumeId,
        fingerprint: Fingerprint,
    ) -> Result<VolumeId, Error> {
        let now = self.read_record(place).await?;
        let Some(mut stored) = now.filter(|now| now.record.id == id) else {
            // Another delete finished while this one waited for the key.
            self.remember_deleted(call.request, id).await;
            return Ok(id);
        };
        if stored.record.exists() {
            stored = self.settled_move(stored).await?;
            if stored.record.group != group {
                // Who may remove it was asked of the vmgroup it was in.
                let name = stored.name().to_string();
                return Err(Error::OnTheMove { name });
            }
            check_protection(&stored)?;
            stored = self.settled(stored).await?;
            if self.is_read(&stored) {
                if !self.end_stale_read(&stored).await? {
                    return Err(self.being_cloned("remove", &stored).await);
                }
                stored = self.read_existing(place).await?;
            }
            self.check_nobody_has_it(&mut stored).await?;
            let operation = self.operation(OperationKind::Delete, call, &fingerprint);
            stored = self
                .change(place, |record| {
                    match (&record.operation, &record.ownership) {
                        (Some(o), _) if o.kind == OperationKind::Delete => Ok(Change::Keep),
                        (None, Ownership::Free)
                            if record.moving.is_none()
                                && record.group == group
                                && !record.protected =>
                        {
                            let mut next = record.clone();
                            next.operation = Some(operation.clone());
                            Ok(next.into())
                        }
                        _ => Err(Error::Contended {
                            name: stored.name(),
                        }),
                    }
                })
                .await?;
        }
        if let Some(operation) = &stored.record.operation
            && operation.kind == OperationKind::Create
            && !self.may_resolve_making(&stored)
        {
            let far = self.making_in_words(&stored.record);
            let why = far.unwrap_or_else(|| "another host is at it".to_owned());
            return Err(Self::unresolved(stored.name(), operation, why));
        }
        let begun = stored.record.operation.iter();
        let begun = begun.filter(|o| o.kind == OperationKind::Delete);
        let asked: BTreeSet<_> = begun.map(|o| o.request).chain([call.request]).collect();
        self.remove_everything(place, stored.record.group, id, asked)
            .await?;
        self.free_source_of(&stored).await?;
        Ok(id)
    }

    /// A move that stands in the record first: who removes the volume must know whose it is.
    async fn settled_move(&self, stored: Stored) -> Result<Stored, Error> {
        match stored.record.moving {
            Some(_) => self.settle_volume_move(stored).await,
            None => Ok(stored),
        }
    }

    /// The volume is free, or its owner is off and it can be released; and the hypervisor knows of nobody either.
    async fn check_nobody_has_it(self: &Arc<Self>, stored: &mut Stored) -> Result<(), Error> {
        if let Some(owner) = stored.record.ownership.owner().cloned() {
            if self.owner_state_of(stored).await? != OwnerState::Here(Power::Off) {
                return Err(Error::InUse {
                    verb: "remove",
                    name: stored.name(),
                    holder: self.holder(&owner),
                });
            }
            *stored = self.release_powered_off(stored).await?;
        }
        match self.ports.host.lock(&stored.place.disk()).await {
            DiskLock::Held { by } => Err(Error::InUse {
                verb: "remove",
                name: stored.name(),
                holder: Holder::seen_by_the_lock(&by),
            }),
            // Unknown is no obstacle: the hypervisor itself refuses to remove a disk that is open.
            DiskLock::Free | DiskLock::Unknown { .. } => Ok(()),
        }
    }

    /// Disk, ledger entry, claim, record, in this order. May run any number of times.
    /// `group` is the volume's, whatever folder it lies in; `asked` are the requests that this answers.
    pub(crate) async fn remove_everything(
        &self,
        place: &Place,
        group: GroupId,
        id: VolumeId,
        asked: impl IntoIterator<Item = RequestId>,
    ) -> Result<(), Error> {
        let failed = |why| unavailable(&place.ds, &why);
        let disk = place.disk();
        let store = &*self.ports.datastores;
        store
            .delete_disk(&disk.datastore, &disk.path)
            .await
            .map_err(failed)?;
        self.remove_metadata(place).await?;
        // Before the name is free: a retry must never meet the volume that somebody makes under it then.
        for request in asked {
            self.remember_deleted(request, id).await;
        }
        let entry = Entry::Remove { volume: id };
        self.enter(&place.ds, group, entry).await?;
        self.remove_claim(&place.ds, group, &place.name, id).await?;
        place.record().remove(store).await.map_err(failed)?;
        self.index.forget(place);
        self.notices.changed(id);
        Ok(())
    }

    /// Removes a claim if it is this volume's.
    pub(crate) async fn remove_claim(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        id: VolumeId,
    ) -> Result<(), Error> {
        match self.read_claim(ds, group, name).await? {
            Claim::Of(claim) if claim.id == id => {
                let path = layout::claim(group, name);
                let removed = self.ports.datastores.remove(ds, &path).await;
                removed.map_err(|why| unavailable(ds, &why))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
