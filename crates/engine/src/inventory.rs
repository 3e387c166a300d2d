//! What a guest has, compared with what the records say. Absence from a report never releases anything.

use std::collections::BTreeMap;

use vdvs_domain::{Error, VmId, VolumeId};

use crate::api::{Caller, InventoryAnswer, InventoryItem};
use crate::inner::Inner;
use crate::layout;
use crate::records::Stored;

impl Inner {
    pub(crate) async fn report_inventory(
        &self,
        caller: &Caller,
        items: &[InventoryItem],
    ) -> Result<InventoryAnswer, Error> {
        self.reports.keep(&caller.vm.id, self.now(), items);
        let mine = self.held_by_vm(&caller.vm.id).await?;
        let mut answer = InventoryAnswer::default();
        for item in items {
            match mine.get(&item.volume) {
                Some(stored) if stored.record.epoch == item.epoch => {
                    if self.wanted_by(&stored.record).is_some() {
                        answer.wanted.push(item.volume);
                    }
                }
                // Its record was rebuilt since it was attached: the guest learns the epoch from `attached`.
                Some(stored) if stored.record.rebuilt && item.epoch < stored.record.epoch => {}
                Some(_) => answer.superseded.push(item.volume),
                // Only a fresh look that saw everything may say that it is not the caller's.
                None => match self.by_id(item.volume).await {
                    Ok(Some(s)) if s.record.ownership.is_owned_by(&caller.vm.id) => {}
                    // Its record is lost, its disk is not.
                    Ok(None) if self.has_disk_of(&caller.vm.id, item.volume).await => {}
                    Ok(_) => answer.superseded.push(item.volume),
                    Err(why) => {
                        let subject = format!("inventory of VM {}", caller.vm);
                        self.said.once(subject, &why.to_string());
                    }
                },
            }
        }
        let mut held: Vec<Stored> = mine.into_values().collect();
        held.sort_by(|a, b| a.place.cmp(&b.place));
        answer.attached = self.views(&held).await;
        Ok(answer)
    }

    /// Whether a VM's configuration names the disk of a volume, as far as anybody can say.
    pub(crate) async fn has_disk_of(&self, vm: &VmId, volume: VolumeId) -> bool {
        let Ok(disks) = self.ports.host.disks(vm).await else {
            return true;
        };
        let mut places = disks.iter().filter_map(|d| layout::place_of_disk(&d.disk));
        places.any(|place| place.id8 == volume.id8())
    }

    /// The volumes whose records name a VM, on the datastores that can be read.
    pub(crate) async fn held_by_vm(&self, vm: &VmId) -> Result<BTreeMap<VolumeId, Stored>, Error> {
        let mut held = BTreeMap::new();
        for ds in self
            .datastores()
            .await?
            .into_iter()
            .filter(|d| d.accessible)
        {
            let mine = self.records_where(&ds.name, |r| r.ownership.is_owned_by(vm));
            match self.answering(&ds.name, mine).await {
                Ok(mine) => held.extend(mine.into_iter().map(|s| (s.record.id, s))),
                Err(why) => self
                    .said
                    .once(format!("datastore {}", ds.name), &why.to_string()),
            }
        }
        Ok(held)
    }
}
