//! What the writers share, and what the checker knows.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::swap::frame;
use super::value;

/// The file's name.
pub(super) const STEM: &str = "f";

/// Where a writer is, as far as his datastore can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Phase {
    #[default]
    Reading,
    /// He made this slot.
    Made(u64),
    /// He wrote it.
    Wrote(u64),
    /// He found it whole, with nothing after it.
    Found,
    /// He is past his last look.
    Removing,
}

/// One writer.
#[derive(Debug, Clone, Default)]
pub(super) struct Writer {
    /// Digest of what he has seen.
    pub(super) seen: u64,
    pub(super) phase: Phase,
    /// The files as they were when he read last: what a blind look shows him.
    pub(super) view: BTreeMap<u64, Vec<u8>>,
    /// The slots as he listed them first in this read.
    pub(super) listed: Option<Vec<u64>>,
    /// What was acknowledged when he began to read.
    begun: Option<u16>,
    ended: bool,
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Slots of the file.
    pub(super) files: BTreeMap<u64, Vec<u8>>,
    pub(super) writers: Vec<Writer>,
    /// Who is taking a step.
    pub(super) turn: usize,
    pub(super) told: String,
    acknowledged: u16,
    /// Acknowledged changes that somebody who read afterwards did not see.
    unseen: u16,
}

impl Memory {
    pub(super) fn new(writers: usize, start: &[(u64, bool)]) -> Self {
        let slot = |(seq, whole): &(u64, bool)| {
            let bytes = match whole {
                true => value(0),
                false => b"vdvs rec".to_vec(),
            };
            (*seq, bytes)
        };
        Self {
            files: start.iter().map(slot).collect(),
            writers: vec![Writer::default(); writers],
            ..Self::default()
        }
    }

    /// The writer who is taking a step, with the files.
    pub(super) fn now(&mut self) -> Option<(&mut Writer, &mut BTreeMap<u64, Vec<u8>>)> {
        Some((self.writers.get_mut(self.turn)?, &mut self.files))
    }

    /// He begins a call; reads begin with the first.
    pub(super) fn calls(&mut self) {
        let acknowledged = self.acknowledged;
        if let Some((writer, _)) = self.now() {
            writer.begun.get_or_insert(acknowledged);
        }
    }

    /// He was answered.
    pub(super) fn answered(&mut self, what: &str, answer: impl Hash) {
        self.told = what.to_owned();
        if let Some((writer, _)) = self.now() {
            let mut digest = DefaultHasher::new();
            (writer.seen, answer).hash(&mut digest);
            writer.seen = digest.finish();
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Shared(pub(super) Arc<Mutex<Memory>>);

impl Shared {
    pub(super) fn new(memory: Memory) -> Self {
        Self(Arc::new(Mutex::new(memory)))
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn turn(&self, me: usize) {
        self.memory().turn = me;
    }

    pub(super) fn told(&self) -> String {
        self.memory().told.clone()
    }

    /// A writer begins a change with what he knows.
    pub(super) fn begins(&self, me: usize, knows: u64) {
        if let Some(writer) = self.memory().writers.get_mut(me) {
            *writer = Writer {
                seen: knows,
                ..Writer::default()
            };
        }
    }

    /// He has read a value with these changes; from here on that is all he knows.
    pub(super) fn has_read(&self, me: usize, had: u16, knows: u64) {
        let mut memory = self.memory();
        let Some(writer) = memory.writers.get_mut(me) else {
            return;
        };
        writer.seen = knows;
        writer.listed = None;
        let before = writer.begun.take().unwrap_or(0);
        memory.unseen |= before & !had;
    }

    pub(super) fn acknowledged(&self, bit: u16) {
        self.memory().acknowledged |= bit;
    }

    pub(super) fn ends(&self, me: usize) {
        if let Some(writer) = self.memory().writers.get_mut(me) {
            *writer = Writer {
                ended: true,
                ..Writer::default()
            };
        }
    }

    /// Acknowledged changes that are not in the value, and those that were not read.
    pub(super) fn lost(&self, carried: impl Fn(Option<&Vec<u8>>) -> u16) -> (u16, u16) {
        let memory = self.memory();
        let newest = memory.files.values().rev().find(|b| frame::is_whole(b));
        (memory.acknowledged & !carried(newest), memory.unseen)
    }

    pub(super) fn number(&self) -> u64 {
        let memory = self.memory();
        let mut digest = DefaultHasher::new();
        (&memory.files, memory.acknowledged).hash(&mut digest);
        for writer in &memory.writers {
            (writer.seen, writer.phase, writer.begun, writer.ended).hash(&mut digest);
        }
        digest.finish()
    }
}
