//! How a volume whose name nobody claims gets its claim back.
//!
//! A claim comes before its record and goes after it. But one that was never finished is removed by whoever finds it old,
//! and where that takes long, the name may have been claimed anew and its volume be made meanwhile.

use vdvs_domain::{DatastoreName, Error, GroupId};

use crate::inner::Inner;
use crate::keyed::Key;
use crate::layout::Place;
use crate::leftovers::is_damage;
use crate::records::{Claim, Stored};

impl Inner {
    /// Claims the names of a folder's volumes that had no claim when the folder was looked at.
    pub(crate) async fn claim_names_again(
        &self,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<(), Error> {
        for place in self.index.unclaimed(ds, group) {
            match self.claim_name_again(&place).await {
                Err(why) if is_damage(&why) => self.said.once(place.what(), &why.to_string()),
                other => other?,
            }
        }
        Ok(())
    }

    /// Claims the name of a volume, if it has no claim.
    pub(crate) async fn claim_name_again(&self, place: &Place) -> Result<(), Error> {
        let key = Key::Name(place.ds.clone(), place.folder, place.name.clone());
        let _key = self.keys.hold(key, "claim").await;
        if let Some(stored) = self.without_claim(place).await?
            && self.make_claim_of(&stored, place.folder).await?
        {
            tracing::info!(volume = %stored.name(), "its name is claimed again");
        }
        Ok(())
    }

    /// The record of a volume of the folder's own vmgroup whose name is not claimed.
    pub(crate) async fn without_claim(&self, place: &Place) -> Result<Option<Stored>, Error> {
        let claim = self
            .read_claim(&place.ds, place.folder, &place.name)
            .await?;
        if claim != Claim::Absent {
            return Ok(None);
        }
        // In this order: a volume that is removed meanwhile exists no more before its claim goes.
        let stored = self.read_record(place).await?;
        Ok(stored.filter(|Stored { record, .. }| {
            record.exists() && record.group == place.folder && record.moving.is_none()
        }))
    }
}
