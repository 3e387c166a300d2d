//! Records by themselves: what was begun and never ended, who cannot be told apart, who belongs to nobody.

use std::collections::BTreeMap;
use std::time::Duration;

use vdvs_domain::{GroupId, Ownership, Timestamp, VolumeName};

use super::views::Views;
use super::{Found, Kind};
use crate::index::Indexed;
use crate::inner::Inner;

/// A move between vmgroups takes a few changes of files. One that is older is left over, or waits for a datastore.
const MOVES: Duration = Duration::from_secs(60);

impl Inner {
    pub(super) async fn findings_of_records(&self, views: &Views) -> Vec<Found> {
        let mut found = two_claimants(views);
        for volume in &views.volumes {
            found.extend(self.unfinished_operation(views, volume).await);
            found.extend(self.unfinished_move(views, volume));
            found.extend(self.stale_read(views, volume));
            found.extend(self.stale_claim(views, volume));
            let (ds, record) = (&volume.place.ds, &volume.record);
            if record.exists() && self.is_orphan(ds, record.group).await {
                let text = format!("its vmgroup {} is gone", record.group);
                let title = super::shell_word(&views.title(volume));
                let command = format!("vdvs volume adopt {title} VMGROUP");
                found.push(views.finding(Kind::Orphan, volume, text).run(command));
            }
        }
        found
    }

    fn is_older(&self, at: Timestamp, than: Duration) -> bool {
        let age = self.now().millis().saturating_sub(at.millis());
        u128::from(age) > than.as_millis()
    }

    async fn unfinished_operation(&self, views: &Views, volume: &Indexed) -> Option<Found> {
        let record = &volume.record;
        let operation = record.operation.as_ref()?;
        if self.works.get(record.id).is_some() {
            return None;
        }
        let seen = record.making.as_ref().map(|m| m.seen);
        let last = seen.map_or(operation.started, |seen| seen.max(operation.started));
        // Longer than a step that cannot be turned back may take, and than its caller waits.
        if !self.is_older(last.max(operation.deadline), Duration::ZERO)
            || !self.is_older(last, self.settings.host_call)
        {
            return None;
        }
        let kind = operation.kind.name();
        let host = match operation.host == self.host {
            true => "this host".to_owned(),
            false => format!("host {}", self.name_of(views, operation.host)),
        };
        let ago = self.ago(operation.started);
        let text = format!("{kind} was begun by {host} {ago} ago, and nobody is at it");
        let found = views.finding(Kind::UnfinishedOperation, volume, text);
        let stands = self.still(volume).await;
        stands.then(|| found.since(operation.started))
    }

    fn unfinished_move(&self, views: &Views, volume: &Indexed) -> Option<Found> {
        let moving = volume.record.moving.as_ref()?;
        let found = self.is_older(moving.started, MOVES).then(|| {
            let text = format!("from vmgroup {} to {}", moving.from, moving.to);
            views.finding(Kind::UnfinishedMove, volume, text)
        });
        found.map(|f| f.since(moving.started))
    }

    fn stale_read(&self, views: &Views, volume: &Indexed) -> Option<Found> {
        let Ownership::Reading { target, .. } = volume.record.ownership else {
            return None;
        };
        if self.works.get(target).is_some() {
            return None;
        }
        let clone = views.volumes.iter().find(|v| v.record.id == target);
        let making = clone.and_then(|v| v.record.making.as_ref());
        let stale = match making {
            Some(making) => self.is_older(making.seen, self.settings.orphan_age),
            // The clone is ready, or gone, or on a datastore that was not read.
            None => clone.is_some() || views.datastores.len() == views.read.len(),
        };
        let text = format!("clone {target} is not being made any more");
        stale.then(|| views.finding(Kind::StaleRead, volume, text))
    }

    fn stale_claim(&self, views: &Views, volume: &Indexed) -> Option<Found> {
        let claim = volume.record.claim.as_ref()?;
        // The clocks of two hosts are compared here: who repairs looks for whether it is renewed.
        let stale = self.is_older(claim.deadline, self.settings.claim_lease * 2);
        let text = format!(
            "VM {} on host {} claimed it and last said so {} ago",
            claim.vm,
            claim.host_name,
            self.ago(claim.deadline)
        );
        let found = views.finding(Kind::StaleClaim, volume, text);
        stale.then(|| found.since(claim.since))
    }
}

/// Volumes of one vmgroup that were created under the same short name, on different datastores.
fn two_claimants(views: &Views) -> Vec<Found> {
    let mut named: BTreeMap<(GroupId, &VolumeName), Vec<&Indexed>> = BTreeMap::new();
    let takers = views.volumes.iter();
    for volume in takers.filter(|v| v.record.short_name && v.record.exists()) {
        let name = (volume.record.group, &volume.record.name);
        named.entry(name).or_default().push(volume);
    }
    let several = named.into_iter().filter(|(_, v)| v.len() > 1);
    several
        .map(|((group, name), volumes)| {
            let names: Vec<_> = volumes.iter().map(|v| views.title(v)).collect();
            let text = format!(
                "vmgroup {group} has {} under the short name {name}",
                names.join(" and ")
            );
            let command = format!(
                "use the full names, or remove one: vdvs volume rm {}",
                names
                    .first()
                    .map_or(String::new(), |n| super::shell_word(n))
            );
            Found::new(Kind::TwoClaimants, names.join(" and "), text).run(command)
        })
        .collect()
}
