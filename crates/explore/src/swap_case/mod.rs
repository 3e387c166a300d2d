//! Three writers of one shared file: every interleaving of `swap`, over the source that ships.
//!
//! The source file of the engine's private module `swap` is compiled into this crate a second time, so nothing was
//! opened for this search and nothing is copied. Each call to the datastore is one step. Between two steps any writer
//! may go on; one that is never chosen again has died there, and its slot stays empty or torn for all others.
//!
//! **Promises.** After each step every acknowledged change stands in the file's value, and who read the file, by
//! listing it or by the slot he knew, got every change that was acknowledged before he began. Every writer ends: no
//! schedule is without end.
//!
//! **One state** is the files, what is acknowledged, and of each writer what he has been answered since he read the
//! file last and what that read gave him. That is all his future depends on: his code has no other input, and forgets
//! the answers of a read once it has its result, and a change once it is over.
//!
//! **Mistakes** are planted from outside: a writer's datastore is wrapped by one that makes a look blind, that is,
//! answers it as if nobody else had done anything since the look before.

#[expect(dead_code, reason = "the search uses a part of the module")]
#[path = "../../../engine/src/swap/mod.rs"]
pub(crate) mod swap;

mod memory;
mod store;

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::task::{Context, Waker};

use swap::frame::{self, Kind};
use swap::{SharedFile, Swapped};
use vdvs_domain::DatastoreName;
use vdvs_engine::ports::DsPath;

use memory::{Memory, Shared};
use store::Store;

use crate::search::{Case, Run};

/// Which look of a writer is blind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Blind {
    /// None.
    #[default]
    None,
    /// The second listing of a read that passed over slots: nothing has changed.
    Again,
    /// The one after the slot was made: nobody came between it and the reading.
    Second,
    /// The one after the slot was written: nobody made a later one.
    Third,
    /// The same as to the base: it asks for the next slot only.
    Base,
    /// The one before older slots are removed: there is only the one that was read.
    Below,
}

/// What is searched: writers, their changes, and what there is at first.
#[derive(Debug, Clone, Default)]
pub struct Writers {
    /// The slot each writer knows from before; none: he lists the folder. As many as there are writers, as are the
    /// changes.
    pub known: Vec<Option<u64>>,
    /// Changes each of them makes, one after the other.
    pub changes: Vec<u8>,
    /// Slots there are at first: whole with no change, or torn.
    pub start: Vec<(u64, bool)>,
    /// Which look is blind, of all of them.
    pub blind: Blind,
}

impl Writers {
    /// So many writers who list, each with one change, and no file.
    #[must_use]
    pub fn new(writers: usize) -> Self {
        Self {
            known: vec![None; writers],
            changes: vec![1; writers],
            ..Self::default()
        }
    }

    /// Beginning with a value in a slot.
    #[must_use]
    pub fn from_value(mut self, slot: u64) -> Self {
        self.start.push((slot, true));
        self
    }

    /// Beginning with what a dead writer left.
    #[must_use]
    pub fn from_torn(mut self, slot: u64) -> Self {
        self.start.push((slot, false));
        self
    }

    /// Writers who know these slots from before.
    #[must_use]
    pub fn knowing(mut self, known: &[Option<u64>]) -> Self {
        self.known = known.to_vec();
        self
    }

    /// Writers who make so many changes, in turn.
    #[must_use]
    pub fn changing(mut self, times: &[u8]) -> Self {
        self.changes = times.to_vec();
        self
    }

    /// Writers one of whose looks is blind.
    #[must_use]
    pub fn blind(mut self, blind: Blind) -> Self {
        self.blind = blind;
        self
    }
}

fn file() -> SharedFile {
    SharedFile {
        ds: DatastoreName::new("ds").expect("a plain word is a name"),
        dir: DsPath::new("d").expect("a plain word is a path"),
        stem: memory::STEM.to_owned(),
        max: 1000,
    }
}

fn value(changes: u16) -> Vec<u8> {
    frame::encode(Kind::Record, &changes).expect("a number can be written")
}

/// The changes a value carries.
fn carried(bytes: Option<&Vec<u8>>) -> u16 {
    let read = |b: &Vec<u8>| frame::decode(Kind::Record, b, String::new).ok().flatten();
    bytes.and_then(read).unwrap_or(0)
}

fn number(what: impl Hash) -> u64 {
    let mut digest = DefaultHasher::new();
    what.hash(&mut digest);
    digest.finish()
}

/// Changes the file so many times; each change has its own bit, from the first on. Who knows a slot goes on with the one he read or wrote
/// last, however long ago that was.
async fn writer(store: Store, me: usize, first: u8, changes: u8, mut known: Option<u64>) {
    let file = file();
    for change in 0..changes {
        let bit = 1u16.checked_shl(u32::from(first + change));
        let bit = bit.expect("sixteen changes in all");
        store.0.begins(me, number((change, known)));
        let Ok(seen) = file.read_known(&store, known).await else {
            break;
        };
        let had = carried(seen.bytes.as_ref());
        store
            .0
            .has_read(me, had, number((change, format!("{seen:?}"))));
        known = Some(seen.seq).filter(|s| *s > 0);
        let done = file.swap(&store, &seen, value(had | bit)).await;
        if let Ok(Swapped::Done(now)) = done {
            store.0.acknowledged(bit);
            known = Some(now.seq);
        }
    }
    store.0.ends(me);
}

type Writer = Pin<Box<dyn Future<Output = ()>>>;

/// One execution.
pub struct WritersRun {
    shared: Shared,
    writers: Vec<Option<Writer>>,
    last: usize,
    told: String,
}

impl fmt::Debug for WritersRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WritersRun")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Case for Writers {
    type Run = WritersRun;

    fn begin(&self) -> WritersRun {
        let shared = Shared::new(Memory::new(self.known.len(), &self.start));
        let mut first = 0;
        let each = self.known.iter().zip(&self.changes).enumerate();
        let writers = each.map(|(me, (known, changes))| {
            let store = Store(shared.clone(), self.blind);
            let writer = writer(store, me, first, *changes, *known);
            first += changes;
            Some(Box::pin(writer) as Writer)
        });
        let mut run = WritersRun {
            writers: writers.collect(),
            shared,
            last: 0,
            told: String::new(),
        };
        // Up to the first call, which has no effect yet.
        (0..self.known.len()).for_each(|me| run.go_on(me));
        run
    }
}

impl WritersRun {
    fn go_on(&mut self, me: usize) {
        self.shared.turn(me);
        let Some(slot) = self.writers.get_mut(me) else {
            return;
        };
        if let Some(writer) = slot
            && writer
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()))
                .is_ready()
        {
            *slot = None;
        }
    }

    /// Those who have not ended, the one that moved last first.
    fn ready(&self) -> Vec<usize> {
        let mut ready: Vec<usize> = (0..self.writers.len())
            .filter(|me| self.writers.get(*me).is_some_and(Option::is_some))
            .collect();
        ready.sort_by_key(|me| *me != self.last);
        ready
    }
}

impl Run for WritersRun {
    fn choices(&mut self) -> usize {
        self.ready().len()
    }

    fn take(&mut self, choice: usize) {
        if let Some(me) = self.ready().get(choice).copied() {
            self.last = me;
            self.go_on(me);
            self.told = format!("writer {me}: {}", self.shared.told());
        }
    }

    fn last(&self) -> String {
        self.told.clone()
    }

    fn state(&self) -> u64 {
        self.shared.number()
    }

    fn broken(&mut self) -> Option<String> {
        let (lost, unseen) = self.shared.lost(carried);
        if lost != 0 {
            return Some(format!("acknowledged changes {lost:b} are lost"));
        }
        (unseen != 0).then(|| format!("acknowledged changes {unseen:b} were not read"))
    }

    fn broken_at_the_end(&mut self) -> Option<String> {
        None
    }
}
