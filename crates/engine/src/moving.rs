//! Moving a volume to another vmgroup, also while it is attached. Disk and record stay where they lie (see `layout`).
//!
//! ```text
//!   move in the record ─► name claimed in the new vmgroup ─► room in its ledger ─► record: the vmgroup is the new one
//!     ─► room in the old ledger given back ─► old claim away ─► move out of the record
//! ```
//! * One change of the record moves the volume; all before it is taken back, all after it repeated, by whoever finds
//!   the move in the record and is alone with it: the host that began it, or any other once it stood unchanged for
//!   [`LEFT_ALONE`]. Who takes one back first writes that into the record, so that a slow mover cannot end it.
//! * Nothing of it concerns who has the volume: owner, epoch and operations are not touched, and no plan for an
//!   attachment is upset by it.
//! * A claim whose volume belongs to another vmgroup answers *try again* (see `lookup`): never that there is no such
//!   volume, and nobody makes another one meanwhile.

use std::sync::Arc;
use std::time::Duration;

use vdvs_domain::access::Fault;
use vdvs_domain::record::{FORMAT, Move, NameClaim};
use vdvs_domain::{DatastoreName, Error, GroupId, GroupName, RequestId, VolumeName};

use crate::api::{Call, Outcome};
use crate::inner::{Inner, unavailable};
use crate::keyed::{Held, Key};
use crate::layout::{self, Place};
use crate::ledger::Entry;
use crate::ports::StorageError;
use crate::records::{Change, Claim, Stored};
use crate::swap::frame::{self, Kind};

/// A move of another host that was seen unchanged for so long is finished or taken back by whoever sees it. Courtesy:
/// its steps take milliseconds, and being wrong costs a repetition.
const LEFT_ALONE: Duration = Duration::from_secs(20);

/// Where a volume is to come.
#[derive(Debug, Clone)]
pub(crate) struct MoveTo {
    pub(crate) group: GroupId,
    pub(crate) name: GroupName,
    /// The total of that vmgroup there; none: it is not asked for.
    pub(crate) limit: Option<u64>,
    /// The name stays taken in the vmgroup it leaves, until a sweep finds that nobody can know the old rules any more.
    pub(crate) keep_name: bool,
}

impl Inner {
    /// Moves a volume. `Unchanged`: it was there already.
    ///
    /// # Errors
    /// [`Fault::NameTaken`], [`Error::QuotaExceeded`]: nothing changed. [`Error::Unresolved`]: somebody else moves it.
    pub(crate) async fn move_volume(
        self: &Arc<Self>,
        call: &Call,
        stored: Stored,
        to: &MoveTo,
    ) -> Result<Outcome<Stored>, Error> {
        let stored = self.adopt(stored).await?;
        let from = stored.record.group;
        let keys = self.move_keys(&stored, from, to.group, Some(call)).await?;
        self.still_wanted(call, "moving the volume")?;
        let (me, call, to) = (Arc::clone(self), call.clone(), to.clone());
        self.to_the_end(async move {
            let _keys = keys;
            Box::pin(me.move_under_keys(&call, &stored.place, from, &to)).await
        })
        .await
    }

    /// The name's keys in both vmgroups, in their order, and the volume's.
    async fn move_keys(
        &self,
        stored: &Stored,
        from: GroupId,
        to: GroupId,
        call: Option<&Call>,
    ) -> Result<Vec<Held>, Error> {
        let (ds, name) = (&stored.place.ds, &stored.place.name);
        let mut groups = vec![from, to];
        groups.sort_unstable();
        groups.dedup();
        let names = groups.into_iter();
        let names = names.map(|group| Key::Name(ds.clone(), group, name.clone()));
        let mut held = Vec::new();
        for key in names.chain([Key::Volume(stored.record.id)]) {
            held.push(match call {
                Some(call) => self.hold(key, "move", call).await?,
                None => self.keys.hold(key, "move").await,
            });
        }
        Ok(held)
    }

    async fn move_under_keys(
        &self,
        call: &Call,
        place: &Place,
        from: GroupId,
        to: &MoveTo,
    ) -> Result<Outcome<Stored>, Error> {
        let mut stored = self.read_existing(place).await?;
        if stored.record.moving.is_some() {
            stored = self.settle_volume_move(stored).await?;
        }
        if stored.record.group == to.group {
            return Ok(Outcome::Unchanged(stored));
        }
        let name = stored.name();
        if stored.record.group != from {
            return Err(Error::Contended { name });
        }
        self.check_name_is_free(&stored, to).await?;
        let begun = self.begin_volume_move(call, &stored, to).await?;
        let entered = self.enter_group(&begun, to).await;
        let moved = match entered {
            Ok(()) => self.change_group(&begun).await,
            Err(why) => Err(why),
        };
        let moved = match moved {
            Ok(moved) => moved,
            Err(why) => {
                return match self.give_move_up(&begun).await {
                    Ok(now) if now.record.group == to.group => Ok(Outcome::Changed(now)),
                    Ok(_) => Err(why),
                    Err(left) => {
                        tracing::info!(volume = %begun.name(), why = %left, "a move is taken back later");
                        Err(why)
                    }
                };
            }
        };
        // It is moved; what is left of that is repeated by whoever sees it.
        let done = self.finish_volume_move(&moved).await.unwrap_or_else(|why| {
            tracing::info!(volume = %moved.name(), %why, "the rest of a move is done later");
            moved
        });
        Ok(Outcome::Changed(done))
    }

    async fn check_name_is_free(&self, stored: &Stored, to: &MoveTo) -> Result<(), Error> {
        let (ds, name) = (&stored.place.ds, &stored.place.name);
        let taken = || Fault::NameTaken {
            group: to.name.clone(),
            name: name.to_string(),
            datastore: ds.clone(),
        };
        self.look_at_folder(ds, to.group, Duration::MAX).await?;
        for place in self.index.named(ds, to.group, name) {
            if let Some(there) = self.read_record(&place).await?
                && there.record.group == to.group
            {
                return Err(taken().into());
            }
        }
        match self.original_unmoved(ds, to.group, name).await? {
            Some(there) if there.record.id != stored.record.id => Err(taken().into()),
            _ => Ok(()),
        }
    }

    async fn begin_volume_move(
        &self,
        call: &Call,
        planned: &Stored,
        to: &MoveTo,
    ) -> Result<Stored, Error> {
        let moving = Move {
            from: planned.record.group,
            to: to.group,
            request: call.request,
            host: self.host,
            started: self.now(),
            given_up: false,
            keep_name: to.keep_name,
        };
        self.change(&planned.place, |record| {
            if record.moving.as_ref() == Some(&moving) {
                return Ok(Change::Keep);
            }
            if record.moving.is_some() || record.group != moving.from || !record.exists() {
                return Err(Error::Contended {
                    name: planned.name(),
                });
            }
            let mut next = record.clone();
            next.moving = Some(moving.clone());
            Ok(next.into())
        })
        .await
    }

    /// Claims the name and takes the room in the vmgroup a volume comes to.
    async fn enter_group(&self, begun: &Stored, to: &MoveTo) -> Result<(), Error> {
        let ds = &begun.place.ds;
        self.claim_in_group(begun, to).await?;
        let entry = Entry::Add {
            volume: begun.record.id,
            bytes: begun.record.capacity.bytes(),
            limit: to.limit,
        };
        self.enter(ds, to.group, entry).await?;
        match self.read_claim(ds, to.group, &begun.place.name).await? {
            Claim::Of(claim) if claim.id == begun.record.id => Ok(()),
            _ => Err(Error::Contended { name: begun.name() }),
        }
    }

    async fn claim_in_group(&self, begun: &Stored, to: &MoveTo) -> Result<(), Error> {
        let (ds, name) = (&begun.place.ds, &begun.place.name);
        let dir = layout::group_dir(to.group);
        let made = self.ports.datastores.make_dir(ds, &dir).await;
        made.map_err(|why| unavailable(ds, &why))?;
        for _ in 0..2 {
            if self.make_claim_of(begun, to.group).await? {
                return Ok(());
            }
            let claim = match self.read_claim(ds, to.group, name).await? {
                Claim::Of(claim) if claim.id == begun.record.id => return Ok(()),
                claim => claim,
            };
            if let Claim::Of(claim) = &claim {
                let place = Place::of_claim(ds, to.group, claim);
                if let Some(there) = self.read_record(&place).await?
                    && there.record.group == to.group
                {
                    return Err(Fault::NameTaken {
                        group: to.name.clone(),
                        name: name.to_string(),
                        datastore: ds.clone(),
                    }
                    .into());
                }
            }
            // Left by a crash, or by another volume that was moved away.
            if !self.clear_left_claim(ds, to.group, name, &claim).await? {
                break;
            }
        }
        let name = begun.name().to_string();
        Err(Error::OnTheMove { name })
    }

    /// Claims the name of a volume in a vmgroup. `false`: there is a claim.
    pub(crate) async fn make_claim_of(
        &self,
        stored: &Stored,
        group: GroupId,
    ) -> Result<bool, Error> {
        let (place, store) = (&stored.place, &*self.ports.datastores);
        let path = layout::claim(group, &place.name);
        let failed = |why: StorageError| unavailable(&place.ds, &why);
        match store.create_new(&place.ds, &path).await {
            Ok(()) => {}
            Err(StorageError::AlreadyExists(_)) => return Ok(false),
            Err(why) => return Err(failed(why)),
        }
        let request = stored.record.moving.as_ref().map(|m| m.request);
        let claim = NameClaim {
            format: FORMAT,
            id: stored.record.id,
            name: place.name.clone(),
            folder: (place.folder != group).then_some(place.folder),
            request: request.unwrap_or_else(|| RequestId::new(self.ports.ids.uuid())),
            host: self.host,
            at: self.now(),
        };
        let bytes = frame::encode(Kind::Claim, &claim)?;
        if let Err(why) = store.write(&place.ds, &path, &bytes).await {
            // Ours by exclusive create a moment ago.
            if let Err(left) = store.remove(&place.ds, &path).await {
                tracing::info!(claim = %path, why = %left, "an unfinished claim is cleaned up later");
            }
            return Err(failed(why));
        }
        Ok(true)
    }

    /// The one change that moves it.
    async fn change_group(&self, begun: &Stored) -> Result<Stored, Error> {
        let Some(moving) = &begun.record.moving else {
            return Err(Error::Internal("a move without move".to_owned()));
        };
        self.change(&begun.place, |record| {
            let same = record.moving.as_ref() == Some(moving);
            if same && record.group == moving.to {
                return Ok(Change::Keep);
            }
            if !same || record.group != moving.from || !record.exists() {
                return Err(Error::Contended { name: begun.name() });
            }
            let mut next = record.clone();
            next.group = moving.to;
            next.folder = (begun.place.folder != moving.to).then_some(begun.place.folder);
            Ok(next.into())
        })
        .await
    }

    /// What follows the change of the vmgroup. May run any number of times.
    async fn finish_volume_move(&self, moved: &Stored) -> Result<Stored, Error> {
        let Some(moving) = &moved.record.moving else {
            return Ok(moved.clone());
        };
        let (ds, name, id) = (&moved.place.ds, &moved.place.name, moved.record.id);
        if self.read_claim(ds, moving.to, name).await? == Claim::Absent {
            self.make_claim_of(moved, moving.to).await?;
        }
        let entry = Entry::Remove { volume: id };
        self.enter(ds, moving.from, entry).await?;
        if !moving.keep_name {
            self.remove_claim(ds, moving.from, name, id).await?;
        }
        self.end_volume_move(moved).await
    }

    async fn end_volume_move(&self, moved: &Stored) -> Result<Stored, Error> {
        self.change(&moved.place, |record| {
            if record.moving != moved.record.moving {
                return Ok(Change::Keep);
            }
            let mut next = record.clone();
            next.moving = None;
            Ok(next.into())
        })
        .await
    }

    /// Takes a move back; or finishes it, if it turns out that the volume is moved.
    async fn give_move_up(&self, begun: &Stored) -> Result<Stored, Error> {
        let request = begun.record.moving.as_ref().map(|m| m.request);
        let given_up = self
            .change(&begun.place, |record| match &record.moving {
                Some(m) if Some(m.request) == request && record.group == m.from => {
                    if m.given_up {
                        return Ok(Change::Keep);
                    }
                    let mut next = record.clone();
                    let given_up = true;
                    next.moving = Some(Move {
                        given_up,
                        ..m.clone()
                    });
                    Ok(next.into())
                }
                _ => Ok(Change::Keep),
            })
            .await?;
        match &given_up.record.moving {
            Some(m) if Some(m.request) == request && given_up.record.group == m.to => {
                self.finish_volume_move(&given_up).await
            }
            Some(m) if Some(m.request) == request => {
                let (ds, name, id) = (&begun.place.ds, &begun.place.name, begun.record.id);
                let entry = Entry::Remove { volume: id };
                self.enter(ds, m.to, entry).await?;
                self.remove_claim(ds, m.to, name, id).await?;
                self.end_volume_move(&given_up).await
            }
            _ => Ok(given_up),
        }
    }

    /// The record without a move under way. The caller holds the volume's key, so nobody on this host is at it.
    pub(crate) async fn settle_volume_move(&self, stored: Stored) -> Result<Stored, Error> {
        let Some(moving) = &stored.record.moving else {
            return Ok(stored);
        };
        let subject = format!("move of {} by {}", stored.record.id, moving.request);
        if moving.host != self.host && !self.is_ripe_for(&subject, LEFT_ALONE) {
            return Err(Error::Unresolved {
                name: stored.name(),
                operation: "move",
                why: "another host is at it".to_owned(),
            });
        }
        tracing::info!(volume = %stored.name(), operation = "move", "finishing what was left");
        match stored.record.group == moving.to {
            true => self.finish_volume_move(&stored).await,
            false => self.give_move_up(&stored).await,
        }
    }

    /// A move that the sweep met.
    pub(crate) async fn sweep_volume_move(&self, stored: &Stored) -> Result<(), Error> {
        let Some(moving) = &stored.record.moving else {
            return Ok(());
        };
        let keys = self.move_keys(stored, moving.from, moving.to, None).await?;
        let settled = match self.read_record(&stored.place).await? {
            Some(now) if now.record.moving == stored.record.moving => {
                self.settle_volume_move(now).await
            }
            _ => return Ok(()),
        };
        drop(keys);
        match settled {
            // Another host's, which gets its time.
            Err(Error::Unresolved { .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    /// A volume of the original that never left its vmgroup.
    pub(crate) async fn original_unmoved(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> Result<Option<Stored>, Error> {
        let Some(found) = self.original(ds, group, name).await? else {
            return Ok(None);
        };
        match self.read_record(&found.place).await? {
            Some(stored) => {
                let is_its = stored.record.group == group && stored.record.exists();
                Ok(is_its.then_some(stored))
            }
            None => Ok(Some(found)),
        }
    }
}
