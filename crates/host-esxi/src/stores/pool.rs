//! The threads of one datastore: file calls take as long as the datastore takes, and one that hangs takes its own
//! threads with it, nobody else's.
//!
//! At most [`THREADS`] of them; more is only taking turns on one device. They start when there is work and end when
//! there has been none for a while. A call whose caller stopped waiting runs on in its thread and keeps its place.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use vdvs_engine::ports::StorageError;

/// Threads of one datastore.
const THREADS: usize = 4;
/// Calls on one datastore at once, waiting ones among them.
const PLACES: usize = 64;
/// Stack of a thread: file calls need little, and an ESXi host counts every page.
const STACK: usize = 256 * 1024;
/// How long a thread waits for more work.
const IDLE: Duration = Duration::from_secs(30);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// The threads of one datastore.
pub(crate) struct Pool {
    name: String,
    places: Arc<Semaphore>,
    queue: Arc<(Mutex<Queue>, Condvar)>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// The threads of the datastore of this name; none yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            places: Arc::new(Semaphore::new(PLACES)),
            queue: Arc::default(),
        }
    }

    /// Runs `act` on one of the threads.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        act: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let late = || StorageError::Io(format!("datastore '{}' did not answer in time", self.name));
        let place = Arc::clone(&self.places).acquire_owned();
        let place = match timeout_at(deadline, place).await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) | Err(_) => return Err(late()),
        };
        let (tell, told) = oneshot::channel();
        self.put(Box::new(move || {
            let done = act();
            drop(place);
            // Nobody may wait any more.
            drop(tell.send(done));
        }))?;
        match timeout_at(deadline, told).await {
            Ok(Ok(done)) => done,
            // The thread died on it.
            Ok(Err(_)) => Err(StorageError::Io(format!(
                "a call on datastore '{}' was cut off",
                self.name
            ))),
            Err(_) => Err(late()),
        }
    }

    fn put(&self, job: Job) -> Result<(), StorageError> {
        let mut queue = lock(&self.queue.0);
        queue.jobs.push_back(job);
        if queue.idle >= queue.jobs.len() {
            self.queue.1.notify_one();
            return Ok(());
        }
        if queue.threads < THREADS {
            let (shared, name) = (Arc::clone(&self.queue), format!("ds {}", self.name));
            match Builder::new()
                .name(name)
                .stack_size(STACK)
                .spawn(move || work(&shared))
            {
                Ok(_) => queue.threads += 1,
                // Those there are do it later.
                Err(_) if queue.threads > 0 => {}
                Err(e) => {
                    queue.jobs.pop_back();
                    return Err(StorageError::Io(format!(
                        "cannot start a thread for datastore '{}': {e}",
                        self.name
                    )));
                }
            }
        }
        self.queue.1.notify_one();
        Ok(())
    }
}

fn work(shared: &(Mutex<Queue>, Condvar)) {
    /// Counts the thread out, also when a job panics.
    struct Leave<'a>(&'a Mutex<Queue>);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            lock(self.0).threads -= 1;
        }
    }
    let (queue, wake) = shared;
    let _leave = Leave(queue);
    loop {
        let job = {
            let mut held = lock(queue);
            loop {
                if let Some(job) = held.jobs.pop_front() {
                    break job;
                }
                held.idle += 1;
                let (again, waited) = wake
                    .wait_timeout(held, IDLE)
                    .unwrap_or_else(PoisonError::into_inner);
                held = again;
                held.idle -= 1;
                if waited.timed_out() && held.jobs.is_empty() {
                    return;
                }
            }
        };
        job();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up_at_its_deadline_and_the_others_go_on() {
        let pool = Pool::new("ds");
        let (go_on, wait) = channel::<()>();
        let hang = pool.run(Instant::now() + Duration::from_millis(50), move || {
            wait.recv().ok();
            Ok(())
        });
        let late = hang.await.unwrap_err().to_string();
        assert!(late.contains("did not answer in time"), "{late}");
        assert_eq!(pool.run(soon(), || Ok(7)).await, Ok(7));
        drop(go_on);
    }

    #[tokio::test]
    async fn hanging_calls_use_up_the_datastores_own_threads_only() {
        let (stuck, well) = (Pool::new("stuck"), Pool::new("well"));
        let mut ends = Vec::new();
        for _ in 0..=THREADS {
            let (go_on, wait) = channel::<()>();
            ends.push(go_on);
            let hang = stuck.run(Instant::now() + Duration::from_millis(20), move || {
                wait.recv().ok();
                Ok(())
            });
            assert!(hang.await.is_err());
        }
        let next = stuck.run(Instant::now() + Duration::from_millis(20), || Ok(()));
        assert!(next.await.is_err(), "all its threads hang");
        assert_eq!(well.run(soon(), || Ok(1)).await, Ok(1));
        drop(ends);
        assert_eq!(stuck.run(soon(), || Ok(2)).await, Ok(2), "it answers again");
    }

    #[tokio::test]
    async fn a_call_that_panics_is_an_error_and_not_the_end_of_the_pool() {
        let pool = Pool::new("ds");
        let broken: Result<(), _> = pool.run(soon(), || panic!("on purpose")).await;
        assert!(broken.is_err());
        assert_eq!(pool.run(soon(), || Ok(1)).await, Ok(1));
    }
}
