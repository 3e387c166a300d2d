//! What was made of volumes for lists, kept: ten thousand volumes are listed again and again, and few of them change.
//!
//! What is kept is valid for one record, by identity, and one name of its vmgroup; and only while there is nothing to say
//! of the volume but what stands in the record. Whoever keeps it decides what it is: the engine never looks inside.
//!
//! A record that nobody else holds any more is out of date, or its volume is gone: whenever twice as much is kept as was
//! found to be of use, what is of no use goes.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use vdvs_domain::{GroupName, VolumeId, VolumeRecord};

use crate::inner::locked;

/// Volumes of which something is kept: more than a host lists, so that only hosts beyond every measure make it again.
const MAX_KEPT: usize = 50_000;

/// Fewer are not worth a look.
const FEW: usize = 64;

struct One<T> {
    record: Arc<VolumeRecord>,
    group: GroupName,
    made: T,
}

/// What was made of volumes.
pub struct Kept<T>(Mutex<Table<T>>);

struct Table<T> {
    of: HashMap<VolumeId, One<T>>,
    /// How many there may be before what is of no use is looked for.
    most: usize,
}

impl<T> Table<T> {
    /// Makes room for one more.
    fn make_room(&mut self) {
        if self.of.len() < self.most {
            return;
        }
        self.of.retain(|_, one| Arc::strong_count(&one.record) > 1);
        if self.of.len() >= MAX_KEPT {
            self.of.clear();
        }
        self.of.shrink_to(self.of.len().saturating_mul(2));
        self.most = self.of.len().saturating_mul(2).clamp(FEW, MAX_KEPT);
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        let of = HashMap::new();
        Self(Mutex::new(Table { of, most: FEW }))
    }
}

impl<T> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kept")
            .field(&locked(&self.0).of.len())
            .finish()
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
        if let Some(one) = locked(&self.0).of.get(&record.id)
            && Arc::ptr_eq(&one.record, record)
            && one.group == *group
        {
            return one.made.clone();
        }
        let made = make();
        let mut kept = locked(&self.0);
        if !kept.of.contains_key(&record.id) {
            kept.make_room();
        }
        let one = One {
            record: Arc::clone(record),
            group: group.clone(),
            made: made.clone(),
        };
        kept.of.insert(record.id, one);
        made
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;
    use vdvs_domain::Ownership;

    use super::*;
    use crate::plan::tests::record;

    fn volume(n: u128) -> Arc<VolumeRecord> {
        let id = VolumeId::new(Uuid::from_u128(n));
        Arc::new(VolumeRecord {
            id,
            ..record(Ownership::Free)
        })
    }

    #[test]
    fn what_was_made_of_volumes_that_are_no_more_goes_and_of_those_that_are_there_stays() {
        let (kept, group) = (Kept::default(), GroupName::new("g").unwrap());
        let there: Vec<_> = (0..100).map(volume).collect();
        for one in &there {
            kept.or_make(one, &group, || 1);
        }
        for n in 1000..9000 {
            kept.or_make(&volume(n), &group, || 2);
        }
        let held = locked(&kept.0).of.len();
        assert!(
            (100..=400).contains(&held),
            "{held} are kept of 100 volumes"
        );
        for one in &there {
            assert_eq!(kept.or_make(one, &group, || 3), 1);
        }
    }

    #[test]
    fn another_version_of_a_record_is_another() {
        let (kept, group) = (Kept::default(), GroupName::new("g").unwrap());
        let (before, after) = (volume(1), volume(1));
        assert_eq!(kept.or_make(&before, &group, || 1), 1);
        assert_eq!(kept.or_make(&after, &group, || 2), 2);
        assert_eq!(kept.or_make(&after, &group, || 3), 2);
    }
}
