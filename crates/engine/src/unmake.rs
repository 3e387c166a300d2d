//! The ends of a create: the volume exists, or everything is taken back; also for one that a crash left.

use tokio::time::sleep;
use vdvs_domain::error::full_name;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::record::{Answer, Created, FORMAT, Fingerprint, RequestResult};
use vdvs_domain::{
    Capacity, DatastoreName, Epoch, Error, Filesystem, FilesystemState, GroupId, Layout, Operation,
    OperationKind, Ownership, VolumeId, VolumeName, VolumeRecord,
};

use crate::inner::{Inner, unavailable};
use crate::layout::{self, Place};
use crate::records::{Change, Claim, RECORD_LOST, Stored};

/// Tries to take a failed create back before it is left to the sweep.
const TRIES: usize = 3;

impl Inner {
    /// The last steps: the disk gets its policy, and the volume exists.
    pub(crate) async fn finish_create(
        &self,
        place: &Place,
        made: &VolumeRecord,
    ) -> Result<Stored, Error> {
        let contended = || Error::Contended {
            name: full_name(&place.name, &place.ds),
        };
        match self
            .read_claim(&place.ds, place.folder, &place.name)
            .await?
        {
            Claim::Of(claim) if claim.id == made.id => {}
            _ => return Err(contended()),
        }
        let policy = self.give_first_policy(place, &made.options).await?;
        let finished = self.change(place, |record| match &record.operation {
            Some(operation) if operation.kind == OperationKind::Create => {
                let mut next = record.clone();
                next.operation = None;
                next.making = None;
                next.policy_version = policy;
                next.remember(RequestResult {
                    request: operation.request,
                    fingerprint: operation.fingerprint.clone(),
                    answer: Answer::Created,
                });
                Ok(next.into())
            }
            None => Ok(Change::Keep),
            Some(_) => Err(contended()),
        });
        let finished = finished.await?;
        self.catch_up_with_policy(&finished).await;
        Ok(finished)
    }

    /// After a create of this host failed: taken back, once more if the datastore failed only for a moment, since what is
    /// left takes room. The sweep comes after it.
    pub(crate) async fn take_create_back(&self, place: &Place, id: VolumeId) {
        let mut tries = 0;
        let left = loop {
            tries += 1;
            match self.undo_create(place, id).await {
                Ok(()) => return,
                Err(why @ Error::Contended { .. }) => break why,
                Err(why) if tries >= TRIES => break why,
                Err(_) => sleep(self.settings.poll).await,
            }
        };
        tracing::warn!(volume = %place.what(), why = %left, "a failed create is cleaned up later");
    }

    /// Takes back a create that cannot be finished, also when somebody who took it for abandoned was first: what was
    /// made since then goes too.
    pub(crate) async fn undo_create(&self, place: &Place, id: VolumeId) -> Result<(), Error> {
        let undone = self
            .change(place, |record| {
                let mut next = record.clone();
                match &mut next.operation {
                    Some(o) if o.kind == OperationKind::Create => o.kind = OperationKind::Delete,
                    Some(o) if o.kind == OperationKind::Delete => return Ok(Change::Keep),
                    _ => {
                        return Err(Error::Contended {
                            name: full_name(&place.name, &place.ds),
                        });
                    }
                }
                Ok(next.into())
            })
            .await;
        let group = match undone {
            Ok(undone) => undone.record.group,
            Err(Error::VolumeNotFound { .. }) => place.folder,
            Err(why) => return Err(why),
        };
        self.remove_everything(place, group, id, []).await
    }

    /// Removes a claim whose maker died before there was a record. The tombstone decides the race with a maker who is
    /// only slow: one of the two writes the first version of the record, and only then is the claim touched.
    pub(crate) async fn bury_claim(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        claim: Claim,
    ) -> Result<(), Error> {
        let claim = match claim {
            Claim::Absent => return Ok(()),
            Claim::Of(claim) => claim,
            // Where this takes long, it may hit the claim of somebody who makes the name anew meanwhile: a volume without
            // a claim gets one with the next sweep (`unclaimed`).
            Claim::Torn => {
                let path = layout::claim(group, name);
                let removed = self.ports.datastores.remove(ds, &path).await;
                removed.map_err(|why| unavailable(ds, &why))?;
                tracing::info!(claim = %path, "an unfinished claim was removed");
                return Ok(());
            }
        };
        let place = Place::of_claim(ds, group, &claim);
        if self.read_record(&place).await?.is_some() {
            return Ok(());
        }
        if place.is_adopted() || claim.folder.is_some() {
            // Its disk was there before us: never garbage. Or it was moved, and had a record before the claim was made.
            return self.remove_claim(ds, group, name, claim.id).await;
        }
        if self.disk_is_there(&place).await? {
            // A record comes before its disk and goes after it: this one was lost, and with it would go the volume.
            return Err(Error::Damaged {
                what: place.what(),
                why: RECORD_LOST.to_owned(),
            });
        }
        let options = GivenOptions::default().resolve();
        let tombstone = VolumeRecord {
            format: FORMAT,
            id: claim.id,
            name: claim.name.clone(),
            short_name: false,
            group,
            folder: None,
            moving: None,
            protected: false,
            rebuilt: false,
            policy_version: None,
            capacity: Capacity::DEFAULT,
            layout: Layout::Data,
            created: Created {
                at: claim.at,
                by: None,
                host: claim.host,
            },
            filesystem: Filesystem {
                fstype: options.fstype.clone(),
                state: FilesystemState::Unknown,
            },
            options,
            ownership: Ownership::Free,
            epoch: Epoch::default(),
            claim: None,
            operation: Some(Operation {
                kind: OperationKind::Delete,
                request: claim.request,
                fingerprint: Fingerprint("abandoned claim".to_owned()),
                host: self.host,
                started: self.now(),
                deadline: self.now(),
            }),
            making: None,
            results: Vec::new(),
            history: Vec::new(),
        };
        self.first_record(&place, &tombstone).await?;
        self.remove_everything(&place, group, claim.id, []).await?;
        tracing::info!(claim = %layout::claim(group, name), "an abandoned claim was removed");
        Ok(())
    }
}
