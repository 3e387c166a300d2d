//! Every interleaving of three writers, over the code that ships.
//!
//! Each store call is one step; between two steps any writer may go on, and one that is never chosen again has
//! crashed. After each step every acknowledged writer must stand in the file's value. States are told apart by the
//! files and by what each writer has seen so far, which is all its future depends on.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use tokio::time::Instant;
use vdvs_domain::DatastoreName;

use super::frame::{self, Kind};
use super::{Looks, SharedFile, Swapped, slot_of};
use crate::ports::{DatastoreInfo, Datastores, DiskSpec, DiskStat, DsPath, Entry, StorageError};

const BOTH: Looks = Looks {
    second: true,
    third: true,
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
        let answer = act(&mut memory.files);
        let turn = memory.turn;
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
        _: Instant,
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

/// Changes the file so many times; each change has its own bit.
async fn writer(store: Store, me: u8, changes: u8, looks: Looks) {
    let file = file();
    for change in 0..changes {
        let bit = 1 << (me * changes + change);
        let Ok(seen) = file.read(&store).await else {
            return;
        };
        let next = value(carried(seen.bytes.as_ref()) | bit);
        if let Ok(Swapped::Done(_)) = file.swap_with(&store, &seen, next, looks).await {
            store.0.lock().unwrap().acknowledged |= bit;
        }
    }
}

struct Run {
    store: Store,
    writers: Vec<Option<Writer>>,
}

impl Run {
    fn new((count, changes): (u8, u8), start: &[(&str, Vec<u8>)], looks: Looks) -> Self {
        let store = Store::default();
        {
            let mut memory = store.0.lock().unwrap();
            memory.seen = vec![0; usize::from(count)];
            memory.files = start
                .iter()
                .map(|(n, b)| ((*n).to_owned(), b.clone()))
                .collect();
        }
        let writers = (0..count).map(|me| {
            let future: Writer = Box::pin(writer(store.clone(), me, changes, looks));
            Some(future)
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
        memory.acknowledged & !carried(newest.map(|(_, b)| b))
    }

    fn state(&self) -> u64 {
        let memory = self.store.0.lock().unwrap();
        let mut digest = DefaultHasher::new();
        let done: Vec<bool> = self.writers.iter().map(Option::is_none).collect();
        (&memory.files, &memory.seen, done, memory.acknowledged).hash(&mut digest);
        digest.finish()
    }
}

/// Number of states, or the schedule that loses an acknowledged value.
fn search(
    (count, changes): (u8, u8),
    start: &[(&str, Vec<u8>)],
    looks: Looks,
) -> Result<usize, Vec<usize>> {
    let mut seen = HashSet::new();
    let mut open: Vec<Vec<usize>> = vec![Vec::new()];
    while let Some(schedule) = open.pop() {
        // One way on is walked as long as it is new; the others are left for later.
        let mut run = Run::new((count, changes), start, looks);
        schedule.iter().for_each(|me| run.choose(*me));
        let mut walked = schedule;
        loop {
            if run.lost() != 0 {
                return Err(walked);
            }
            if !seen.insert(run.state()) {
                break;
            }
            let ready: Vec<usize> = (0..usize::from(count))
                .filter(|me| run.writers[*me].is_some())
                .collect();
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

#[test]
fn no_interleaving_of_three_writers_loses_an_acknowledged_value() {
    let states = search((3, 1), &[], BOTH).unwrap();
    assert!(states > 10_000, "only {states} states were reached");
}

#[test]
fn nor_does_one_that_begins_with_a_value_and_a_dead_writers_slot() {
    let start = [("f.4", value(0)), ("f.5", b"vdvs rec".to_vec())];
    let states = search((2, 1), &start, BOTH).unwrap();
    assert!(states > 100, "only {states} states were reached");
}

#[test]
fn nor_do_two_writers_that_change_it_again_and_again() {
    let states = search((2, 2), &[], BOTH).unwrap();
    assert!(states > 1_000, "only {states} states were reached");
}

#[test]
fn without_the_second_look_a_value_is_lost() {
    let looks = Looks {
        second: false,
        ..BOTH
    };
    assert!(search((3, 1), &[], looks).is_err());
}

#[test]
fn without_the_third_look_a_value_is_lost() {
    let looks = Looks {
        third: false,
        ..BOTH
    };
    assert!(search((3, 1), &[], looks).is_err());
}
