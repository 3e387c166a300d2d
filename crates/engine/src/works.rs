//! Disks that this host is making, and how far they are.
//!
//! Making a disk may take hours: zeros are written, a source is copied. No key is held meanwhile. What keeps others
//! away is the record, which says *create*; what tells this host's own requests and sweeps that somebody is at it is
//! this table; and what tells other hosts is [`Making`] in the record, renewed while the work goes on.
//!
//! A caller may go away, the work goes on; who asks for the same volume again waits for the same work. It ends early
//! only when the agent stops or an administrator removes the volume, and then takes back what it made.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use vdvs_domain::error::full_name;
use vdvs_domain::record::{CloneSource, Making};
use vdvs_domain::{
    DatastoreName, Error, GroupId, Operation, OperationKind, VolumeId, VolumeName, VolumeRecord,
};

use crate::inner::{Inner, locked};
use crate::layout::Place;
use crate::ports::{Progress, StorageError};
use crate::records::Stored;

/// How often the record says that its maker is at it.
const RENEW: Duration = Duration::from_secs(10);
/// Time left for an answer to reach a caller before its deadline.
const REPLY: Duration = Duration::from_secs(1);

/// One disk being made.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) id: VolumeId,
    pub(crate) place: Place,
    pub(crate) source: Option<CloneSource>,
    pub(crate) progress: Arc<Progress>,
    ended: CancellationToken,
}

/// The disks being made.
#[derive(Debug, Default)]
pub(crate) struct Works(Mutex<BTreeMap<VolumeId, Arc<Work>>>);

/// The work is in the table until this is dropped.
pub(crate) struct Underway<'a> {
    works: &'a Works,
    pub(crate) work: Arc<Work>,
}

impl Works {
    pub(crate) fn begin(
        &self,
        id: VolumeId,
        place: &Place,
        source: Option<CloneSource>,
    ) -> Underway<'_> {
        let work = Arc::new(Work {
            id,
            place: place.clone(),
            source,
            progress: Arc::default(),
            ended: CancellationToken::new(),
        });
        locked(&self.0).insert(id, Arc::clone(&work));
        Underway { works: self, work }
    }

    pub(crate) fn get(&self, id: VolumeId) -> Option<Arc<Work>> {
        locked(&self.0).get(&id).cloned()
    }

    /// The volume of that name that is being made.
    pub(crate) fn named(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
    ) -> Option<Arc<Work>> {
        let works = locked(&self.0);
        let is =
            |w: &&Arc<Work>| w.place.ds == *ds && w.place.folder == group && w.place.name == *name;
        works.values().find(is).cloned()
    }

    /// Nobody will wait for any of them.
    pub(crate) fn stop_all(&self) {
        locked(&self.0).values().for_each(|w| w.progress.stop());
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        locked(&self.works.0).remove(&self.work.id);
        self.work.ended.cancel();
    }
}

impl Work {
    /// Returns when the work has ended, one way or the other.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// `being created: 42 % written`.
    pub(crate) fn words(&self) -> String {
        let (done, total) = self.progress.get();
        words(
            self.source.as_ref(),
            done.saturating_mul(100).checked_div(total),
        )
    }
}

fn words(source: Option<&CloneSource>, percent: Option<u64>) -> String {
    match (source, percent) {
        (None, None) => "being created".to_owned(),
        (None, Some(percent)) => format!("being created: {percent} % written"),
        (Some(source), percent) => format!(
            "being cloned from {}: {} % copied",
            full_name(&source.name, &source.datastore),
            percent.unwrap_or(0)
        ),
    }
}

impl Inner {
    /// How far the making of a volume is, here or on another host; none when nothing is known of it.
    pub(crate) fn making_in_words(&self, record: &VolumeRecord) -> Option<String> {
        if let Some(work) = self.works.get(record.id) {
            return Some(work.words());
        }
        let making = record.making.as_ref()?;
        Some(words(making.source.as_ref(), making.percent()))
    }

    /// The time to answer a caller who waits until `deadline`: a little earlier, so that it hears the answer.
    pub(crate) fn answer_by(&self, deadline: Instant) -> Instant {
        let left = deadline.saturating_duration_since(self.instant());
        deadline
            .checked_sub(REPLY.min(left / 10))
            .unwrap_or(deadline)
    }

    /// What a caller hears whose deadline passed while a volume of that name is made.
    pub(crate) fn still_making(
        &self,
        ds: &DatastoreName,
        group: GroupId,
        name: &VolumeName,
        elsewhere: Option<String>,
    ) -> Error {
        let here = self.works.named(ds, group, name).map(|w| w.words());
        Error::StillMaking {
            name: full_name(name, ds),
            making: here.or(elsewhere).unwrap_or_else(|| words(None, None)),
        }
    }

    /// Waits for the end of a volume's making on this host, or for the time to answer.
    pub(crate) async fn ended_by(&self, work: &Work, until: Instant) {
        tokio::select! {
            biased;
            () = work.ended() => {}
            () = sleep_until(until) => {}
        }
    }

    /// Has the disk made, and says in the record from time to time that somebody is at it.
    pub(crate) async fn renewing(
        &self,
        work: &Work,
        made: impl Future<Output = Result<(), StorageError>>,
    ) -> Result<(), StorageError> {
        let mut made = Box::pin(made);
        loop {
            tokio::select! {
                biased;
                done = &mut made => return done,
                () = sleep(RENEW) => {
                    if let Err(why) = self.renew(work).await {
                        // Somebody took it for abandoned, or nobody can write there now: the end will tell.
                        tracing::debug!(volume = %work.place.what(), %why, "how far it is was not recorded");
                    }
                }
            }
        }
    }

    async fn renew(&self, work: &Work) -> Result<Stored, Error> {
        let (done, total) = work.progress.get();
        let making = Making {
            source: work.source.clone(),
            done,
            total,
            seen: self.now(),
        };
        self.change(&work.place, |record| {
            let creates = |o: &Operation| o.kind == OperationKind::Create;
            if !record.operation.as_ref().is_some_and(creates) {
                work.progress.stop();
                return Err(Error::Contended {
                    name: full_name(&work.place.name, &work.place.ds),
                });
            }
            let mut next = record.clone();
            next.making = Some(making.clone());
            Ok(next.into())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn how_far_it_is_reads_as_a_sentence_goes_on() {
        let source = CloneSource {
            id: VolumeId::new(Uuid::from_u128(1)),
            name: VolumeName::new("v").unwrap(),
            datastore: DatastoreName::new("ds").unwrap(),
        };
        assert_eq!(words(None, None), "being created");
        assert_eq!(words(None, Some(42)), "being created: 42 % written");
        assert_eq!(
            words(Some(&source), Some(7)),
            "being cloned from v@ds: 7 % copied"
        );
        assert_eq!(
            words(Some(&source), None),
            "being cloned from v@ds: 0 % copied"
        );
    }
}
