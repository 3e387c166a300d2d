//! One job per volume: started by whoever needs it first, joined by all others, finished whether or not anybody waits.

use std::sync::Arc;

use tokio::sync::SetOnce;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use vdvs_domain::VolumeId;

use super::{Inner, Volumes};

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Attach and mount.
    BringUp,
    /// Unmount and detach.
    TakeDown,
    /// Compare counts with reality.
    Check,
    /// Let go of what the host took away.
    Lose,
    /// Make the book say what is mounted.
    PutRight,
}

/// Why a job did not reach its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stopped {
    /// For the person.
    pub(super) text: String,
    /// Whether it is worth starting over.
    pub(super) again: Again,
}

/// When a job is worth starting over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Nobody wanted it any more; who wants it now starts anew.
    AtOnce,
    /// The wait for another VM ended here; who may wait longer goes on.
    AfterWaitUntil(Instant),
    /// Something passes.
    Soon,
    /// Only a person can help.
    No,
}

impl Stopped {
    pub(super) fn final_(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            again: Again::No,
        }
    }

    pub(super) fn cancelled() -> Self {
        Self {
            text: "nobody waits for the mount any more".into(),
            again: Again::AtOnce,
        }
    }
}

/// What a job ends with.
pub(super) type Ended = Result<(), Stopped>;

/// A job under way.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) kind: Kind,
    done: Arc<SetOnce<Ended>>,
    pub(super) cancel: CancellationToken,
}

impl Job {
    /// Waits for its end. Those who wait go on in the order in which they came.
    pub(super) async fn ended(self) -> Ended {
        self.done.wait().await.clone()
    }
}

/// The end of a job, told also where the job is lost: by a panic, or with the runtime.
struct End(Arc<SetOnce<Ended>>);

impl End {
    fn tell(&self, ended: Ended) {
        // The first one told counts.
        drop(self.0.set(ended));
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.tell(Err(Stopped::final_("the plugin is stopping")));
    }
}

/// Interest of one Mount request, for as long as its caller is there.
#[derive(Debug)]
pub(super) struct Claim {
    volumes: Volumes,
    volume: VolumeId,
}

impl Claim {
    pub(super) fn new(volumes: &Volumes, volume: VolumeId) -> Self {
        let mut book = volumes.book();
        let work = book.work.entry(volume).or_default();
        work.claims = work.claims.saturating_add(1);
        drop(book);
        Self {
            volumes: volumes.clone(),
            volume,
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut book = self.volumes.book();
        if let Some(work) = book.work.get_mut(&self.volume) {
            work.claims = work.claims.saturating_sub(1);
            match &work.job {
                Some(job) if work.claims == 0 && job.kind == Kind::BringUp => job.cancel.cancel(),
                None if work.claims == 0 => drop(book.work.remove(&self.volume)),
                _ => {}
            }
        }
        drop(book);
        self.volumes.settle(self.volume);
    }
}

impl Volumes {
    /// Starts a job, or returns the one under way, whatever it is for.
    pub(super) fn start<F>(
        &self,
        volume: VolumeId,
        kind: Kind,
        work: impl FnOnce(Self, CancellationToken) -> F,
    ) -> Job
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let done = Arc::new(SetOnce::new());
        let cancel = CancellationToken::new();
        let job = Job {
            kind,
            done: Arc::clone(&done),
            cancel: cancel.clone(),
        };
        {
            let mut book = self.book();
            let entry = book.work.entry(volume).or_default();
            if let Some(running) = &entry.job {
                return running.clone();
            }
            entry.job = Some(job.clone());
        }
        let work = work(self.clone(), cancel);
        let volumes = self.clone();
        let end = End(done);
        self.inner.tracker.spawn(async move {
            let ended = work.await;
            volumes.finished(volume, kind);
            end.tell(ended);
        });
        job
    }

    /// The job under way.
    pub(super) fn running(&self, volume: VolumeId) -> Option<Job> {
        self.book().work.get(&volume).and_then(|w| w.job.clone())
    }

    fn finished(&self, volume: VolumeId, kind: Kind) {
        {
            let mut book = self.book();
            if let Some(work) = book.work.get_mut(&volume) {
                work.job = None;
                if work.claims == 0 {
                    book.work.remove(&volume);
                }
            }
        }
        // A take-down that could not finish is retried by the reality check, not in a circle; a check has decided.
        if kind == Kind::BringUp {
            self.settle(volume);
        }
    }

    /// What nobody wants leaves.
    pub(super) fn settle(&self, volume: VolumeId) {
        let stopping = self.inner.stop.is_cancelled();
        if !stopping && self.book().is_unwanted(volume) {
            drop(self.take_down(volume));
        }
    }
}

impl Inner {
    /// Work that no request waits for. It ends where it stands when the plugin stops, since it may be waiting for a host
    /// that does not answer; the jobs it began go on to their ends.
    pub(super) fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tracker.spawn(stop.run_until_cancelled_owned(work));
    }
}
