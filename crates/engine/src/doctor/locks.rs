//! Records against the locks on the disks.
//!
//! The lock is the truth about who writes. Looking at very many takes long on some hosts, so there is a time for it; what
//! was not reached in it is said.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;
use vdvs_domain::{Ownership, VolumeId};

use super::views::Views;
use super::{Found, Kind};
use crate::index::Indexed;
use crate::inner::Inner;
use crate::ports::{DiskLock, Power};

/// Locks looked at side by side.
const AT_ONCE: usize = 8;
/// Locks are looked at for so long.
const PATIENCE: Duration = Duration::from_secs(8);

impl Inner {
    /// What the locks say, of volumes of which nothing was found yet.
    pub(super) async fn findings_of_locks(&self, views: &Views, known: &[Found]) -> Vec<Found> {
        let known: HashSet<VolumeId> = known
            .iter()
            .filter(|f| f.kind != Kind::NotLookedAt)
            .filter_map(|f| f.volume)
            .collect();
        let settled = views.volumes.iter().filter(|v| {
            v.recorded && v.record.operation.is_none() && !known.contains(&v.record.id)
        });
        let begun = self.instant();
        let looks: Vec<_> = settled
            .map(|v| self.lock_in_time(views, v, begun))
            .collect();
        let looks: Vec<_> = stream::iter(looks).buffered(AT_ONCE).collect().await;
        let missed = looks.iter().filter(|(missed, _)| *missed).count();
        let mut found: Vec<_> = looks.into_iter().filter_map(|(_, found)| found).collect();
        if missed > 0 {
            let text = format!("there was no time to look at the locks of {missed} disks");
            found.push(Found::new(Kind::NotLookedAt, "locks", text));
        }
        found
    }

    /// `true`: there was no time for it.
    async fn lock_in_time(
        &self,
        views: &Views,
        volume: &Indexed,
        begun: Instant,
    ) -> (bool, Option<Found>) {
        if self.instant().saturating_duration_since(begun) >= PATIENCE {
            return (true, None);
        }
        (false, self.finding_of_lock(views, volume).await)
    }

    async fn finding_of_lock(&self, views: &Views, volume: &Indexed) -> Option<Found> {
        let disk = volume.place.disk();
        match &volume.record.ownership {
            Ownership::Free => {
                let DiskLock::Held { by } = self.ports.host.lock(&disk).await else {
                    return None;
                };
                // Whoever was just given it has it now in the record too.
                let held = self.still(volume).await
                    && matches!(self.ports.host.lock(&disk).await, DiskLock::Held { .. });
                let text = format!("its disk is open: {by}");
                held.then(|| views.finding(Kind::LockedWhileFree, volume, text))
            }
            Ownership::Attached { owner } if !owner.read_only => {
                let here = views.here(&owner.vm.id)?;
                let runs = here.vm.power == Power::On && here.has(&disk) == Some(true);
                if !runs || self.ports.host.lock(&disk).await != DiskLock::Free {
                    return None;
                }
                let lost =
                    self.still(volume).await && self.ports.host.lock(&disk).await == DiskLock::Free;
                let name = &here.vm.name;
                let text = format!("VM {name} runs with the disk, and nobody holds its lock");
                let title = views.title(volume);
                let command = format!("vdvs volume detach {}", super::shell_word(&title));
                lost.then(|| views.finding(Kind::LockLost, volume, text).run(command))
            }
            _ => None,
        }
    }
}
