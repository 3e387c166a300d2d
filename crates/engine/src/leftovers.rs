//! What crashes leave in a vmgroup's folder, and the repair of its ledger.
//!
//! Claims without a record and records that no version of was ever finished are removed when they were seen unchanged
//! for [`Settings::orphan_age`](crate::api::Settings): their maker may be another host that is only slow.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use vdvs_domain::{DatastoreName, Error, GroupId, VolumeName};

use crate::governance::Governed;
use crate::inner::{Inner, locked, unavailable};
use crate::keyed::Key;
use crate::layout::{self, Place};
use crate::records::Claim;

/// A leftover that no look saw for so long was gone in between. Many sweeps, so that slow ones do not count as that.
const OUT_OF_SIGHT: Duration = Duration::from_secs(600);

/// The name of a volume that was moved away with its VMs stays taken so long after the transfer ended: longer than any
/// request lasts that was begun by the rules of before.
const MOVED_AWAY: Duration = Duration::from_secs(120);

/// What a claim is without a volume that bears its name in its vmgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// No leftover: there is one, or it is on its way.
    No,
    /// Its volume was never finished, or is gone.
    Alone,
    /// Its volume belongs to another vmgroup now.
    MovedAway,
}

/// First and last sight of a leftover.
#[derive(Debug)]
struct Sight {
    first: Instant,
    last: Instant,
}

/// Since when leftovers are being looked at.
#[derive(Debug, Default)]
pub(crate) struct Suspects(Mutex<HashMap<String, Sight>>);

impl Suspects {
    /// `true`: seen for long enough, and never out of sight for longer than `gap`: what was away meanwhile is another
    /// one of the same name, whose maker may be at it. Forgets what is out of sight.
    fn ripe(&self, what: &str, now: Instant, age: Duration, gap: Duration) -> bool {
        let mut seen = locked(&self.0);
        seen.retain(|_, sight| now.saturating_duration_since(sight.last) <= gap);
        let sight = seen.entry(what.to_owned()).or_insert(Sight {
            first: now,
            last: now,
        });
        sight.last = now;
        now.saturating_duration_since(sight.first) >= age
    }

    fn clear(&self, what: &str) {
        locked(&self.0).remove(what);
    }
}

/// Damage, or a newer program's work: reported, left alone, and no reason to stop looking at the rest.
pub(crate) fn is_damage(why: &Error) -> bool {
    matches!(why, Error::Damaged { .. } | Error::NewerFormat { .. })
}

/// The subject of a claim: another volume's claim on the name is another leftover.
fn subject_of(ds: &DatastoreName, group: GroupId, name: &VolumeName, claim: &Claim) -> String {
    let path = layout::claim(group, name);
    match claim {
        Claim::Of(claim) => format!("[{ds}] {path} of volume {}", claim.id),
        Claim::Absent | Claim::Torn => format!("[{ds}] {path}"),
    }
}

impl Inner {
    /// Whether a leftover was seen unchanged for long enough.
    pub(crate) fn is_ripe(&self, subject: &str) -> bool {
        self.is_ripe_for(subject, self.settings.orphan_age)
    }

    /// Whether it was for `age`.
    pub(crate) fn is_ripe_for(&self, subject: &str, age: Duration) -> bool {
        self.suspects
            .ripe(subject, self.instant(), age, OUT_OF_SIGHT)
    }

    pub(crate) async fn sweep_leftovers(
        &self,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<(), Error> {
        self.look_at_folder(ds, group, Duration::ZERO).await?;
        let (unfinished, claims_alone) = self.index.unfinished(ds, group);
        for name in &claims_alone {
            match self.sweep_claim(ds, group, name).await {
                Err(why) if is_damage(&why) => self.said.once(
                    format!("claim [{ds}] {}", layout::claim(group, name)),
                    &why.to_string(),
                ),
                other => other?,
            }
        }
        for place in &unfinished {
            self.sweep_unfinished(place).await?;
        }
        self.claim_names_again(ds, group).await?;
        self.finish_adoptions(ds, group).await
    }

    /// Whether a claim without record has been seen for long enough.
    pub(crate) fn is_abandoned(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        claim: &Claim,
    ) -> bool {
        self.is_ripe(&subject_of(ds, group, name, claim))
    }

    pub(crate) async fn sweep_claim(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> Result<(), Error> {
        let seen = self.read_claim(ds, group, name).await?;
        if !self.may_go(ds, group, name, &seen).await? {
            return Ok(());
        }
        let key = Key::Name(ds.clone(), group, name.clone());
        let _key = self.keys.hold(key, "sweep").await;
        let claim = self.read_claim(ds, group, name).await?;
        // Another one by now: its time begins anew.
        if claim == seen {
            self.remove_left_claim(ds, group, name, claim).await?;
        }
        self.suspects.clear(&subject_of(ds, group, name, &seen));
        Ok(())
    }

    /// What a claim is, by its volume's record.
    async fn left(&self, ds: &DatastoreName, group: GroupId, claim: &Claim) -> Result<Left, Error> {
        let claim = match claim {
            Claim::Absent => return Ok(Left::No),
            Claim::Torn => return Ok(Left::Alone),
            Claim::Of(claim) => claim,
        };
        let place = Place::of_claim(ds, group, claim);
        Ok(match self.read_record(&place).await? {
            None => Left::Alone,
            Some(s) if s.record.group == group => Left::No,
            Some(s) => match &s.record.moving {
                Some(m) if m.from == group || m.to == group => Left::No,
                _ => Left::MovedAway,
            },
        })
    }

    async fn is_left_claim_ripe(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        claim: &Claim,
    ) -> Result<bool, Error> {
        let subject = subject_of(ds, group, name, claim);
        let known = match self.left(ds, group, claim).await? {
            Left::Alone => return Ok(self.is_ripe(&subject)),
            Left::No => false,
            // As long as the transfer stands, or nobody here can know that it does not, the name is kept.
            Left::MovedAway => match self.governed(ds).await? {
                Governed::By(rules) => {
                    !rules.kept && rules.access.transfer_of(group, name).is_none()
                }
                Governed::Fresh(_) | Governed::Not(_) => true,
            },
        };
        if !known {
            self.suspects.clear(&subject);
            return Ok(false);
        }
        Ok(self.is_ripe_for(&subject, MOVED_AWAY))
    }

    async fn remove_left_claim(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        claim: Claim,
    ) -> Result<(), Error> {
        match (self.left(ds, group, &claim).await?, &claim) {
            (Left::No, _) => Ok(()),
            (Left::MovedAway, Claim::Of(of)) => self.remove_claim(ds, group, name, of.id).await,
            _ => self.bury_claim(ds, group, name, claim).await,
        }
    }

    /// Whether a claim is a leftover whose time has come. This host's own need not age: whoever makes a volume here holds
    /// the name's key from the claim to the record, and it is removed only under that key, after another look.
    pub(crate) async fn may_go(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        claim: &Claim,
    ) -> Result<bool, Error> {
        let own = matches!(claim, Claim::Of(of) if of.host == self.host);
        if own && self.left(ds, group, claim).await? == Left::Alone {
            return Ok(true);
        }
        self.is_left_claim_ripe(ds, group, name, claim).await
    }

    /// Removes a claim that is a leftover, if its time has come; `false`: it stays. The caller holds the name's key.
    pub(crate) async fn clear_left_claim(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        claim: &Claim,
    ) -> Result<bool, Error> {
        let ripe = self.may_go(ds, group, name, claim).await?;
        if ripe {
            self.remove_left_claim(ds, group, name, claim.clone())
                .await?;
        }
        Ok(ripe || *claim == Claim::Absent)
    }

    /// A record of which no version was ever finished: nothing was acknowledged, and no disk was made yet.
    pub(crate) async fn sweep_unfinished(&self, place: &Place) -> Result<(), Error> {
        let subject = place.what();
        let finished = match self.read_record(place).await {
            Ok(found) => found.is_some(),
            // Damaged or newer: reported where it was read, and never removed.
            Err(why) if is_damage(&why) => true,
            Err(why) => return Err(why),
        };
        let disk = place.disk();
        let stat = self
            .ports
            .datastores
            .stat_disk(&disk.datastore, &disk.path)
            .await;
        let stat = stat.map_err(|why| unavailable(&place.ds, &why))?;
        if finished || (stat.is_some() && !self.is_begun_adoption(place).await?) {
            if !finished {
                self.said.once(
                    subject.clone(),
                    "no version of it is whole, and its disk exists: nothing was changed",
                );
            }
            self.suspects.clear(&subject);
            return Ok(());
        }
        if !self.is_ripe(&subject) {
            return Ok(());
        }
        let key = Key::Name(place.ds.clone(), place.folder, place.name.clone());
        let _key = self.keys.hold(key, "sweep").await;
        let still = self.read_record(place).await?.is_none();
        if still && (stat.is_none() || self.is_begun_adoption(place).await?) {
            let removed = place.record().remove(&*self.ports.datastores).await;
            removed.map_err(|why| unavailable(&place.ds, &why))?;
        }
        self.suspects.clear(&subject);
        Ok(())
    }

    /// Whether somebody began to adopt a volume of the original and died before its record said anything. Its disk was
    /// there before, and what the record would say is still to be read beside it.
    async fn is_begun_adoption(&self, place: &Place) -> Result<bool, Error> {
        if !place.is_adopted() {
            return Ok(false);
        }
        let begun = place.record().is_only_begun(&*self.ports.datastores).await;
        begun.map_err(|why| unavailable(&place.ds, &why))
    }

    /// An entry without a record is garbage; a record without an entry is added.
    pub(crate) async fn repair_ledger(
        &self,
        ds: &DatastoreName,
        group: GroupId,
    ) -> Result<(), Error> {
        let at = (ds.clone(), group);
        self.sift(&at, self.instant()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_is_ripe_only_when_it_was_there_all_the_time() {
        let suspects = Suspects::default();
        let begun = Instant::now();
        let (age, gap) = (Duration::from_secs(60), Duration::from_secs(120));
        let ripe = |what, secs| suspects.ripe(what, begun + Duration::from_secs(secs), age, gap);
        assert!(!ripe("a", 0));
        assert!(!ripe("a", 59));
        assert!(ripe("a", 60));
        assert!(!ripe("a", 1000), "one of that name, much later");
        assert!(!ripe("b", 1120));
        assert_eq!(locked(&suspects.0).len(), 2);
        assert!(!ripe("c", 1300));
        assert_eq!(locked(&suspects.0).len(), 1, "what is gone is forgotten");
    }
}
