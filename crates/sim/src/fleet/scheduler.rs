//! An orchestrator.
//!
//! It places each wanted service on a node it hears, starts it again when it ended, and moves it when it has not heard
//! the node for 10 to 20 s. It fences nothing: a node it does not hear may run the task on, and is told to stop it when
//! it is heard again. It knows volumes as words in the task's specification.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::schedule::Dice;
use crate::universe::Universe;

/// How often it looks.
const TICK: Duration = Duration::from_millis(500);
/// A task that failed is started again after this time, as Docker's default.
const RESTART: Duration = Duration::from_secs(5);

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Nowhere { not_before: Instant },
    Starting { vm: usize, task: String },
    Running { vm: usize, task: String },
}

#[derive(Debug)]
struct Service {
    volumes: Vec<String>,
    wanted: bool,
    place: Place,
    /// Since when its node is not heard, and how long that is borne.
    lost: Option<(Instant, Duration)>,
    /// The first request to start it where it is now, or will be.
    requested: Option<Instant>,
    /// When it last began to run.
    began: Option<Instant>,
    tasks: u64,
}

#[derive(Debug)]
struct State {
    services: Vec<Service>,
    /// Tasks whose nodes have not yet said whether they started.
    starting: BTreeSet<String>,
    /// Tasks on nodes that were lost: stopped when the node is heard again.
    orphans: Vec<(usize, String)>,
    /// Nodes that take no new tasks.
    drained: BTreeMap<usize, ()>,
    dice: Dice,
    work: JoinSet<()>,
}

/// Cloning gives the same scheduler.
#[derive(Debug, Clone)]
pub struct Scheduler {
    universe: Universe,
    state: Arc<Mutex<State>>,
}

impl Scheduler {
    /// A scheduler that wants nothing yet, for services with these volumes.
    #[must_use]
    pub fn new(universe: &Universe, services: Vec<Vec<String>>, seed: u64) -> Self {
        let services = services.into_iter().map(|volumes| Service {
            volumes,
            wanted: false,
            place: Place::Nowhere {
                not_before: Instant::now(),
            },
            lost: None,
            requested: None,
            began: None,
            tasks: 0,
        });
        Self {
            universe: universe.clone(),
            state: Arc::new(Mutex::new(State {
                services: services.collect(),
                starting: BTreeSet::new(),
                orphans: Vec::new(),
                drained: BTreeMap::new(),
                dice: Dice::of(seed, "scheduler"),
                work: JoinSet::new(),
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs for ever.
    pub async fn run(self) {
        loop {
            self.tick();
            sleep(TICK).await;
        }
    }

    /// A service shall run.
    pub fn deploy(&self, service: usize) {
        if let Some(found) = self.state().services.get_mut(service) {
            found.wanted = true;
        }
    }

    /// A service shall not run.
    pub fn retire(&self, service: usize) {
        if let Some(found) = self.state().services.get_mut(service) {
            found.wanted = false;
        }
    }

    /// No service shall run.
    pub fn retire_all(&self) {
        for service in &mut self.state().services {
            service.wanted = false;
        }
    }

    /// A node takes no new tasks, or does again.
    pub fn drain(&self, vm: usize, drained: bool) {
        match drained {
            true => drop(self.state().drained.insert(vm, ())),
            false => drop(self.state().drained.remove(&vm)),
        }
    }

    /// The node a service runs on.
    #[must_use]
    pub fn node_of(&self, service: usize) -> Option<usize> {
        match &self.state().services.get(service)?.place {
            Place::Running { vm, .. } => Some(*vm),
            Place::Starting { .. } | Place::Nowhere { .. } => None,
        }
    }

    /// When it was first asked for where it runs now, and when it began to run there.
    #[must_use]
    pub fn started(&self, service: usize) -> Option<(Instant, Instant)> {
        let state = self.state();
        let found = state.services.get(service)?;
        Some((found.requested?, found.began?))
    }

    /// Services that are wanted and do not run.
    #[must_use]
    pub fn missing(&self) -> Vec<usize> {
        let state = self.state();
        let services = state.services.iter().enumerate();
        services
            .filter(|(_, s)| s.wanted && !matches!(s.place, Place::Running { .. }))
            .map(|(number, _)| number)
            .collect()
    }

    /// Nothing of it runs or is being started.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        let nowhere = |s: &Service| matches!(s.place, Place::Nowhere { .. });
        state.services.iter().all(nowhere) && state.orphans.is_empty() && state.starting.is_empty()
    }

    fn tick(&self) {
        self.stop_orphans();
        let count = self.state().services.len();
        for number in 0..count {
            self.look(number);
        }
        // What ended is taken out; its outcome is in the state.
        while self.state().work.try_join_next().is_some() {}
    }

    fn stop_orphans(&self) {
        let heard: Vec<(usize, String)> = {
            let mut state = self.state();
            let universe = &self.universe;
            let (heard, lost) = state
                .orphans
                .drain(..)
                .partition(|(vm, _)| universe.is_heard(*vm));
            state.orphans = lost;
            heard
        };
        for (vm, task) in heard {
            self.stop(vm, task);
        }
    }

    fn stop(&self, vm: usize, task: String) {
        let (universe, this) = (self.universe.clone(), self.clone());
        self.state().work.spawn(async move {
            // A container that is being made is stopped when it is there.
            while this.state().starting.contains(&task) {
                sleep(TICK).await;
            }
            universe.stop_task(vm, &task).await;
        });
    }

    /// What is to be done about a service now.
    fn look(&self, number: usize) {
        let now = Instant::now();
        let (place, wanted) = {
            let state = self.state();
            let Some(service) = state.services.get(number) else {
                return;
            };
            (service.place.clone(), service.wanted)
        };
        match place {
            Place::Nowhere { not_before } if wanted && now >= not_before => self.place(number),
            Place::Nowhere { .. } => {}
            Place::Starting { vm, task } | Place::Running { vm, task } if !wanted => {
                self.leave(number, vm, task, now);
            }
            Place::Starting { vm, task } => self.mind(number, vm, task, true),
            Place::Running { vm, task } => self.mind(number, vm, task, false),
        }
    }

    /// The service goes away from where it is; the task there is stopped as soon as the node is heard.
    fn leave(&self, number: usize, vm: usize, task: String, not_before: Instant) {
        let mut state = self.state();
        state.orphans.push((vm, task));
        if let Some(service) = state.services.get_mut(number) {
            service.place = Place::Nowhere { not_before };
            (service.lost, service.requested) = (None, None);
        }
    }

    fn mind(&self, number: usize, vm: usize, task: String, starting: bool) {
        let now = Instant::now();
        if self.universe.is_heard(vm) {
            if let Some(service) = self.state().services.get_mut(number) {
                service.lost = None;
            }
            if !starting && !self.universe.task_runs(vm, &task) {
                self.leave(number, vm, task, now + RESTART);
            }
            return;
        }
        let given_up = {
            let mut state = self.state();
            let patience = state.dice.millis(10_000, 20_000);
            let Some(service) = state.services.get_mut(number) else {
                return;
            };
            let (since, patience) = *service.lost.get_or_insert((now, patience));
            now.saturating_duration_since(since) >= patience
        };
        if given_up {
            self.leave(number, vm, task, now);
        }
    }

    fn place(&self, number: usize) {
        let free: Vec<usize> = {
            let state = self.state();
            (0..self.universe.vms())
                .filter(|vm| self.universe.is_heard(*vm) && !state.drained.contains_key(vm))
                .collect()
        };
        let (vm, task, volumes) = {
            let mut state = self.state();
            let Some(vm) = state.dice.pick(&free).copied() else {
                return;
            };
            let Some(service) = state.services.get_mut(number) else {
                return;
            };
            service.tasks += 1;
            let task = format!("s{number}.{}", service.tasks);
            service.requested.get_or_insert_with(Instant::now);
            service.place = Place::Starting {
                vm,
                task: task.clone(),
            };
            let volumes = service.volumes.clone();
            state.starting.insert(task.clone());
            (vm, task, volumes)
        };
        let this = self.clone();
        self.state().work.spawn(async move {
            let started = this.universe.start_task(vm, &task, &volumes).await;
            this.started_or_failed(number, vm, task, started);
        });
    }

    fn started_or_failed(&self, number: usize, vm: usize, task: String, started: bool) {
        let now = Instant::now();
        let mut state = self.state();
        state.starting.remove(&task);
        let Some(service) = state.services.get_mut(number) else {
            return;
        };
        let starting = Place::Starting {
            vm,
            task: task.clone(),
        };
        if service.place != starting {
            // Given up meanwhile; it is among the orphans.
            return;
        }
        if started {
            service.place = Place::Running { vm, task };
            service.began = Some(now);
        } else {
            service.place = Place::Nowhere {
                not_before: now + RESTART,
            };
        }
    }
}
