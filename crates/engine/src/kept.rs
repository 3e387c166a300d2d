//! What was made of volumes for lists, kept: ten thousand volumes are listed again and again, and few of them change.
//!
//! What is kept is valid for one record, by identity, and one name of its vmgroup; and only while there is nothing to say
//! of the volume but what stands in the record. Whoever keeps it decides what it is: the engine never looks inside.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use vdvs_domain::{GroupName, VolumeId, VolumeRecord};

use crate::inner::locked;

/// Volumes of which something is kept: more than a host lists, so that only hosts beyond every measure make it again.
const MAX_KEPT: usize = 50_000;

struct One<T> {
    record: Arc<VolumeRecord>,
    group: GroupName,
    made: T,
}

/// What was made of volumes.
pub struct Kept<T>(Mutex<HashMap<VolumeId, One<T>>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept").field(&locked(&self.0).len()).finish()
    }
}

impl<T: Clone> Kept<T> {
    /// What is kept of this very record, else what `make` makes of it.
    pub(crate) fn or_make(
        &self,
        record: &Arc<VolumeRecord>,
        group: &GroupName,
        make: impl FnOnce() -> T,
    ) -> T {
        if let Some(one) = locked(&self.0).get(&record.id)
            && Arc::ptr_eq(&one.record, record)
            && one.group == *group
        {
            return one.made.clone();
        }
        let made = make();
        let mut kept = locked(&self.0);
        if kept.len() >= MAX_KEPT && !kept.contains_key(&record.id) {
            // Of volumes that are no more, among others.
            kept.clear();
        }
        let one = One {
            record: Arc::clone(record),
            group: group.clone(),
            made: made.clone(),
        };
        kept.insert(record.id, one);
        made
    }
}
