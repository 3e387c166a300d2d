//! The datastore of one writer: each call waits to be chosen, then acts at once. A blind one answers some looks from
//! memory.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::sync::Arc;
use std::task::Poll;

use async_trait::async_trait;
use vdvs_domain::DatastoreName;
use vdvs_engine::ports::{
    DatastoreInfo, Datastores, DiskPath, DiskSpec, DiskStat, DsPath, Entry, Progress, StorageError,
};

use super::Blind;
use super::memory::{Phase, STEM, Shared, Writer};
use super::swap::slot_of;

#[derive(Debug)]
pub(super) struct Store(pub(super) Shared, pub(super) Blind);

type Files = BTreeMap<u64, Vec<u8>>;

impl Store {
    /// One step: waits to be chosen, then acts at once.
    async fn step<T: Hash>(
        &self,
        what: &str,
        act: impl FnOnce(&mut Writer, &mut Files) -> Result<T, StorageError>,
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
        let mut memory = self.0.memory();
        memory.calls();
        let Some((writer, files)) = memory.now() else {
            return unused();
        };
        let answer = act(writer, files);
        memory.answered(what, answer.as_ref().ok());
        answer
    }

    /// What a look shows: the files, or what a blind one takes for them.
    fn shown(&self, writer: &mut Writer, files: &Files) -> Files {
        let own = |seq: u64| files.get(&seq).map(|bytes| (seq, bytes.clone()));
        match (writer.phase, self.1) {
            (Phase::Reading, _) => {
                writer.view = files.clone();
                files.clone()
            }
            (Phase::Made(seq), Blind::Second) => writer
                .view
                .iter()
                .map(|(s, b)| (*s, b.clone()))
                .chain(own(seq))
                .collect(),
            (Phase::Wrote(seq), Blind::Third) => own(seq).into_iter().collect(),
            (Phase::Wrote(seq), Blind::Base) => own(seq).into_iter().chain(own(seq + 1)).collect(),
            (Phase::Found, Blind::Third | Blind::Base) => writer.view.clone(),
            (Phase::Removing, Blind::Below) => Files::new(),
            _ => files.clone(),
        }
    }
}

fn unused<T>() -> Result<T, StorageError> {
    Err(StorageError::Io("not part of the protocol".into()))
}

fn missing<T>() -> Result<T, StorageError> {
    Err(StorageError::NotFound(String::new()))
}

fn slot(file: &DsPath) -> u64 {
    slot_of(file.file_name(), STEM).unwrap_or(0)
}

#[async_trait]
impl Datastores for Store {
    async fn list(&self) -> Result<Vec<DatastoreInfo>, StorageError> {
        unused()
    }

    async fn read_dir(&self, _: &DatastoreName, _: &DsPath) -> Result<Vec<Entry>, StorageError> {
        let slots = self
            .step("lists the slots", |writer, files| {
                let shown = self.shown(writer, files);
                if let Phase::Wrote(_) = writer.phase {
                    writer.phase = Phase::Removing;
                }
                let now: Vec<u64> = shown.into_keys().collect();
                Ok(match (writer.phase, self.1) {
                    (Phase::Reading, Blind::Again) => writer.listed.get_or_insert(now).clone(),
                    _ => now,
                })
            })
            .await?;
        let entry = |seq| Entry {
            name: format!("{STEM}.{seq}"),
            is_dir: false,
        };
        Ok(slots.into_iter().map(entry).collect())
    }

    async fn make_dir(&self, _: &DatastoreName, _: &DsPath) -> Result<(), StorageError> {
        unused()
    }

    async fn create_new(&self, _: &DatastoreName, file: &DsPath) -> Result<(), StorageError> {
        let seq = slot(file);
        self.step(&format!("makes slot {seq}"), |writer, files| {
            if files.contains_key(&seq) {
                return Err(StorageError::AlreadyExists(String::new()));
            }
            files.insert(seq, Vec::new());
            writer.phase = Phase::Made(seq);
            Ok(())
        })
        .await
    }

    async fn write(
        &self,
        _: &DatastoreName,
        file: &DsPath,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let seq = slot(file);
        self.step(&format!("writes slot {seq}"), |writer, files| {
            writer.phase = Phase::Wrote(seq);
            match files.get_mut(&seq) {
                Some(content) => {
                    *content = bytes.to_vec();
                    Ok(())
                }
                None => missing(),
            }
        })
        .await
    }

    async fn read(
        &self,
        _: &DatastoreName,
        file: &DsPath,
        _: usize,
    ) -> Result<Vec<u8>, StorageError> {
        let seq = slot(file);
        self.step(&format!("looks at slot {seq}"), |writer, files| {
            let shown = self.shown(writer, files).remove(&seq);
            writer.phase = match writer.phase {
                Phase::Wrote(own) if own == seq => Phase::Found,
                Phase::Found => Phase::Removing,
                other => other,
            };
            shown.map_or_else(missing, Ok)
        })
        .await
    }

    async fn remove(&self, _: &DatastoreName, file: &DsPath) -> Result<bool, StorageError> {
        let seq = slot(file);
        self.step(&format!("removes slot {seq}"), |_, files| {
            Ok(files.remove(&seq).is_some())
        })
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
