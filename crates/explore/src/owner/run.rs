//! One execution: which choices there are, and taking them.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;
use vdvs_domain::VolumeId;

use super::call::Op;
use super::core::{Core, Shared};
use super::setting::{HOSTS, Prepared, runtime, start};
use super::voices::{Speaker, address, caller};
use super::whole::{Amid, Phase};
use super::world::{State, VmNow};
use super::{Happening, Scene};
use crate::search::Run;

/// Nothing that is waited for takes longer.
const LONG: Duration = Duration::from_secs(3600);
/// What a call that takes long may take.
const DELAY: Duration = Duration::from_secs(60);
/// Looks without anything new after which a step is over. One would do; tasks may yield to each other.
const STILL: usize = 3;

/// What can come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// The call with this ticket has its effect.
    Go(u64),
    /// The same, and its answer is lost.
    Lose(u64),
    /// The write with this ticket stops in the middle, and its agent dies.
    Tear(u64, usize),
    /// In the middle of the swap that begins with this ticket, which is one step in this case, something happens.
    Amid(u64, usize, Amid),
    /// An agent dies.
    Die(usize),
    /// An agent starts again.
    Start(usize),
    /// The next event.
    Happen,
    /// Time passes up to the next timer.
    Pass,
}

/// One execution of a scene.
pub struct OwnerRun {
    pub(super) runtime: Runtime,
    pub(super) shared: Arc<Shared>,
    pub(super) tasks: JoinSet<()>,
    pub(super) scene: Arc<Scene>,
    pub(super) volume: VolumeId,
    happened: usize,
    deaths: u8,
    losses: u8,
    delays: u8,
    strangers: u8,
    /// The host that moved last.
    last: usize,
    told: String,
    open: Vec<Choice>,
    edges: Arc<Mutex<BTreeSet<String>>>,
    judged: Arc<Mutex<BTreeSet<u64>>>,
}

impl fmt::Debug for OwnerRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerRun")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl OwnerRun {
    pub(super) fn new(prepared: &Prepared) -> Self {
        let runtime = runtime();
        let scene = Arc::clone(&prepared.scene);
        let (world, told) = (prepared.world.clone(), prepared.told.clone());
        let shared = {
            let _entered = runtime.enter();
            Shared::new(world, told, &scene.voices, false)
        };
        shared.core().exact = scene.exact;
        let mut run = Self {
            runtime,
            shared,
            tasks: JoinSet::new(),
            volume: prepared.volume,
            happened: 0,
            deaths: scene.deaths,
            losses: scene.losses,
            delays: scene.delays,
            strangers: scene.strangers,
            last: 0,
            told: String::new(),
            open: Vec::new(),
            edges: Arc::clone(&prepared.edges),
            judged: Arc::clone(&prepared.judged),
            scene,
        };
        run.warm_up();
        {
            let _entered = run.runtime.enter();
            for (number, voice) in run.scene.voices.iter().enumerate() {
                let speaker = Speaker {
                    shared: Arc::clone(&run.shared),
                    number,
                    voice: voice.clone(),
                    volume: run.volume,
                };
                run.tasks.spawn(speaker.speak());
            }
        }
        run.settle();
        run
    }

    /// The agents have run for a while: they know where the volume lies.
    fn warm_up(&self) {
        let shared = &self.shared;
        self.runtime.block_on(async {
            shared.core().free = true;
            for host in 0..HOSTS {
                let engine = start(shared, host);
                let vm = self.scene.vms.iter().position(|h| *h == host);
                if let (Some(engine), Some(vm)) = (engine, vm) {
                    let by = caller(shared, vm);
                    drop(Box::pin(engine.get(&by, &address())).await);
                }
            }
            shared.core().free = false;
        });
    }

    /// The execution's own time, also outside of its tasks.
    pub(super) fn now(&self) -> u64 {
        let _entered = self.runtime.enter();
        self.shared.now()
    }

    /// Everything that can run runs.
    pub(super) fn settle(&mut self) {
        self.run_on();
        self.open = self.options();
    }

    fn run_on(&self) {
        let shared = Arc::clone(&self.shared);
        self.runtime.block_on(async move {
            let mut still = 0;
            let mut before = shared.core().stirred;
            while still < STILL {
                yield_now().await;
                let now = shared.core().stirred;
                still = if now == before { still + 1 } else { 0 };
                before = now;
            }
        });
    }

    fn options(&self) -> Vec<Choice> {
        let core = self.shared.core();
        let speaking = core.voices.iter().any(|v| !v.ended);
        let mut tickets: Vec<(u64, usize)> =
            core.waiting.iter().map(|(t, w)| (*t, w.host)).collect();
        if tickets.is_empty() && !speaking {
            return Vec::new();
        }
        // Who was answered last goes on first: so schedules that turn seldom come first.
        tickets.sort_by_key(|(ticket, host)| (*host != self.last, Reverse(*ticket)));
        let still = tickets.is_empty();
        let calling = core.voices.iter().any(|v| v.calling);
        let mut open: Vec<Choice> = tickets.iter().map(|(t, _)| Choice::Go(*t)).collect();
        if still && calling {
            open.push(Choice::Pass);
        }
        for (host, agent) in core.agents.iter().enumerate() {
            if !agent.alive && self.may_start(host) && (still || self.scene.early_start) {
                open.push(Choice::Start(host));
            }
        }
        if self.happened < self.scene.happenings.len() {
            open.push(Choice::Happen);
        }
        for (ticket, host) in &tickets {
            let op = core.waiting.get(ticket).map(|w| &w.op);
            if self.losses > 0 && op.is_some_and(Op::can_lose_its_answer) {
                open.push(Choice::Lose(*ticket));
            }
            if self.deaths > 0 && matches!(op, Some(Op::Write(..))) {
                open.push(Choice::Tear(*ticket, *host));
            }
            if self.scene.whole && matches!(op, Some(Op::Create(_))) {
                let amid = |what| Choice::Amid(*ticket, *host, what);
                if self.deaths > 0 {
                    open.extend([Amid::Torn, Amid::Written].map(amid));
                }
                if self.strangers > 0 {
                    open.extend([Amid::StrangerBefore, Amid::StrangerAfter].map(amid));
                }
            }
        }
        if self.deaths > 0 {
            let mortal = (0..core.agents.len()).filter(|h| Self::may_die(&core, *h));
            open.extend(mortal.map(Choice::Die));
        }
        if self.delays > 0 && calling && !still {
            open.push(Choice::Pass);
        }
        open
    }

    /// An agent that dies between two of its effects dies, for all others, before the second of them. So only that is a
    /// choice, and dying while it waits for time to pass.
    fn may_die(core: &Core, host: usize) -> bool {
        let mut waits = core.waiting.values().filter(|w| w.host == host).peekable();
        let idle = waits.peek().is_none();
        let alive = core.agents.get(host).is_some_and(|a| a.alive);
        alive && (idle || waits.any(|w| w.op.has_an_effect()))
    }

    /// A call has its effect, and with it the others that are one step with it in this case.
    fn go(&mut self, ticket: u64, lost: bool, mut amid: Option<Amid>) {
        let (mut ticket, mut phase, mut told) = (ticket, None, Vec::new());
        loop {
            let now = self.now();
            let (host, op, said, since) = {
                let mut core = self.shared.core();
                let since = core.next;
                let from = core.waiting.get(&ticket).map(|w| (w.host, w.op.clone()));
                let Some((host, op)) = from else { break };
                let (said, words) = core.go(ticket, lost, now);
                told.push(words);
                (host, op, said, since)
            };
            if !self.scene.whole {
                break;
            }
            phase = Phase::after(phase, &op, &said);
            let Some(at) = phase else { break };
            self.run_on();
            let next = {
                let core = self.shared.core();
                let mut later = core.waiting.range(since..);
                let next = later.find(|(_, w)| {
                    w.host == host && core.world.is_of_the_record(&w.op) && at.goes_on_with(&w.op)
                });
                next.map(|(ticket, w)| (*ticket, w.op.clone()))
            };
            let Some((next, op)) = next else { break };
            if let Some(what) = amid.filter(|what| what.is_before(at, &op)) {
                amid = None;
                told.push(self.happens_amid(what, next, host));
            }
            ticket = next;
        }
        self.told = told.join("; ");
    }

    fn happens_amid(&mut self, what: Amid, ticket: u64, host: usize) -> String {
        match what {
            Amid::Torn => {
                self.deaths -= 1;
                let now = self.now();
                self.shared.core().tear(ticket, now);
                self.kill(host);
                format!("host {host}'s agent dies in the middle of that")
            }
            Amid::Written => {
                self.deaths -= 1;
                self.kill(host);
                format!("host {host}'s agent dies")
            }
            Amid::StrangerBefore | Amid::StrangerAfter => {
                self.strangers -= 1;
                self.shared.core().world.stranger();
                "a stranger makes the next slot".to_owned()
            }
        }
    }

    /// Whether the host of a dead agent has power.
    fn may_start(&self, host: usize) -> bool {
        let happened = self.scene.happenings.iter().take(self.happened);
        let mut up = true;
        for what in happened {
            match what {
                Happening::HostDies(h, _) if *h == host => up = false,
                Happening::HostBack(h) if *h == host => up = true,
                _ => {}
            }
        }
        up
    }

    /// The agent of `host` starts, and first finishes what it finds.
    pub(super) fn start(&mut self, host: usize) {
        let _entered = self.runtime.enter();
        if let Some(engine) = start(&self.shared, host) {
            self.tasks.spawn(async move { engine.sweep().await });
        }
        self.shared.core().stirred += 1;
        self.shared.change();
    }

    fn kill(&self, host: usize) {
        self.shared.core().kill(host);
        self.shared.change();
    }

    fn pass(&mut self, limit: Duration) {
        let shared = Arc::clone(&self.shared);
        self.runtime.block_on(async {
            // What arrived before is known.
            tokio::select! {
                biased;
                () = shared.arrived.notified() => {}
                () = ready(()) => {}
            }
            let late = tokio::select! {
                biased;
                () = shared.arrived.notified() => false,
                () = sleep(limit) => true,
            };
            let mut core = shared.core();
            core.stirred += 1;
            if late && limit == LONG {
                let why = "a wait does not end".to_owned();
                core.promises.broken.get_or_insert(why);
            }
        });
    }

    fn happen(&mut self) {
        let Some(what) = self.scene.happenings.get(self.happened).copied() else {
            return;
        };
        self.happened += 1;
        self.told = format!("{what:?}");
        match what {
            Happening::HostDies(host, lapse) => {
                self.kill(host);
                self.host_dies(host, lapse);
            }
            Happening::HostBack(host) => self.start(host),
            Happening::PowerOff(vm) => self.power_off(vm),
            Happening::PowerOn(vm, host) => self.open_disks(vm, State::On, Some(host)),
            Happening::Resume(vm) => self.open_disks(vm, State::On, None),
            Happening::Suspend(vm) => self.with_vm(vm, |vm| {
                if vm.state == State::On {
                    vm.state = State::Suspended;
                }
            }),
            Happening::Move(vm, host) => self.with_vm(vm, |vm| vm.host = host),
        }
        self.shared.core().look();
        self.shared.change();
    }

    fn with_vm(&self, vm: usize, change: impl FnOnce(&mut VmNow)) {
        let mut core = self.shared.core();
        core.stirred += 1;
        if let Some(vm) = core.world.vms.get_mut(vm) {
            change(vm);
        }
    }

    fn power_off(&self, vm: usize) {
        self.with_vm(vm, |vm| vm.state = State::Off);
        let mut core = self.shared.core();
        let told = core.told.get_mut(vm).and_then(Option::take);
        // Its volume stays its own while nobody takes it; when it boots, its guest does not know of it.
        if let Some(unsure) = core.unsure.get_mut(vm).filter(|_| told.is_some()) {
            *unsure = true;
        }
    }

    fn host_dies(&self, host: usize, lapse: u64) {
        let now = self.now();
        let held = {
            let core = self.shared.core();
            let of = |vm: &usize| core.world.vms.get(*vm).is_some_and(|v| v.host == host);
            core.world.openers().any(|(vm, _)| of(&vm))
        };
        if held {
            self.shared.core().world.lingers = Some(now.saturating_add(lapse));
        }
        let here: Vec<usize> = {
            let core = self.shared.core();
            let all = core.world.vms.iter().enumerate();
            all.filter(|(_, v)| v.host == host)
                .map(|(n, _)| n)
                .collect()
        };
        here.into_iter().for_each(|vm| self.power_off(vm));
    }

    /// A VM goes on, unless somebody else has its disk open.
    fn open_disks(&self, vm: usize, state: State, host: Option<usize>) {
        let now = self.now();
        let refused = {
            let core = self.shared.core();
            let disk = core.world.vms.get(vm).and_then(|v| v.disk);
            disk.is_some_and(|ro| core.world.refuses(vm, ro, now).is_some())
        };
        self.with_vm(vm, |vm| {
            vm.host = host.unwrap_or(vm.host);
            if !refused {
                vm.state = state;
            }
        });
    }
}

impl Run for OwnerRun {
    fn choices(&mut self) -> usize {
        self.open.len()
    }

    fn take(&mut self, choice: usize) {
        let Some(choice) = self.open.get(choice).copied() else {
            return;
        };
        let now = self.now();
        match choice {
            Choice::Go(ticket) | Choice::Lose(ticket) => {
                let core = self.shared.core();
                let lost = choice == Choice::Lose(ticket);
                self.losses -= u8::from(lost);
                if let Some(host) = core.waiting.get(&ticket).map(|w| w.host) {
                    self.last = host;
                }
                drop(core);
                self.go(ticket, lost, None);
            }
            Choice::Amid(ticket, host, what) => {
                self.last = host;
                self.go(ticket, false, Some(what));
            }
            Choice::Tear(ticket, host) => {
                self.deaths -= 1;
                self.shared.core().tear(ticket, now);
                self.kill(host);
                self.told = format!("host {host}'s agent dies in the middle of a write");
            }
            Choice::Die(host) => {
                self.deaths -= 1;
                self.kill(host);
                self.told = format!("host {host}'s agent dies");
            }
            Choice::Start(host) => {
                self.start(host);
                self.told = format!("host {host}'s agent starts");
            }
            Choice::Happen => self.happen(),
            Choice::Pass => {
                let still = self.shared.core().waiting.is_empty();
                self.delays -= u8::from(!still);
                self.pass(if still { LONG } else { DELAY });
                self.told = format!("time passes to {} ms", self.now());
            }
        }
        self.settle();
    }

    fn last(&self) -> String {
        self.told.clone()
    }

    fn state(&self) -> u64 {
        let left = (
            self.happened,
            (self.deaths, self.losses, self.delays, self.strangers),
        );
        let quiet = self.happened == self.scene.happenings.len();
        let now = self.now();
        self.shared.core().number(quiet, (left, now))
    }

    fn broken(&mut self) -> Option<String> {
        self.shared.core().promises.broken.clone()
    }

    fn broken_at_the_end(&mut self) -> Option<String> {
        let outside = self.shared.core().outside();
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if !judged.insert(outside) {
            return None;
        }
        drop(judged);
        self.heal()
    }
}

impl Drop for OwnerRun {
    fn drop(&mut self) {
        // Engines hold the ports, which hold this: the circle is opened by hand.
        let engines: Vec<_> = {
            let mut core = self.shared.core();
            let mut edges = self.edges.lock().unwrap_or_else(PoisonError::into_inner);
            edges.append(&mut core.promises.edges);
            core.agents.iter_mut().map(|a| a.engine.take()).collect()
        };
        let _entered = self.runtime.enter();
        drop(engines);
        self.tasks.abort_all();
    }
}
