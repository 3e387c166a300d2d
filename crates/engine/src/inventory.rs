//! What a guest has, compared with what the records say. Absence from a report never releases anything.

use std::collections::HashMap;

use vdvs_domain::{Error, VmId, VolumeId};

use crate::api::{Caller, InventoryAnswer, InventoryItem};
use crate::inner::Inner;
use crate::records::Stored;

impl Inner {
    pub(crate) async fn report_inventory(
        &self,
        caller: &Caller,
        items: &[InventoryItem],
    ) -> Result<InventoryAnswer, Error> {
        let mine = self.held_by_vm(&caller.vm.id).await?;
        let mut answer = InventoryAnswer::default();
        for item in items {
            match mine.get(&item.volume) {
                Some(stored) if stored.record.epoch == item.epoch => {
                    if self.wanted_by(&stored.record).is_some() {
                        answer.wanted.push(item.volume);
                    }
                }
                Some(_) => answer.superseded.push(item.volume),
                // Only a fresh look that saw everything may say that it is not the caller's.
                None => match self.by_id(item.volume).await {
                    Ok(Some(s)) if s.record.ownership.is_owned_by(&caller.vm.id) => {}
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

    /// The volumes whose records name a VM, on the datastores that can be read.
    pub(crate) async fn held_by_vm(&self, vm: &VmId) -> Result<HashMap<VolumeId, Stored>, Error> {
        let mut held = HashMap::new();
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
