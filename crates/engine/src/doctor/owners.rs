//! Records against the VMs that own the volumes.

use vdvs_domain::{Owner, Timestamp};

use super::views::{HereVm, Views};
use super::{Found, Kind};
use crate::hosts::age_in_words;
use crate::index::Indexed;
use crate::inner::Inner;
use crate::ports::{DiskLock, Power};

impl Inner {
    pub(super) async fn findings_of_owners(&self, views: &Views) -> Vec<Found> {
        let mut found = Vec::new();
        let settled = views
            .volumes
            .iter()
            .filter(|v| v.record.operation.is_none());
        let settled: Vec<_> = settled.filter(|v| v.recorded).collect();
        for volume in settled {
            let Some(owner) = volume.record.ownership.owner() else {
                continue;
            };
            match views.here(&owner.vm.id) {
                Some(here) => found.extend(self.owner_here(views, volume, owner, here).await),
                None if views.vms_known => found.extend(self.owner_away(views, volume, owner)),
                None => {}
            }
        }
        found
    }

    async fn owner_here(
        &self,
        views: &Views,
        volume: &Indexed,
        owner: &Owner,
        here: &HereVm,
    ) -> Option<Found> {
        let disk = volume.place.disk();
        let finding = |kind, text: String| Some(views.finding(kind, volume, text));
        let name = &here.vm.name;
        match (here.vm.power, here.has(&disk)) {
            (Power::Off, has) => {
                let lock = self.ports.host.lock(&disk);
                // It may run elsewhere: then it is registered twice, which is said of the VM.
                if owner.host != self.host && lock.await != DiskLock::Free {
                    return None;
                }
                let text = match has {
                    Some(false) => format!("VM {name} is off and keeps the volume"),
                    _ => format!("VM {name} is off, and the volume's disk is in its configuration"),
                };
                self.still(volume).await.then_some(())?;
                finding(Kind::PoweredOffOwner, text)
            }
            (Power::On, Some(false)) => {
                self.still(volume).await.then_some(())?;
                let text = format!("VM {name} runs, and does not have the disk any more");
                finding(Kind::VanishedDisk, text)
            }
            (Power::Suspended, _) => {
                let text = format!("VM {name} is suspended{}", self.who_waits(volume));
                let found = views.finding(Kind::SuspendedOwner, volume, text);
                Some(found.run(format!("resume VM {name}, or power it off")))
            }
            (Power::On, _) if owner.host != self.host => {
                let text = format!(
                    "VM {name} runs here, and the record names host {}",
                    self.holder(owner).host
                );
                finding(Kind::MovedOwner, text)
            }
            (Power::On, _) => None,
        }
    }

    /// Who waits for a volume, as the end of a sentence.
    fn who_waits(&self, volume: &Indexed) -> String {
        match self.wanted_by(&volume.record) {
            Some((vm, host, _)) => format!(", and VM {vm} on host {host} waits for the volume"),
            None => String::new(),
        }
    }

    fn owner_away(&self, views: &Views, volume: &Indexed, owner: &Owner) -> Option<Found> {
        let vm = &owner.vm;
        let Some((file, told)) = views.told(&vm.id) else {
            // A list that was cut may have left it out.
            let cut = views.others.files.iter().any(|f| f.left_out > 0);
            let strange = !views.others.strange.is_empty();
            let text = format!(
                "it belongs to VM {vm}, last on host {}, and no host tells of that VM",
                self.holder(owner).host
            );
            let found = views.finding(Kind::MissingOwner, volume, text);
            return (!cut && !strange).then(|| found.since(owner.since));
        };
        let ago = self.ago(file.at);
        // Told before it was started there.
        let is_news = file.at > owner.since;
        match Power::from(told.power) {
            Power::Off if is_news => {
                let text = format!("VM {vm} is off on host {}, as told {ago} ago", file.name);
                let command = format!(
                    "vdvs doctor --fix={}, on host {}",
                    Kind::PoweredOffOwner.row().name,
                    file.name
                );
                Some(views.finding(Kind::OffElsewhere, volume, text).run(command))
            }
            Power::Suspended if is_news => {
                let waits = self.who_waits(volume);
                let text = format!(
                    "VM {vm} is suspended on host {}, as told {ago} ago{waits}",
                    file.name
                );
                let command = format!("resume VM {vm} on host {}, or power it off", file.name);
                Some(
                    views
                        .finding(Kind::SuspendedOwner, volume, text)
                        .run(command),
                )
            }
            _ => None,
        }
    }

    /// How long ago, in words.
    pub(super) fn ago(&self, at: Timestamp) -> String {
        age_in_words(self.now().millis().saturating_sub(at.millis()))
    }
}
