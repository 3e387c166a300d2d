//! A well-behaved VM that asks for a volume all the while, and how long it waits.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::Builder;
use tokio::time::sleep;
use vdvs_api::v1;

use crate::bare::{Bare, head, hello, median};

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(1);
/// A median of fewer says nothing.
pub(crate) const ENOUGH: usize = 100;

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    attacked: AtomicBool,
    calm: Mutex<Vec<Duration>>,
    under_attack: Mutex<Vec<Duration>>,
    failed: Mutex<Option<String>>,
}

/// The VM's client, on a thread.
#[derive(Debug)]
pub(crate) struct Neighbour {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Middle latency in both situations.
#[derive(Debug)]
pub(crate) struct Latency {
    calm: Duration,
    under_attack: Duration,
    calls: (usize, usize),
}

impl Latency {
    pub(crate) fn ratio(&self) -> f64 {
        self.under_attack.as_secs_f64() / self.calm.as_secs_f64()
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:?} under attack ({} calls), {:?} in the pauses ({} calls): {:.2} times",
            self.under_attack,
            self.calls.1,
            self.calm,
            self.calls.0,
            self.ratio()
        )
    }
}

impl Neighbour {
    /// Makes a volume in that VM and begins to ask for it.
    pub(crate) fn of(bare: &Bare, vm: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mut guest = {
            let _inside = runtime.enter();
            bare.guest(vm)
        };
        let name = "neighbour".to_owned();
        let create = v1::CreateVolumeRequest {
            head: head(),
            name: name.clone(),
            options: [("size".to_owned(), "64mb".to_owned())].into(),
        };
        runtime.block_on(async {
            guest.hello(hello()).await?;
            guest.create_volume(create).await
        })?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let ask = move || {
            runtime.block_on(async {
                while !theirs.stop.load(Ordering::SeqCst) {
                    let attacked = theirs.attacked.load(Ordering::SeqCst);
                    let begin = Instant::now();
                    let request = v1::GetVolumeRequest { name: name.clone() };
                    let answer = guest.get_volume(request).await;
                    let took = begin.elapsed();
                    if let Err(status) = answer {
                        theirs
                            .failed
                            .lock()
                            .unwrap()
                            .get_or_insert(status.to_string());
                    }
                    let both = attacked == theirs.attacked.load(Ordering::SeqCst);
                    if both {
                        let list = if attacked {
                            &theirs.under_attack
                        } else {
                            &theirs.calm
                        };
                        list.lock().unwrap().push(took);
                    }
                    sleep(PAUSE).await;
                }
            });
        };
        let thread = thread::Builder::new()
            .name("neighbour".to_owned())
            .spawn(ask);
        Ok(Self {
            shared,
            thread: Some(thread.context("start a thread")?),
        })
    }

    /// An attack begins.
    pub(crate) fn attacked(&self) {
        self.shared.attacked.store(true, Ordering::SeqCst);
    }

    /// It is over.
    pub(crate) fn calm(&self) {
        self.shared.attacked.store(false, Ordering::SeqCst);
    }

    /// How many calls were made in the pauses.
    pub(crate) fn calm_calls(&self) -> usize {
        self.shared.calm.lock().unwrap().len()
    }

    /// What was measured. No call may have failed.
    pub(crate) fn latency(&self) -> Result<Latency> {
        if let Some(failed) = self.shared.failed.lock().unwrap().clone() {
            bail!("a neighbour's call failed: {failed}");
        }
        let calm = self.shared.calm.lock().unwrap();
        let under_attack = self.shared.under_attack.lock().unwrap();
        let calls = (calm.len(), under_attack.len());
        let latency = Latency {
            calm: median(&calm)?,
            under_attack: median(&under_attack)?,
            calls,
        };
        ensure!(calls.0.min(calls.1) >= ENOUGH, "too few calls: {latency}");
        Ok(latency)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
