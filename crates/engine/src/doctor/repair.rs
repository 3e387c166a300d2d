//! Repairing findings of one kind, each by the reconciler's own way, and looking whether that helped.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use vdvs_domain::Error;

use super::{Finding, Fixed, Found, Kind, Remedy, Repaired, Subject, kind_named};
use crate::api::{Actor, Call, LocalUser};
use crate::inner::Inner;
use crate::layout::Place;
use crate::ports::{DiskPath, Vm};
use crate::records::Stored;

/// A repair that is not begun before so little of the request's time is left is not begun.
const LEAST: Duration = Duration::from_secs(2);

impl Inner {
    /// Repairs the findings of a kind, all or those of one object. Says of each what became of it; none: there were none.
    ///
    /// # Errors
    /// [`Error::Invalid`]: there are no findings of that name, or none that an agent repairs.
    pub(crate) async fn doctor_fix(
        self: &Arc<Self>,
        user: &LocalUser,
        call: &Call,
        (name, object): (&str, &str),
        dry_run: bool,
    ) -> Result<Vec<Fixed>, Error> {
        let kind = kind_named(name)?;
        let Remedy::Agent(remedy) = kind.row().remedy else {
            let what = "finding";
            let problem = format!("is not repaired by an agent: {}", remedy_of(kind));
            return Err(Error::Invalid { what, problem });
        };
        let mut fixed = Vec::new();
        let mut asked = Vec::new();
        for (found, finding) in self.found_of(kind, object).await? {
            match dry_run {
                true => fixed.push(Fixed {
                    text: format!("{}: it {remedy}", found.text),
                    outcome: Repaired::Would,
                    finding,
                }),
                false => asked.push((found, finding)),
            }
        }
        for (found, finding) in asked {
            fixed.push(self.fix(user, call, found, finding).await);
        }
        Ok(fixed)
    }

    /// The findings of a kind, as they are found and as they are shown.
    async fn found_of(
        self: &Arc<Self>,
        kind: Kind,
        object: &str,
    ) -> Result<Vec<(Found, Finding)>, Error> {
        let views = self.look_around().await;
        let found = self.diagnose(&views).await;
        let seen = self.first_seen.update(&found, self.now());
        let fits = |f: &Found| f.kind == kind && (object.is_empty() || f.object == object);
        let fitting = found.into_iter().filter(fits);
        Ok(fitting
            .map(|f| {
                let shown = super::shown(&f, &seen);
                (f, shown)
            })
            .collect())
    }

    async fn fix(
        self: &Arc<Self>,
        user: &LocalUser,
        call: &Call,
        found: Found,
        finding: Finding,
    ) -> Fixed {
        let left = call.deadline.saturating_duration_since(self.instant());
        if call.cancel.is_cancelled() || left < LEAST {
            return Fixed {
                text: "there was no time left for it: ask again".to_owned(),
                outcome: Repaired::Refused,
                finding,
            };
        }
        let done = Box::pin(self.repair(user, call, &found)).await;
        let stands = self.stands(&found).await;
        let (outcome, text) = match (done, stands) {
            (Ok(()), Ok(None)) => (Repaired::Done, found.text.clone()),
            (Ok(()), Ok(Some(text))) => (Repaired::Refused, format!("it stands: {text}")),
            (Err(why), Ok(None)) => (Repaired::Gone, format!("it is gone ({why})")),
            (Err(why), _) | (Ok(()), Err(why)) => (Repaired::Refused, why.to_string()),
        };
        if outcome == Repaired::Done {
            let name = found.kind.row().name;
            let detail = format!("{name}: {}", found.text);
            let object = found.object.clone();
            self.audit(Actor::Admin(user), "repair", object, found.volume, detail)
                .await;
        }
        Fixed {
            finding,
            outcome,
            text,
        }
    }

    /// What is found of the same now, if anything.
    async fn stands(self: &Arc<Self>, found: &Found) -> Result<Option<String>, Error> {
        let again = self.found_of(found.kind, &found.object).await?;
        Ok(again.into_iter().next().map(|(now, _)| now.text))
    }

    async fn repair(
        self: &Arc<Self>,
        user: &LocalUser,
        call: &Call,
        found: &Found,
    ) -> Result<(), Error> {
        match (&found.subject, found.kind) {
            (Subject::Volume(place), kind) => {
                Box::pin(self.repair_volume(user, call, kind, place)).await
            }
            (Subject::DiskOf(vm, disk), _) => self.repair_disk(vm, disk).await,
            (Subject::Name(ds, group, name), _) => self.sweep_claim(ds, *group, name).await,
            (Subject::Ledger(ds, group), _) => self.repair_ledger(ds, *group).await,
            (Subject::None, _) => Ok(()),
        }
    }

    async fn repair_volume(
        self: &Arc<Self>,
        user: &LocalUser,
        call: &Call,
        kind: Kind,
        place: &Place,
    ) -> Result<(), Error> {
        if kind == Kind::UnfinishedRecord {
            return self.sweep_unfinished(place).await;
        }
        if kind == Kind::UnfinishedOperation {
            // Of a volume that does not exist yet, or not any more, too.
            return match self.read_record(place).await? {
                Some(stored) => self.resolve_one(&stored).await,
                None => Ok(()),
            };
        }
        let stored = self.read_existing(place).await?;
        match kind {
            Kind::PoweredOffOwner => self.release_if_off(&stored).await,
            Kind::VanishedDisk => self.release_if_vanished(&stored).await,
            Kind::MovedOwner => self.follow_owner(&stored).await,
            Kind::UnfinishedMove => self.sweep_volume_move(&stored).await,
            Kind::StaleRead => self.end_stale_read(&stored).await.map(drop),
            Kind::StaleClaim => self.withdraw_stale(&stored).await,
            Kind::UnclaimedName => self.claim_name_again(place).await,
            Kind::MissingOwner | Kind::UnreportedVolume => {
                let id = stored.record.id.to_string();
                self.admin_take(user, call, &id, false).await.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Takes a disk out of a VM that does not own it, and says why not where it stays.
    async fn repair_disk(self: &Arc<Self>, vm: &Vm, disk: &DiskPath) -> Result<(), Error> {
        match Box::pin(self.look_at(vm, disk)).await? {
            None => Ok(()),
            Some(why) => Err(Error::HostFailed {
                verb: "take the disk out",
                why,
            }),
        }
    }

    /// Withdraws a claim that nobody renews while this host looks.
    async fn withdraw_stale(&self, stored: &Stored) -> Result<(), Error> {
        let Some(claim) = &stored.record.claim else {
            return Ok(());
        };
        sleep(self.settings.claim_lease).await;
        let now = self.read_existing(&stored.place).await?;
        if now.record.claim.as_ref() != Some(claim) {
            return Ok(());
        }
        self.withdraw(&stored.place, claim.request, claim.host)
            .await
    }
}

fn remedy_of(kind: Kind) -> &'static str {
    match kind.row().remedy {
        Remedy::Agent(what) | Remedy::Person(what) => what,
    }
}
