//! Virtual disks, made, copied and deleted by hostd.
//!
//! hostd's task may outlive our knowledge of it. What happened is then told by the disk: whole, or to be taken away.
//! Paths carry the volume's id and are never used twice, so a task that ends late makes nothing that anybody mistakes.

use std::sync::Arc;
use std::time::Duration;

use tokio::select;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use vdvs_domain::{DatastoreName, DiskFormat};
use vdvs_engine::ports::{DatastoreKind, DiskPath, DiskSpec, DsPath, Progress, StorageError};
use vdvs_vim::{AdapterType, DiskType, Effect, Error, FaultKind, FileBackedDisk, FilePath, Task};
use vdvs_vmdk::DiskUuid;

use super::{EsxDatastores, LIMIT};
use crate::faults;

/// Zeroing and copying take as long as they take: 62 TB at 100 MB a second. Whoever waits less says stop.
const LONG: Duration = Duration::from_secs(8 * 24 * 3600);
/// How often a task that runs is looked at for whether it is still wanted.
const TICK: Duration = Duration::from_millis(250);
/// VVol containers count in whole megabytes.
const MEGABYTE: u64 = 1024 * 1024;

impl EsxDatastores {
    pub(crate) async fn make_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        let place = place(ds, file);
        self.whole_megabytes(ds, spec).await?;
        let deadline = Instant::now() + LONG;
        let name = self.named(ds, file).await?;
        let disk = FileBackedDisk {
            disk_type: disk_type(spec.format),
            adapter: AdapterType::LsiLogic,
            capacity_kb: spec.capacity.bytes() / 1024,
        };
        let client = &self.esx.client;
        let begun =
            begin(|| client.create_virtual_disk(&name, &disk, Instant::now() + LIMIT)).await;
        let ended = self.see_through(begun, spec, progress, deadline).await;
        self.settle(ended, ds, file, spec, &place).await?;
        self.give_uuid(&name, spec.uuid).await;
        Ok(())
    }

    pub(crate) async fn copy_disk(
        &self,
        source: &DiskPath,
        target: &DiskPath,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
    ) -> Result<(), StorageError> {
        let (ds, file) = (&target.datastore, &target.path);
        let place = place(ds, file);
        self.whole_megabytes(ds, spec).await?;
        let deadline = Instant::now() + LONG;
        let from = self.named(&source.datastore, &source.path).await?;
        let to = self.named(ds, file).await?;
        let alone = self
            .esx
            .me(Instant::now() + LIMIT)
            .await
            .is_ok_and(|me| me.alone);
        // A vCenter takes no format for a copy and gives it the source's.
        let format = alone.then(|| disk_type(spec.format));
        let client = &self.esx.client;
        let begun =
            begin(|| client.copy_virtual_disk(&from, &to, format, Instant::now() + LIMIT)).await;
        let copied = self.see_through(begun, spec, progress, deadline).await;
        if let Err(Ended::Refused(StorageError::NotFound(_))) = &copied {
            // Of the two it can only be the source: the target's folder holds its claim.
            return Err(StorageError::NotFound(source.to_string()));
        }
        let grown = match copied {
            Ok(()) => self.grow(ds, file, &to, spec, progress, deadline).await,
            other => other,
        };
        self.settle(grown, ds, file, spec, &place).await?;
        self.give_uuid(&to, spec.uuid).await;
        Ok(())
    }

    /// Makes a copy as large as it shall be.
    async fn grow(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
        name: &FilePath,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
        deadline: Instant,
    ) -> Result<(), Ended> {
        let own = file.clone();
        let found = self.soon(ds, move |folder| folder.stat_disk(&own)).await;
        match found.map_err(Ended::Refused)? {
            Some(stat) if stat.capacity < spec.capacity => {}
            _ => return Ok(()),
        }
        let (client, kb) = (&self.esx.client, spec.capacity.bytes() / 1024);
        let eager = (spec.format == DiskFormat::EagerZeroedThick).then_some(true);
        let begun =
            begin(|| client.extend_virtual_disk(name, kb, eager, Instant::now() + LIMIT)).await;
        self.see_through(begun, spec, progress, deadline).await
    }

    /// Deletes a disk that nobody is known to have open, and what there is of half a disk.
    pub(crate) async fn drop_disk(
        &self,
        ds: &DatastoreName,
        file: &DsPath,
    ) -> Result<bool, StorageError> {
        let place = place(ds, file);
        let name = self.named(ds, file).await?;
        let client = &self.esx.client;
        let deadline = Instant::now() + LIMIT;
        let deleted = match begin(|| client.delete_virtual_disk(&name, deadline)).await {
            Ok(task) => client.finish(&task, |_| (), deadline).await.map(drop),
            Err(why) => Err(why),
        };
        let refused = match deleted {
            Ok(()) => None,
            Err(why) => Some(faults::storage(&why, &place)),
        };
        // Whatever it said: what is still there tells.
        let own = file.clone();
        let left = self.soon(ds, move |folder| folder.has_disk(&own)).await?;
        match (left, refused) {
            (false, _) => Ok(true),
            // hostd knows no disk there: what is left is half of one.
            (true, None | Some(StorageError::NotFound(_))) => {
                let own = file.clone();
                self.soon(ds, move |folder| folder.sweep_disk(&own)).await
            }
            (true, Some(why)) => Err(why),
        }
    }

    async fn named(&self, ds: &DatastoreName, file: &DsPath) -> Result<FilePath, StorageError> {
        let named = self.esx.file(ds, file, Instant::now() + LIMIT).await;
        named.map_err(|e| StorageError::Io(e.to_string()))
    }

    async fn whole_megabytes(
        &self,
        ds: &DatastoreName,
        spec: &DiskSpec,
    ) -> Result<(), StorageError> {
        let store = self.stores.catalog.store(ds).await?;
        if store.kind == DatastoreKind::Vvol && !spec.capacity.bytes().is_multiple_of(MEGABYTE) {
            return Err(StorageError::Io(format!(
                "datastore '{ds}' is a VVol container, whose disks have whole megabytes; {} bytes are not",
                spec.capacity.bytes()
            )));
        }
        Ok(())
    }

    /// Waits for a task's end, telling how far it is, and stops it when nobody wants it any more.
    async fn see_through(
        &self,
        begun: Result<Task, Error>,
        spec: &DiskSpec,
        progress: &Arc<Progress>,
        deadline: Instant,
    ) -> Result<(), Ended> {
        let task = begun.map_err(ended)?;
        let total = spec.capacity.bytes();
        let tell = |percent: u8| progress.set(total / 100 * u64::from(percent), total);
        let client = &self.esx.client;
        let finish = client.finish(&task, tell, deadline);
        tokio::pin!(finish);
        let mut told = false;
        loop {
            select! {
                end = &mut finish => {
                    return match end {
                        Ok(_) if told => Err(Ended::Refused(StorageError::Stopped)),
                        Ok(_) => Ok(()),
                        Err(why) => Err(ended(why)),
                    };
                }
                () = sleep(TICK), if !told => {
                    if progress.is_stopped() {
                        told = true;
                        if let Err(why) = client.cancel_task(&task, Instant::now() + LIMIT).await {
                            tracing::debug!(%why, "a task nobody wants cannot be stopped");
                        }
                    }
                }
            }
        }
    }

    /// What the disk says of the work that made it. A failure leaves nothing behind.
    async fn settle(
        &self,
        ended: Result<(), Ended>,
        ds: &DatastoreName,
        file: &DsPath,
        spec: &DiskSpec,
        place: &str,
    ) -> Result<(), StorageError> {
        let why = match ended {
            Ok(()) => return Ok(()),
            // Somebody's whole disk.
            Err(Ended::Refused(StorageError::AlreadyExists(_))) => {
                return Err(StorageError::AlreadyExists(place.to_owned()));
            }
            Err(Ended::Refused(why)) => why,
            Err(Ended::Unknown(why)) => {
                let own = file.clone();
                let found = self.soon(ds, move |folder| folder.stat_disk(&own)).await;
                let is_thin = spec.format == DiskFormat::Thin;
                // A thin disk is made in one moment. Of another its size says nothing about its content.
                if is_thin && found.is_ok_and(|s| s.is_some_and(|s| s.capacity == spec.capacity)) {
                    tracing::info!(place, why, "hostd gave no answer, and the disk is there");
                    return Ok(());
                }
                StorageError::Io(why)
            }
        };
        match self.drop_disk(ds, file).await {
            Ok(_) => Err(why),
            Err(also) => {
                tracing::debug!(place, %also, "what is left of a disk stays for later");
                Err(why)
            }
        }
    }

    /// Gives a disk the UUID by which it is found again under another name. Without it the disk is as good.
    async fn give_uuid(&self, name: &FilePath, id: Uuid) {
        let digits = DiskUuid::from_random(id.into_bytes()).to_string();
        let uuid = spelled(&digits);
        let set = self
            .esx
            .client
            .set_virtual_disk_uuid(name, &uuid, Instant::now() + LIMIT)
            .await;
        match set {
            Ok(()) => {}
            Err(why)
                if why
                    .fault()
                    .is_some_and(|f| matches!(f.kind, FaultKind::NotSupported { .. })) =>
            {
                tracing::debug!(%why, "the disk keeps hostd's own UUID");
            }
            Err(why) => tracing::info!(%why, disk = name.path, "the disk keeps hostd's own UUID"),
        }
    }
}

/// Begins a task. A session that turns out to be lost had it done nothing: once more in a new one.
async fn begin<F>(call: impl Fn() -> F) -> Result<Task, Error>
where
    F: Future<Output = Result<Task, Error>>,
{
    match call().await {
        Err(why) if why.is_session_lost() => call().await,
        other => other,
    }
}

/// How work ended that did not end well.
#[derive(Debug)]
enum Ended {
    Refused(StorageError),
    Unknown(String),
}

fn ended(error: Error) -> Ended {
    match error.effect() {
        Effect::Unknown => Ended::Unknown(error.to_string()),
        Effect::None => Ended::Refused(faults::storage(&error, "disk")),
    }
}

fn place(ds: &DatastoreName, file: &DsPath) -> String {
    format!("[{ds}] {file}")
}

const fn disk_type(format: DiskFormat) -> DiskType {
    match format {
        DiskFormat::Thin => DiskType::Thin,
        DiskFormat::ZeroedThick => DiskType::Preallocated,
        DiskFormat::EagerZeroedThick => DiskType::EagerZeroedThick,
    }
}

/// `60 00 c2 9a …-…`, as the API and descriptors spell a disk's UUID.
fn spelled(digits: &str) -> String {
    let mut text = String::with_capacity(47);
    for (at, digit) in digits.chars().enumerate() {
        match at {
            16 => text.push('-'),
            at if at > 0 && at.is_multiple_of(2) => text.push(' '),
            _ => {}
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disks_uuid_is_spelled_as_in_descriptors() {
        let digits = DiskUuid::from_random([0xab; 16]).to_string();
        assert_eq!(
            spelled(&digits),
            "60 00 c2 9b ab ab ab ab-ab ab ab ab ab ab ab ab"
        );
    }
}
