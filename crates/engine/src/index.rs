//! What this agent remembers of the records it saw. A hint: nothing in it decides anything.

use std::collections::HashMap;
use std::sync::Mutex;

use vdvs_domain::VolumeId;

use crate::inner::locked;
use crate::layout::Place;

#[derive(Debug, Default)]
struct Tables {
    /// Slot of the newest version seen.
    slots: HashMap<Place, u64>,
    places: HashMap<VolumeId, Place>,
}

/// Where records were seen last.
#[derive(Debug, Default)]
pub(crate) struct Index(Mutex<Tables>);

impl Index {
    /// A record was read or written there.
    pub(crate) fn saw(&self, place: &Place, id: VolumeId, seq: u64) {
        let mut tables = locked(&self.0);
        match tables.slots.get_mut(place) {
            Some(known) => *known = seq,
            None => {
                tables.slots.insert(place.clone(), seq);
            }
        }
        if tables.places.get(&id) != Some(place) {
            tables.places.insert(id, place.clone());
        }
    }

    /// The slot its value was seen in last.
    pub(crate) fn slot(&self, place: &Place) -> Option<u64> {
        locked(&self.0).slots.get(place).copied()
    }

    /// What is known of its slots did not help.
    pub(crate) fn doubt(&self, place: &Place) {
        locked(&self.0).slots.remove(place);
    }

    /// Where a volume was seen last.
    pub(crate) fn place(&self, id: VolumeId) -> Option<Place> {
        locked(&self.0).places.get(&id).cloned()
    }

    /// The record is gone.
    pub(crate) fn forget(&self, place: &Place, id: VolumeId) {
        let mut tables = locked(&self.0);
        tables.slots.remove(place);
        tables.places.remove(&id);
    }
}
