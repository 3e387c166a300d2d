//! One listener for all virtual machines: whose a connection is, is asked of the hypervisor for each.
//!
//! ```text
//!   Arrival ──► its VM's places ──┬─ room ──► own task: who is it? ──┬─ a VM ────► first bytes ──► Conn (named)
//!                                 │                                  ├─ nobody's ─► closed, told once
//!                                 └─ none ──► closed                 └─ cannot say ► first bytes ──► Conn (unnamed)
//! ```
//! * **A VM has its places before anybody asks who it is**, by the number the system gives: a flood of one VM costs the
//!   hypervisor's service at most as many questions as it has places, and no other VM anything.
//! * The answer counts for this connection only. Numbers are used again.
//! * An unnamed connection is answered that the host is not ready, and ended soon, so that its VM comes again.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream as StdStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::accept::{AcceptFailure, Gauge, Limits, PAUSE, judge};
use crate::greeting::{Closed, Greeting, Refused, Sinks};
use crate::peer::{Identity, Peer};
use crate::places::{Place, Places};
use crate::vsock::{Arrival, Departure, HostListener};

/// Questions to the hypervisor at once. Its service takes few connections, and a restart brings all VMs together.
const QUESTIONS: usize = 16;
/// How long an answer may take; the guest's own patience for a connection is of that order.
const ANSWER: Duration = Duration::from_secs(10);
/// How long an unnamed connection stays: long enough for its call to be answered.
const UNNAMED: Duration = Duration::from_secs(1);
/// Numbers remembered beyond those in use.
const REMEMBERED: usize = 256;
/// How often the accepting thread looks whether it shall end.
const LOOK: Duration = Duration::from_millis(500);

/// Who knows the virtual machines.
#[async_trait]
pub trait Porter: Send + Sync + fmt::Debug {
    /// The VM of a process group. `None`: there is none of that number, after a fresh look.
    ///
    /// # Errors
    /// Why nobody can say now.
    async fn who(&self, vm: u32) -> Result<Option<Identity>, String>;
    /// A VM is connected; the gauge counts its connections.
    fn came(&self, identity: &Identity, gauge: Gauge);
    /// A connection of a process group that is no VM was refused.
    fn refused(&self, vm: u32);
}

/// Admits connections.
#[derive(Debug)]
pub struct Door {
    porter: Arc<dyn Porter>,
    limits: Limits,
    named: Sinks,
    unnamed: Sinks,
    close: CancellationToken,
    tasks: TaskTracker,
    questions: Semaphore,
    rooms: Mutex<Rooms>,
    tell: mpsc::Sender<Closed>,
}

/// A connection that has a place.
struct Came {
    stream: UnixStream,
    vm: u32,
    number: u64,
    place: Place,
    departure: Option<Departure>,
}

#[derive(Debug, Default)]
struct Rooms {
    of: HashMap<u32, Arc<Places>>,
    number: u64,
    refused: Refused,
}

impl Rooms {
    fn places(&mut self, vm: u32, limits: Limits) -> Arc<Places> {
        if self.of.len() > REMEMBERED {
            self.of.retain(|_, places| places.taken() > 0);
        }
        let places = self.of.entry(vm);
        Arc::clone(places.or_insert_with(|| Places::new(limits.connections)))
    }
}

impl Door {
    /// A door whose connections go to `named`, or to `unnamed` where nobody can say whose they are. `close` ends
    /// them; `tasks` holds what waits for answers and first bytes.
    #[must_use]
    pub fn new(
        porter: Arc<dyn Porter>,
        limits: Limits,
        named: Sinks,
        unnamed: Sinks,
        close: CancellationToken,
        tasks: TaskTracker,
    ) -> Arc<Self> {
        let (tell, mut told) = mpsc::channel(limits.connections.max(1));
        let end = close.clone();
        tasks.spawn(async move {
            let mut refused = Refused::default();
            loop {
                tokio::select! {
                    () = end.cancelled() => return,
                    said = told.recv() => match said {
                        Some(closed) => refused.note(&closed),
                        None => return,
                    },
                }
            }
        });
        Arc::new(Self {
            porter,
            limits,
            named,
            unnamed,
            close,
            tasks,
            questions: Semaphore::new(QUESTIONS),
            rooms: Mutex::default(),
            tell,
        })
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        // Every change under this lock is whole.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits what a listener's thread accepted, until its channel closes or draining begins.
    pub async fn serve(
        self: Arc<Self>,
        mut arrivals: mpsc::Receiver<Arrival>,
        departure: Departure,
        stop_accepting: CancellationToken,
    ) {
        loop {
            let arrival = tokio::select! {
                () = stop_accepting.cancelled() => return,
                arrival = arrivals.recv() => arrival,
            };
            let Some(arrival) = arrival else { return };
            let vm = match arrival.vm {
                Ok(vm) => vm,
                Err(why) => {
                    if let Some(more_since_last_line) = self.rooms().refused.may_say() {
                        info!(more_since_last_line, "connection refused: {why}");
                    }
                    continue;
                }
            };
            match UnixStream::from_std(StdStream::from(arrival.socket)) {
                Ok(stream) => self.admit(stream, vm, Some(departure.clone())),
                Err(e) => warn!("a connection cannot be waited for: {e}"),
            }
        }
    }

    /// Admits one connection of a process group.
    pub fn admit(self: &Arc<Self>, stream: UnixStream, vm: u32, departure: Option<Departure>) {
        let (places, number) = {
            let mut rooms = self.rooms();
            rooms.number = rooms.number.saturating_add(1);
            (rooms.places(vm, self.limits), rooms.number)
        };
        if !places.pace().count() {
            debug!(vm, "connection refused: its VM connects without end");
            return;
        }
        let Some(place) = places.take(&self.close) else {
            debug!(vm, "connection refused: all places of its VM are in use");
            return;
        };
        let door = Arc::clone(self);
        let gauge = Gauge::of(&places);
        let out = place.out().clone();
        let came = Came {
            stream,
            vm,
            number,
            place,
            departure,
        };
        self.tasks.spawn(async move {
            tokio::select! {
                () = out.cancelled() => {}
                asked = door.who(vm) => door.greet(asked, came, gauge).await,
            }
        });
    }

    async fn who(&self, vm: u32) -> Result<Option<Identity>, String> {
        let ask = async {
            // Never closed.
            let _one = self.questions.acquire().await.map_err(|e| e.to_string())?;
            self.porter.who(vm).await
        };
        timeout(ANSWER, ask)
            .await
            .unwrap_or_else(|_| Err(format!("it did not say within {ANSWER:?}")))
    }

    async fn greet(&self, asked: Result<Option<Identity>, String>, came: Came, gauge: Gauge) {
        let vm = came.vm;
        let (identity, sinks) = match asked {
            Ok(Some(identity)) => {
                self.porter.came(&identity, gauge);
                (identity, self.named.clone())
            }
            Ok(None) => return self.porter.refused(vm),
            Err(why) => {
                debug!(vm, "nobody can say whose connection this is: {why}");
                let out = came.place.out().clone();
                self.tasks.spawn(async move {
                    timeout(UNNAMED, out.cancelled()).await.ok();
                    out.cancel();
                });
                (Identity::Unnamed { vm }, self.unnamed.clone())
            }
        };
        let greeting = Greeting {
            stream: came.stream,
            peer: Peer::new(Arc::new(identity), came.number, None),
            place: came.place,
            patience: self.limits.patience,
            sinks,
            departure: came.departure,
            tell: self.tell.clone(),
        };
        greeting.run().await;
    }
}

/// Accepts on a vSocket, in a thread of its own, until told to stop or nobody takes what it accepts.
///
/// # Errors
/// The listener's own failure: it has to be made anew.
pub fn accept_all(
    listener: &HostListener,
    stop: &CancellationToken,
    sink: &mpsc::Sender<Arrival>,
) -> io::Result<()> {
    let mut short = false;
    while !stop.is_cancelled() {
        match listener.next(LOOK) {
            Ok(None) => {}
            Ok(Some(arrival)) => {
                short = false;
                if sink.blocking_send(arrival).is_err() {
                    return Ok(());
                }
            }
            Err(e) => match judge(&e) {
                AcceptFailure::Connection => debug!("accept: {e}"),
                AcceptFailure::Host => {
                    if !short {
                        warn!("accept: {e}; waiting until the host has some again");
                    }
                    short = true;
                    thread::sleep(PAUSE);
                }
                AcceptFailure::Listener => return Err(e),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
