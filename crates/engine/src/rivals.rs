//! One short name, one volume, also when two VMs with different default datastores create it at the same moment.
//!
//! Names are claimed on one datastore; a short name counts on all that a VM may use. So a creator of a short name,
//! after its claim and its record are written, looks for claims of the name on the other datastores, and goes on only
//! when it sees none. Of two creators the later writer sees the earlier one, so never both go on.
//!
//! That both see each other and both give up is not wrong but useless, therefore: the one with the higher id gives up
//! at once; the other waits a little for that, and gives up too when the rival stays (it did not see us, and goes on).
//! Who gives up takes everything back and waits for the other's volume as for one that another host makes.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;
use vdvs_domain::{Error, VolumeId};

use crate::api::Caller;
use crate::inner::Inner;
use crate::layout::Place;
use crate::records::Claim;

/// How long the one with the lower id waits for the other to give up: many times what that takes.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

/// Somebody else who creates the name, or has.
struct Rival {
    id: VolumeId,
    exists: bool,
}

impl Inner {
    /// Whether the volume at `place`, whose claim and record are written, may have its short name on all datastores of
    /// the caller. `false`: somebody else is first.
    pub(crate) async fn is_sole_claimant(
        &self,
        caller: &Caller,
        place: &Place,
        id: VolumeId,
    ) -> Result<bool, Error> {
        let begun = self.instant();
        loop {
            match self.rival(caller, place).await? {
                None => return Ok(true),
                Some(rival) if rival.exists || rival.id < id => return Ok(false),
                Some(_) if self.instant().saturating_duration_since(begun) >= PATIENCE => {
                    return Ok(false);
                }
                Some(_) => sleep(LOOK).await,
            }
        }
    }

    async fn rival(&self, caller: &Caller, place: &Place) -> Result<Option<Rival>, Error> {
        let survey = self.survey(caller).await?;
        if let Some((_, why)) = survey.unreadable.into_iter().next() {
            return Err(why);
        }
        for open in survey.open.iter().filter(|o| o.ds != place.ds) {
            let there = Place {
                ds: open.ds.clone(),
                group: open.group,
                ..place.clone()
            };
            let look = self.rival_on(&there);
            if let Some(rival) = self.answering(&open.ds, look).await? {
                return Ok(Some(rival));
            }
        }
        Ok(None)
    }

    async fn rival_on(&self, there: &Place) -> Result<Option<Rival>, Error> {
        let (ds, group, name) = (&there.ds, there.group, &there.name);
        let claim = match self.read_claim(ds, group, name).await? {
            Claim::Absent => return Ok(None),
            // Its maker is between two steps, or died there: nobody knows its id yet.
            Claim::Torn => {
                return Ok(Some(Rival {
                    id: VolumeId::new(Uuid::max()),
                    exists: false,
                }));
            }
            Claim::Of(claim) => claim,
        };
        let record = self
            .read_record(&Place::of(ds, group, name, claim.id))
            .await?;
        Ok(match record {
            // Made under its full name: it does not take the short one.
            Some(stored) if !stored.record.short_name => None,
            found => Some(Rival {
                id: claim.id,
                exists: found.is_some_and(|s| s.record.exists()),
            }),
        })
    }
}
