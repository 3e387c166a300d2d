//! Begin and finish of formatting: the file system's UUID is stored before `mkfs` runs with it (P3).

use uuid::Uuid;
use vdvs_domain::error::by_id;
use vdvs_domain::record::{Answer, RequestResult};
use vdvs_domain::{Epoch, Error, FilesystemState, VolumeId, VolumeRecord};

use crate::api::{Actor, Call, Caller, Outcome};
use crate::audit::fingerprint;
use crate::inner::Inner;
use crate::keyed::{Held, Key};
use crate::records::{Change, Stored};

impl Inner {
    pub(crate) async fn begin_format(
        &self,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
    ) -> Result<Uuid, Error> {
        let (stored, _key) = self.attached_to(caller, call, volume, epoch).await?;
        let fresh = self.ports.ids.uuid();
        let fingerprint = fingerprint(caller, "begin_format", volume, &epoch.to_string());
        let begun = self
            .change(&stored.place, |record| {
                self.check_attached(caller, &stored, record, epoch)?;
                if record.ownership.owner().is_some_and(|o| o.read_only) {
                    let why = "it is attached read-only";
                    return Err(Error::FormatRefused { why });
                }
                let (state, uuid) = record.filesystem.state.begin_format(fresh)?;
                let mut next = record.clone();
                next.filesystem.state = state;
                next.remember(RequestResult {
                    request: call.request,
                    fingerprint: fingerprint.clone(),
                    answer: Answer::FormatBegun { uuid },
                });
                Ok(if next == *record {
                    Change::Keep
                } else {
                    next.into()
                })
            })
            .await?;
        let FilesystemState::Formatting { uuid } = begun.record.filesystem.state else {
            return Err(Error::Internal(
                "a format that began is not under way".to_owned(),
            ));
        };
        let (actor, detail) = (Actor::Vm(caller), format!("with UUID {uuid}"));
        self.audit(
            actor,
            "begin format",
            stored.name().to_string(),
            Some(volume),
            detail,
        )
        .await;
        Ok(uuid)
    }

    pub(crate) async fn finish_format(
        &self,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
        uuid: Uuid,
    ) -> Result<Outcome<()>, Error> {
        let (stored, _key) = self.attached_to(caller, call, volume, epoch).await?;
        let args = format!("{epoch} {uuid}");
        let fingerprint = fingerprint(caller, "finish_format", volume, &args);
        let before = stored.record.filesystem.clone();
        let finished = self
            .change(&stored.place, |record| {
                self.check_attached(caller, &stored, record, epoch)?;
                let state = record.filesystem.state.finish_format(uuid)?;
                if state == record.filesystem.state {
                    return Ok(Change::Keep);
                }
                let mut next = record.clone();
                next.filesystem.state = state;
                next.remember(RequestResult {
                    request: call.request,
                    fingerprint: fingerprint.clone(),
                    answer: Answer::FormatFinished,
                });
                Ok(next.into())
            })
            .await?;
        if finished.record.filesystem == before {
            return Ok(Outcome::Unchanged(()));
        }
        let (actor, detail) = (Actor::Vm(caller), format!("with UUID {uuid}"));
        self.audit(
            actor,
            "finish format",
            stored.name().to_string(),
            Some(volume),
            detail,
        )
        .await;
        Ok(Outcome::Changed(()))
    }

    async fn attached_to(
        &self,
        caller: &Caller,
        call: &Call,
        volume: VolumeId,
        epoch: Epoch,
    ) -> Result<(Stored, Held), Error> {
        let gone = || Error::VolumeNotFound {
            address: by_id(volume),
            looked_on: "all datastores".to_owned(),
        };
        let found = self.by_id(volume).await?.ok_or_else(gone)?;
        let key = self.hold(Key::Volume(volume), "format", call).await?;
        let stored = self.read_existing(&found.place).await?;
        let stored = self.settled(stored).await?;
        self.check_attached(caller, &stored, &stored.record, epoch)?;
        self.still_wanted(call, "changing the volume's format state")?;
        Ok((stored, key))
    }

    fn check_attached(
        &self,
        caller: &Caller,
        stored: &Stored,
        record: &VolumeRecord,
        given: Epoch,
    ) -> Result<(), Error> {
        let name = stored.name();
        if given != record.epoch {
            let current = record.epoch;
            return Err(Error::Superseded {
                name,
                given,
                current,
            });
        }
        if !record.ownership.is_owned_by(&caller.vm.id) {
            return Err(Error::NotAttached { name });
        }
        Ok(())
    }
}
