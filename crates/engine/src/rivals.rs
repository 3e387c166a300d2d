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
use vdvs_domain::{DatastoreName, Error, VolumeId, VolumeName};

use crate::api::Caller;
use crate::inner::Inner;
use crate::layout::Place;
use crate::lookup::Open;
use crate::records::Claim;

/// How long the one with the lower id waits for the other to give up: many times what that takes.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(20);

/// Somebody else who creates the name, or has.
struct Rival {
    id: VolumeId,
    exists: bool,
    /// Its record is written.
    is_recorded: bool,
    /// How far it is, where that is known.
    far: Option<String>,
}

impl Rival {
    const fn without_record(id: VolumeId) -> Self {
        Self {
            id,
            exists: false,
            is_recorded: false,
            far: None,
        }
    }
}

impl Inner {
    /// Somebody else makes a volume of this short name on another datastore of the caller: how far it is. Asked before
    /// anything is written, so that who waits for a long create does not claim the name again and again.
    pub(crate) async fn made_elsewhere(
        &self,
        caller: &Caller,
        ds: &DatastoreName,
        name: &VolumeName,
    ) -> Result<Option<String>, Error> {
        let rival = self.rival(caller, ds, name).await?;
        let making = rival.filter(|r| !r.exists && r.is_recorded);
        Ok(making.map(|r| r.far.unwrap_or_else(|| "being created".to_owned())))
    }

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
            match self.rival(caller, &place.ds, &place.name).await? {
                None => return Ok(true),
                Some(rival) if rival.exists || rival.id < id => return Ok(false),
                Some(_) if self.instant().saturating_duration_since(begun) >= PATIENCE => {
                    return Ok(false);
                }
                Some(_) => sleep(LOOK).await,
            }
        }
    }

    async fn rival(
        &self,
        caller: &Caller,
        ds: &DatastoreName,
        name: &VolumeName,
    ) -> Result<Option<Rival>, Error> {
        let survey = self.survey(caller).await?;
        if let Some((_, why)) = survey.unreadable.into_iter().next() {
            return Err(why);
        }
        for open in survey.open.iter().filter(|o| o.ds != *ds) {
            let look = self.rival_on(open, name);
            if let Some(rival) = self.answering(&open.ds, look).await? {
                return Ok(Some(rival));
            }
        }
        Ok(None)
    }

    async fn rival_on(&self, there: &Open, name: &VolumeName) -> Result<Option<Rival>, Error> {
        let (ds, group) = (&there.ds, there.group);
        let claim = match self.read_claim(ds, group, name).await? {
            Claim::Absent => return Ok(None),
            // Its maker is between two steps, or died there: nobody knows its id yet.
            Claim::Torn => return Ok(Some(Rival::without_record(VolumeId::new(Uuid::max())))),
            Claim::Of(claim) => claim,
        };
        let place = Place::of_claim(ds, group, &claim);
        Ok(match self.read_record(&place).await? {
            None => Some(Rival::without_record(claim.id)),
            // Made under its full name: it does not take the short one.
            Some(stored) if !stored.record.short_name => None,
            Some(stored) => Some(Rival {
                id: claim.id,
                exists: stored.record.exists(),
                is_recorded: true,
                far: self
                    .making_in_words(&stored.record)
                    .map(|far| format!("{far} (on {ds})")),
            }),
        })
    }
}
