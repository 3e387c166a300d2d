//! The one way a shared file changes: `swap(seen, bytes) → Done | Conflict | Unknown`.
//!
//! A file is a row of slots `<stem>.1`, `<stem>.2`, …; its value is the highest slot that is whole. A change
//!
//! 1. creates the slot after the highest one, exclusively;
//! 2. **looks again**: a higher slot, or a newest whole slot that is not the one read, means another writer was
//!    first: `Conflict`, nothing was changed;
//! 3. writes the slot, with checksum, durably;
//! 4. **looks a third time**: a higher slot means that a writer may have passed its second look before our bytes were
//!    there: `Unknown`. Our value may be current, and may still be replaced by one that never saw it. Only another
//!    swap settles that, so after `Unknown` nobody takes his own value for acknowledged because he can read it;
//!    **and asks whether its base is still there**: while it slept, others may have gone on above its empty slot and
//!    removed that one, and a writer that slept even longer may have made it anew; our bytes are then below the value;
//! 5. removes older slots, lowest first.
//!
//! **Looking without listing.** A folder may hold tens of thousands of files, so whoever knows that slot `n` was the
//! value once asks two names instead: `n + 1` is not there, and *then* `n` still is, whole. Together they mean that no
//! higher slot was there at the first look: slots are made one after the other, so a higher one had `n + 1` before it,
//! and whoever removed that removed `n` first. A writer that slept may make slot `n` anew after it was removed; its
//! second look fails for ever, so such a slot is empty, unless one that had passed that look before writes into it. He
//! learns it at his third look: whoever removed his slot had removed the base below it, and that is never whole again.
//! Who has no base lists. So nobody *knows* such a slot as the value. In any other case the folder is listed, and where the
//! highest slot is not whole, all are read upwards and it is listed again.
//!
//! No lock files, no leases, no rename. A writer may die anywhere: its slot is then empty or torn and is passed over.
//! The searches over all interleavings of three writers, in `search` and in the crate `vdvs-explore`, run this very
//! code, and show that leaving out any look loses an acknowledged value.

pub(crate) mod frame;
#[cfg(test)]
mod search;

use vdvs_domain::DatastoreName;

use crate::ports::{Datastores, DsPath, StorageError};

/// Attempts to read a file while writers replace it. Each failure needs a swap to finish between two calls.
const READ_ATTEMPTS: usize = 16;

/// Where a shared file lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharedFile {
    pub(crate) ds: DatastoreName,
    pub(crate) dir: DsPath,
    pub(crate) stem: String,
    /// Largest slot that is read.
    pub(crate) max: usize,
}

/// A file as it was read; what a change is based on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Slot of the value; 0: there is none.
    pub(crate) seq: u64,
    /// Highest slot, whole or not.
    highest: u64,
    /// The value, when there is one.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Swapped {
    /// The value is the file's, and no writer that did not see it can replace it.
    Done(Seen),
    /// Somebody else was first; nothing was changed.
    Conflict,
    /// The value may or may not have been taken. Read again, and swap again. With the cause, where it was a call that
    /// failed and not another writer.
    Unknown(Option<StorageError>),
}

/// Which of the looks are taken. Everybody takes all; the search shows what happens otherwise.
#[derive(Debug, Clone, Copy)]
struct Looks {
    second: bool,
    third: bool,
    /// Whether a slot is left below the one that is about to be removed.
    below: bool,
}

/// The slot number in an entry's name, if it is a slot of `stem`.
pub(crate) fn slot_of(entry: &str, stem: &str) -> Option<u64> {
    let digits = entry.strip_prefix(stem)?.strip_prefix('.')?;
    // Exactly as we write them: no sign, no leading zero.
    (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

impl Seen {
    /// Whether nobody can replace the value without having seen it: no writer has begun a later slot. Who answers
    /// *it is so already* without a swap of his own asks this.
    pub(crate) const fn is_settled(&self) -> bool {
        self.seq == self.highest
    }

    /// What somebody sees who has reason to believe that there is no file yet. If he is wrong his change is a conflict.
    pub(crate) const fn nothing() -> Self {
        Self {
            seq: 0,
            highest: 0,
            bytes: None,
        }
    }
}

impl SharedFile {
    /// Path of a slot.
    pub(crate) fn slot(&self, seq: u64) -> Result<DsPath, StorageError> {
        self.dir
            .join(&format!("{}.{seq}", self.stem))
            .map_err(|why| StorageError::Io(why.to_string()))
    }

    /// Slots, lowest first. A folder that is not there has none.
    async fn slots(&self, store: &dyn Datastores) -> Result<Vec<u64>, StorageError> {
        let start = format!("{}.", self.stem);
        let entries = match store.read_dir_starting(&self.ds, &self.dir, &start).await {
            Ok(entries) => entries,
            Err(StorageError::NotFound(_)) => return Ok(Vec::new()),
            Err(why) => return Err(why),
        };
        let mut slots: Vec<u64> = entries
            .iter()
            .filter(|e| !e.is_dir)
            .filter_map(|e| slot_of(&e.name, &self.stem))
            .collect();
        slots.sort_unstable();
        Ok(slots)
    }

    /// A slot's bytes; `None` when it was pruned meanwhile.
    async fn slot_bytes(
        &self,
        store: &dyn Datastores,
        seq: u64,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        match store.read(&self.ds, &self.slot(seq)?, self.max).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StorageError::NotFound(_)) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// The file's value now.
    pub(crate) async fn read(&self, store: &dyn Datastores) -> Result<Seen, StorageError> {
        self.read_with_slots(store).await.map(|(_, seen)| seen)
    }

    /// The same, with all slots there are.
    async fn read_with_slots(
        &self,
        store: &dyn Datastores,
    ) -> Result<(Vec<u64>, Seen), StorageError> {
        for _ in 0..READ_ATTEMPTS {
            let slots = self.slots(store).await?;
            if let Some(seen) = self.newest_of(store, &slots).await? {
                return Ok((slots, seen));
            }
            // Pruned: there is a newer value than this listing knows.
        }
        Err(StorageError::Io(format!(
            "{}/{} changes faster than it can be read",
            self.dir, self.stem
        )))
    }

    /// As [`SharedFile::read`], by somebody who knows that slot `known` was the value once: without a listing when it
    /// still is.
    pub(crate) async fn read_known(
        &self,
        store: &dyn Datastores,
        known: Option<u64>,
    ) -> Result<Seen, StorageError> {
        if let Some(seq) = known
            && let Some(seen) = self.still(store, seq).await?
        {
            return Ok(seen);
        }
        self.read(store).await
    }

    /// The value in slot `seq`, which was the value once, if it still is. `None`: something came after it.
    pub(crate) async fn still(
        &self,
        store: &dyn Datastores,
        seq: u64,
    ) -> Result<Option<Seen>, StorageError> {
        let (newer, slot) = (self.slot(seq.saturating_add(1))?, self.slot(seq)?);
        match store.read_unless(&self.ds, &newer, &slot, self.max).await {
            Ok(Some(bytes)) if frame::is_whole(&bytes) => Ok(Some(Seen {
                seq,
                highest: seq,
                bytes: Some(bytes),
            })),
            Ok(_) | Err(StorageError::NotFound(_)) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// The file's value, which a listing of the folder a moment ago showed to have these slots, lowest first. Spares
    /// whoever reads all files of a folder a listing for each; a file that has changed since is read anew.
    pub(crate) async fn read_listed(
        &self,
        store: &dyn Datastores,
        slots: &[u64],
    ) -> Result<Seen, StorageError> {
        match self.newest_of(store, slots).await? {
            Some(seen) => Ok(seen),
            None => self.read(store).await,
        }
    }

    /// The value in these slots; none when they are not the file's any more.
    ///
    /// A slot that is not whole may be one that was removed and made anew since it was listed, and then the value is
    /// above it. Read upwards, each such slot has the one that it was removed for above it; the highest has none, unless
    /// another listing shows it.
    async fn newest_of(
        &self,
        store: &dyn Datastores,
        slots: &[u64],
    ) -> Result<Option<Seen>, StorageError> {
        let Some(highest) = slots.last().copied() else {
            return Ok(Some(Seen::nothing()));
        };
        let whole = |seq, bytes| Seen {
            seq,
            highest,
            bytes: Some(bytes),
        };
        match self.slot_bytes(store, highest).await? {
            Some(bytes) if frame::is_whole(&bytes) => return Ok(Some(whole(highest, bytes))),
            Some(_) => {}
            None => return Ok(None),
        }
        let mut newest = Seen {
            highest,
            ..Seen::nothing()
        };
        for seq in slots {
            match self.slot_bytes(store, *seq).await? {
                Some(bytes) if frame::is_whole(&bytes) => newest = whole(*seq, bytes),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        Ok((self.slots(store).await? == slots).then_some(newest))
    }

    /// Changes the file from what was `seen` to `bytes`, which must be a frame. An error means: not changed.
    pub(crate) async fn swap(
        &self,
        store: &dyn Datastores,
        seen: &Seen,
        bytes: Vec<u8>,
    ) -> Result<Swapped, StorageError> {
        let looks = Looks {
            second: true,
            third: true,
            below: true,
        };
        self.swap_with(store, seen, bytes, looks).await
    }

    async fn swap_with(
        &self,
        store: &dyn Datastores,
        seen: &Seen,
        bytes: Vec<u8>,
        looks: Looks,
    ) -> Result<Swapped, StorageError> {
        let seq = seen.highest.saturating_add(1);
        let slot = self.slot(seq)?;
        match store.create_new(&self.ds, &slot).await {
            Ok(()) => {}
            Err(StorageError::AlreadyExists(_)) => return Ok(Swapped::Conflict),
            Err(why) => return Err(why),
        }
        if looks.second && !self.still_based_on(store, seen, seq).await? {
            return Ok(Swapped::Conflict);
        }
        if let Err(why) = store.write(&self.ds, &slot, &bytes).await {
            return Ok(Swapped::Unknown(Some(why)));
        }
        if looks.third {
            match self.stands(store, seen, seq).await {
                Ok(true) => {}
                Ok(false) => return Ok(Swapped::Unknown(None)),
                Err(why) => return Ok(Swapped::Unknown(Some(why))),
            }
        }
        self.prune(store, seen, seq, looks).await;
        Ok(Swapped::Done(Seen {
            seq,
            highest: seq,
            bytes: Some(bytes),
        }))
    }

    /// The second look: our slot `seq` is the highest, and the newest whole slot below it is the one that was read.
    async fn still_based_on(
        &self,
        store: &dyn Datastores,
        seen: &Seen,
        seq: u64,
    ) -> Result<bool, StorageError> {
        if seen.seq != 0 && seen.seq == seen.highest {
            // Ours is there, so the one that was read has to be asked about with the one after ours.
            let (newer, base) = (self.slot(seq.saturating_add(1))?, self.slot(seen.seq)?);
            return match store.read_unless(&self.ds, &newer, &base, self.max).await {
                Ok(bytes) => Ok(bytes.is_some_and(|b| frame::is_whole(&b))),
                Err(StorageError::NotFound(_)) => Ok(false),
                Err(why) => Err(why),
            };
        }
        let slots = self.slots(store).await?;
        if slots.last() != Some(&seq) || (seen.seq != 0 && !slots.contains(&seen.seq)) {
            return Ok(false);
        }
        for between in slots
            .into_iter()
            .filter(|s| (seen.seq + 1..seq).contains(s))
        {
            match self.slot_bytes(store, between).await? {
                Some(bytes) if !frame::is_whole(&bytes) => {}
                Some(_) | None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The third look: nothing came after our slot `seq`, and it is the one that we made: it was never removed, for the
    /// one that it is based on would have gone first.
    async fn stands(
        &self,
        store: &dyn Datastores,
        seen: &Seen,
        seq: u64,
    ) -> Result<bool, StorageError> {
        if seen.seq == 0 {
            return Ok(self.slots(store).await?.last() == Some(&seq));
        }
        if self.still(store, seq).await?.is_none() {
            return Ok(false);
        }
        // Last: what was there now was there all the while.
        let base = self.slot_bytes(store, seen.seq).await?;
        Ok(base.is_some_and(|bytes| frame::is_whole(&bytes)))
    }

    /// Removes the slots below our whole one, lowest first: that no slot is missing above one that is there is what
    /// looking without listing stands on. The last one goes without a sync: if it comes back after a crash it is older,
    /// and is ignored. Those before it are durably gone first.
    async fn prune(&self, store: &dyn Datastores, seen: &Seen, below: u64, looks: Looks) {
        let slots = match !looks.below || self.alone(store, seen).await {
            true => vec![seen.seq],
            false => self.slots(store).await.unwrap_or_default(),
        };
        let older: Vec<u64> = slots.into_iter().filter(|s| *s < below).collect();
        for (at, seq) in older.iter().enumerate() {
            let Ok(slot) = self.slot(*seq) else { return };
            let gone = if at + 1 < older.len() {
                store.remove(&self.ds, &slot).await
            } else {
                store.discard(&self.ds, &slot).await
            };
            if let Err(why) = gone {
                tracing::debug!(file = %slot, %why, "an old slot stays until it is listed");
                return;
            }
        }
    }

    /// Whether the slot that was read is the only one below its successor: the one before it is not there, so neither
    /// are those before that.
    async fn alone(&self, store: &dyn Datastores, seen: &Seen) -> bool {
        if seen.seq == 0 || seen.seq != seen.highest {
            return false;
        }
        let Some(before) = seen.seq.checked_sub(1).filter(|s| *s > 0) else {
            return true;
        };
        let Ok(slot) = self.slot(before) else {
            return false;
        };
        matches!(
            store.read(&self.ds, &slot, 0).await,
            Err(StorageError::NotFound(_))
        )
    }

    /// Whether the file was begun and never had a value: no slot is whole, and none is missing from the first one on.
    /// Whoever makes a later value removes the slots before it, so of a file that had one the first is gone.
    pub(crate) async fn is_only_begun(&self, store: &dyn Datastores) -> Result<bool, StorageError> {
        let (slots, seen) = self.read_with_slots(store).await?;
        let unbroken = slots.iter().copied().zip(1..).all(|(slot, n)| slot == n);
        Ok(!slots.is_empty() && unbroken && seen.seq == 0)
    }

    /// Removes the file, lowest slot first, so that at no moment an older value shows. `false`: nothing was there.
    pub(crate) async fn remove(&self, store: &dyn Datastores) -> Result<bool, StorageError> {
        let slots = self.slots(store).await?;
        let any = !slots.is_empty();
        for seq in slots {
            store.remove(&self.ds, &self.slot(seq)?).await?;
        }
        Ok(any)
    }
}

#[cfg(test)]
mod tests {
    use super::slot_of;

    #[test]
    fn only_our_own_spelling_is_a_slot() {
        assert_eq!(slot_of("v.1a.vdvs.12", "v.1a.vdvs"), Some(12));
        for other in [
            "v.1a.vdvs",
            "v.1a.vdvs.",
            "v.1a.vdvs.0",
            "v.1a.vdvs.012",
            "v.1a.vdvs.+1",
            "v.1a.vdvs.1x",
            "w.1a.vdvs.1",
            "v.1a.vdvs.99999999999999999999",
        ] {
            assert_eq!(slot_of(other, "v.1a.vdvs"), None, "{other}");
        }
    }
}
