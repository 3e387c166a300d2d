//! Every interleaving of three writers, over the code that ships.
//!
//! Each store call is one step; between two steps any writer may go on, and one that is never chosen again has
//! crashed. After each step every acknowledged change must stand in the file's value, and whoever read the file, by
//! listing it or by the slot he knew, must have got every change that was acknowledged before he began. States are told
//! apart by the files and by what each writer has seen so far, which is all its future depends on.
//!
//! More writers with more changes, who know a slot or come late to it, are for the crate `vdvs-explore`, which takes more
//! states for one and so comes to an end.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use vdvs_domain::DatastoreName;

use super::frame::{self, Kind};
use super::{Looks, SharedFile, Swapped, slot_of};
use crate::ports::{
    DatastoreInfo, Datastores, DiskPath, DiskSpec, DiskStat, DsPath, Entry, Progress, StorageError,
};

const ALL: Looks = Looks {
    second: true,
    third: true,
    below: true,
};
const STEM: &str = "f";

#[derive(Debug, Default)]
struct Memory {
    files: BTreeMap<String, Vec<u8>>,
    /// Who is taking a step.
    turn: usize,
    /// Digest of everything each writer has seen.
    seen: Vec<u64>,
    /// Changes that were reported done.
    acknowledged: u8,
    /// Of each writer: what was acknowledged when he began to read; none until he does.
    begun: Vec<Option<u8>>,
    /// Acknowledged changes that somebody who read afterwards did not see.
    unseen: u8,
}

#[derive(Debug, Clone, Default)]
struct Store(Arc<Mutex<Memory>>);

impl Store {
    /// One step: waits to be chosen, then acts at once.
    async fn step<T: Hash>(
        &self,
        act: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> Result<T, StorageError>,
    ) -> Result<T, StorageError> {
        let mut chosen = false;
        poll_fn(|_| {
            if chosen {
                Poll::Ready(())
            } else {
                chosen = true;
                Poll::Pending
            }
        })
        .await;
        let mut memory = self.0.lock().unwrap();
        let turn = memory.turn;
        let acknowledged = memory.acknowledged;
        memory.begun[turn].get_or_insert(acknowledged);
        let answer = act(&mut memory.files);
        let mut digest = DefaultHasher::new();
        memory.seen[turn].hash(&mut digest);
        answer.as_ref().ok().hash(&mut digest);
        memory.seen[turn] = digest.finish();
        answer
    }
}

fn unused<T>() -> Result<T, StorageError> {
    Err(StorageError::Io("not part of the protocol".into()))
}

#[async_trait]
impl Datastores for Store {
    async fn list(&self) -> Result<Vec<DatastoreInfo>, StorageError> {
        unused()
    }
    async fn read_dir(&self, _: &DatastoreName, _: &DsPath) -> Result<Vec<Entry>, StorageError> {
        let names = self
            .step(|files| Ok(files.keys().cloned().collect::<Vec<_>>()))
            .await?;
        Ok(names
            .into_iter()
            .map(|name| Entry {
                name,
                is_dir: false,
            })
            .collect())
    }
    async fn make_dir(&self, _: &DatastoreName, _: &DsPath) -> Result<(), StorageError> {
        unused()
    }
    async fn create_new(&self, _: &DatastoreName, file: &DsPath) -> Result<(), StorageError> {
        self.step(|files| match files.contains_key(file.file_name()) {
            true => Err(StorageError::AlreadyExists(String::new())),
            false => {
                files.insert(file.file_name().to_owned(), Vec::new());
                Ok(())
            }
        })
        .await
    }
    async fn write(
        &self,
        _: &DatastoreName,
        file: &DsPath,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        self.step(|files| match files.get_mut(file.file_name()) {
            Some(content) => {
                *content = bytes.to_vec();
                Ok(())
            }
            None => Err(StorageError::NotFound(String::new())),
        })
        .await
    }
    async fn read(
        &self,
        _: &DatastoreName,
        file: &DsPath,
        _: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let missing = || StorageError::NotFound(String::new());
        self.step(|files| files.get(file.file_name()).cloned().ok_or_else(missing))
            .await
    }
    async fn remove(&self, _: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        self.step(|files| Ok(files.remove(file.file_name()).is_some()))
            .await
    }
    async fn create_disk(
        &self,
        _: &DatastoreName,
        _: &DsPath,
        _: &DiskSpec,
        _: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        unused()
    }
    async fn clone_disk(
        &self,
        _: &DiskPath,
        _: &DiskPath,
        _: &DiskSpec,
        _: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        unused()
    }
    async fn delete_disk(&self, _: &DatastoreName, _: &DsPath) -> Result<bool, StorageError> {
        unused()
    }
    async fn stat_disk(
        &self,
        _: &DatastoreName,
        _: &DsPath,
    ) -> Result<Option<DiskStat>, StorageError> {
        unused()
    }
}

fn file() -> SharedFile {
    SharedFile {
        ds: DatastoreName::new("ds").unwrap(),
        dir: DsPath::new("d").unwrap(),
        stem: STEM.into(),
        max: 1000,
    }
}

fn value(writers: u8) -> Vec<u8> {
    frame::encode(Kind::Record, &writers).unwrap()
}

/// The writers whose changes a value carries.
fn carried(bytes: Option<&Vec<u8>>) -> u8 {
    bytes.map_or(0, |b| {
        frame::decode(Kind::Record, b, String::new)
            .unwrap()
            .unwrap()
    })
}

type Writer = Pin<Box<dyn Future<Output = ()>>>;

/// Changes the file so many times; each change has its own bit. He begins with a slot he knew once, and goes on with
/// the one he read or wrote last, however long ago that was.
async fn writer(store: Store, me: u8, changes: u8, looks: Looks, mut known: Option<u64>) {
    let file = file();
    for change in 0..changes {
        let bit = 1 << (me * changes + change);
        store.0.lock().unwrap().begun[usize::from(me)] = None;
        let Ok(seen) = file.read_known(&store, known).await else {
            return;
        };
        let had = carried(seen.bytes.as_ref());
        {
            let mut memory = store.0.lock().unwrap();
            let before = memory.begun[usize::from(me)].unwrap();
            memory.unseen |= before & !had;
        }
        known = Some(seen.seq).filter(|s| *s > 0);
        let done = file.swap_with(&store, &seen, value(had | bit), looks).await;
        if let Ok(Swapped::Done(now)) = done {
            store.0.lock().unwrap().acknowledged |= bit;
            known = Some(now.seq);
        }
    }
}

/// What is searched.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    writers: u8,
    /// Changes each of them makes.
    changes: u8,
    /// Files there are at first.
    start: &'a [(&'a str, &'a [u8])],
    /// The slot each writer knew once, in turn.
    known: &'a [Option<u64>],
    looks: Looks,
}

impl Case<'_> {
    const fn new(writers: u8, changes: u8) -> Self {
        Self {
            writers,
            changes,
            start: &[],
            known: &[None],
            looks: ALL,
        }
    }
}

struct Run {
    store: Store,
    writers: Vec<Option<Writer>>,
}

impl Run {
    fn new(case: Case<'_>) -> Self {
        let (store, count) = (Store::default(), case.writers);
        {
            let mut memory = store.0.lock().unwrap();
            memory.seen = vec![0; usize::from(count)];
            memory.begun = vec![None; usize::from(count)];
            let start = case.start.iter();
            memory.files = start.map(|(n, b)| ((*n).to_owned(), b.to_vec())).collect();
        }
        let writers = (0..count).map(|me| {
            let known = case.known[usize::from(me) % case.known.len()];
            let future = writer(store.clone(), me, case.changes, case.looks, known);
            Some(Box::pin(future) as Writer)
        });
        let mut run = Self {
            writers: writers.collect(),
            store,
        };
        // Up to the first call, which has no effect yet.
        (0..usize::from(count)).for_each(|me| run.choose(me));
        run
    }

    fn choose(&mut self, me: usize) {
        self.store.0.lock().unwrap().turn = me;
        let Some(writer) = &mut self.writers[me] else {
            return;
        };
        if writer
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_ready()
        {
            self.writers[me] = None;
        }
    }

    fn lost(&self) -> u8 {
        let memory = self.store.0.lock().unwrap();
        let whole = memory.files.iter().filter(|(_, b)| frame::is_whole(b));
        let newest = whole.max_by_key(|(name, _)| slot_of(name, STEM));
        memory.unseen | memory.acknowledged & !carried(newest.map(|(_, b)| b))
    }

    fn state(&self) -> u64 {
        let memory = self.store.0.lock().unwrap();
        let mut digest = DefaultHasher::new();
        let done: Vec<bool> = self.writers.iter().map(Option::is_none).collect();
        (&memory.files, &memory.seen, done).hash(&mut digest);
        (memory.acknowledged, &memory.begun).hash(&mut digest);
        digest.finish()
    }
}

/// Number of states, or the schedule that loses an acknowledged value.
fn search(case: Case<'_>) -> Result<usize, Vec<usize>> {
    let count = usize::from(case.writers);
    let mut seen = HashSet::new();
    let mut open: Vec<Vec<usize>> = vec![Vec::new()];
    while let Some(schedule) = open.pop() {
        // One way on is walked as long as it is new; the others are left for later.
        let mut run = Run::new(case);
        schedule.iter().for_each(|me| run.choose(*me));
        let mut walked = schedule;
        loop {
            if run.lost() != 0 {
                return Err(walked);
            }
            if !seen.insert(run.state()) {
                break;
            }
            let ready: Vec<usize> = (0..count).filter(|me| run.writers[*me].is_some()).collect();
            let Some((next, others)) = ready.split_first() else {
                break;
            };
            for other in others {
                open.push(walked.iter().copied().chain([*other]).collect());
            }
            run.choose(*next);
            walked.push(*next);
        }
    }
    Ok(seen.len())
}

fn reaches(case: Case<'_>, at_least: usize) {
    match search(case) {
        Ok(states) if states > at_least => {}
        other => panic!("{case:?}: {other:?}"),
    }
}

#[test]
fn no_interleaving_of_three_writers_loses_an_acknowledged_value() {
    reaches(Case::new(3, 1), 10_000);
}

#[test]
fn nor_does_one_that_begins_with_a_value_and_a_dead_writers_slot() {
    let start: &[(&str, &[u8])] = &[("f.4", &value(0)), ("f.5", b"vdvs rec")];
    for known in [&[None], &[Some(4)], &[Some(5)]] {
        let case = Case {
            start,
            known,
            ..Case::new(2, 1)
        };
        reaches(case, 100);
    }
}

#[test]
fn nor_do_two_writers_that_change_it_again_and_again() {
    reaches(Case::new(2, 2), 1_000);
}

#[test]
fn nor_do_writers_who_ask_for_the_slot_they_knew_instead_of_listing() {
    let start: &[(&str, &[u8])] = &[("f.4", &value(0))];
    let cases: [&[Option<u64>]; 2] = [&[Some(4)], &[Some(4), Some(3)]];
    for known in cases {
        let case = Case {
            start,
            known,
            ..Case::new(2, 1)
        };
        reaches(case, 50);
    }
}

const LEFT_BY_A_CRASH: Case<'_> = Case {
    known: &[Some(3), Some(4)],
    ..Case::new(2, 1)
};

#[test]
fn nor_does_knowing_a_slot_that_a_crash_left_below_the_value() {
    let start: &[(&str, &[u8])] = &[("f.3", &value(0)), ("f.4", &value(0))];
    reaches(
        Case {
            start,
            ..LEFT_BY_A_CRASH
        },
        100,
    );
}

#[test]
fn one_that_removes_a_slot_above_one_that_is_left_is_read_wrongly() {
    let start: &[(&str, &[u8])] = &[("f.3", &value(0)), ("f.4", &value(0))];
    let looks = Looks {
        below: false,
        ..ALL
    };
    let case = Case {
        start,
        looks,
        ..LEFT_BY_A_CRASH
    };
    assert!(search(case).is_err());
}

#[test]
fn without_the_second_look_a_value_is_lost() {
    let looks = Looks {
        second: false,
        ..ALL
    };
    let case = Case {
        looks,
        ..Case::new(3, 1)
    };
    assert!(search(case).is_err());
}

#[test]
fn without_the_third_look_a_value_is_lost() {
    let looks = Looks {
        third: false,
        ..ALL
    };
    let case = Case {
        looks,
        ..Case::new(3, 1)
    };
    assert!(search(case).is_err());
}
