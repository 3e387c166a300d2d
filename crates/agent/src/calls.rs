//! How a call runs: its deadline, what cancels it, and the place it takes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use vdvs_api::limits::{DEFAULT_DEADLINE, MAX_DEADLINE};
use vdvs_api::status::deadline_of;
use vdvs_domain::Error;

use crate::guests::{Class, Places};

/// What all calls share.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    tasks: TaskTracker,
    draining: CancellationToken,
    aborting: CancellationToken,
}

impl Calls {
    /// When the caller stops waiting, by the clock of this host. Never later than the contract allows.
    #[must_use]
    pub fn deadline(metadata: &MetadataMap) -> Instant {
        let left = deadline_of(metadata).unwrap_or(DEFAULT_DEADLINE);
        Instant::now() + left.min(MAX_DEADLINE)
    }

    /// Runs a use case that changes something, in a task of its own. When this future is dropped the use case is only
    /// told; it decides whether it can still turn back.
    ///
    /// # Errors
    /// The use case's, or that the deadline passed before a place was free.
    pub async fn change<T, Run>(
        &self,
        places: &Places,
        class: Class,
        deadline: Instant,
        run: impl FnOnce(CancellationToken) -> Run,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        Run: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let place = place(places.of(class), deadline).await?;
        // A wait ends as soon as the agent drains; work under way gets the time to finish.
        let cancel = match class {
            Class::Attach => self.draining.child_token(),
            Class::Read | Class::Change | Class::Detach => self.aborting.child_token(),
        };
        let gone = cancel.clone().drop_guard();
        let use_case = run(cancel);
        let task = self.tasks.spawn(async move {
            let _place: OwnedSemaphorePermit = place;
            use_case.await
        });
        let result = task.await;
        drop(gone);
        result.unwrap_or_else(|lost| Err(Error::Internal(format!("a call was lost: {lost}"))))
    }

    /// Runs long work, which draining waits for like for any change. Nobody waits for it here.
    pub fn long(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Runs a use case that only looks. It ends with the deadline, or when this future is dropped.
    ///
    /// # Errors
    /// The use case's, or that the deadline passed.
    pub async fn read<T>(
        places: &Places,
        deadline: Instant,
        run: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let _place = place(places.of(Class::Read), deadline).await?;
        timeout_at(deadline, run)
            .await
            .unwrap_or(Err(Error::DeadlinePassed { doing: "reading" }))
    }

    /// Begins to drain: waiting attaches are told.
    pub fn drain(&self) {
        self.draining.cancel();
        self.tasks.close();
    }

    /// Tells every call to turn back if it can.
    pub fn abort(&self) {
        self.aborting.cancel();
    }

    /// Cancelled when draining begins.
    #[must_use]
    pub const fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Waits until no use case runs, at most `patience`. False: some still do.
    pub async fn finished(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        timeout_at(until, self.tasks.wait()).await.is_ok()
    }
}

async fn place(places: &Arc<Semaphore>, deadline: Instant) -> Result<OwnedSemaphorePermit, Error> {
    let doing = "waiting for earlier requests of this VM";
    timeout_at(deadline, Arc::clone(places).acquire_owned())
        .await
        .map_err(|_| Error::DeadlinePassed { doing })?
        // The semaphores are never closed.
        .map_err(|closed| Error::Internal(closed.to_string()))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn waiting_attaches_keep_neither_reads_nor_detaches_out() {
        let (calls, places) = (Calls::default(), Arc::new(Places::default()));
        while places.of(Class::Attach).available_permits() > 0 {
            let (calls, places) = (calls.clone(), Arc::clone(&places));
            calls.clone().tasks.spawn(async move {
                calls
                    .change(&places, Class::Attach, soon(), |_| {
                        pending::<Result<(), Error>>()
                    })
                    .await
            });
            yield_now().await;
        }
        let detach = calls.change(&places, Class::Detach, soon(), |_| async { Ok(1) });
        assert_eq!(detach.await.unwrap(), 1);
        let read = Calls::read(&places, soon(), async { Ok(2) });
        assert_eq!(read.await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_change_whose_caller_goes_away_is_told_and_still_ends_by_itself() {
        let (calls, places) = (Calls::default(), Places::default());
        let (tell, told) = oneshot::channel();
        let (start, started) = oneshot::channel();
        let call = calls.change(&places, Class::Change, soon(), |cancel| async move {
            start.send(()).unwrap();
            cancel.cancelled().await;
            tell.send("finished").unwrap();
            Ok(())
        });
        tokio::select! {
            _ = call => panic!("the use case waits for its caller to go away"),
            _ = started => {}
        }
        assert_eq!(told.await.unwrap(), "finished");
    }

    #[tokio::test]
    async fn draining_wakes_attaches_at_once_and_others_only_when_it_aborts() {
        let (calls, places) = (Calls::default(), Places::default());
        let wait = |cancel: CancellationToken| async move {
            cancel.cancelled().await;
            Ok(())
        };
        let attach = calls.change(&places, Class::Attach, soon(), wait);
        let create = calls.change(&places, Class::Change, soon(), wait);
        let run = async {
            calls.drain();
            assert!(!calls.finished(Duration::from_millis(50)).await);
            calls.abort();
            assert!(calls.finished(Duration::from_secs(20)).await);
        };
        let (attached, created, ()) = tokio::join!(attach, create, run);
        assert!(attached.is_ok() && created.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_ends_with_its_deadline() {
        let places = Places::default();
        let deadline = Instant::now() + Duration::from_millis(10);
        let read = Calls::read(&places, deadline, pending::<Result<(), Error>>()).await;
        assert!(
            matches!(read, Err(Error::DeadlinePassed { .. })),
            "{read:?}"
        );
    }
}
