//! One operation, struck at every call that its agents make to a port.
//!
//! ```text
//!   prepare ─► act, undisturbed: every call of each agent is a point; whether it changed anything is seen
//!   per point and kind:  prepare ─► act, struck ─► another agent ─► (settle ─► check) ─► the same request ─► settle
//!                        ─► check, what was acknowledged is there ─► the same request, the same answer ─► check
//! ```

use std::fmt;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::{Instant, sleep, timeout};
use vdvs_domain::{Error, ErrorKind};
use vdvs_host_sim::{Called, Fault, When};
use vdvs_matrix::{Case, Points};

use crate::agree::{self, Acknowledged};
use crate::arena::{Arena, Side};
use crate::ops::Operation;

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    /// The agent dies.
    Dies(When),
    /// The call takes its effect twice and answers the second time.
    Twice,
    /// The effect takes place, and the answer is lost.
    Unanswered,
    /// Nothing takes place, and no answer comes either.
    Lost,
    /// Nothing takes place, and the answer says so.
    Fails,
    /// It takes so long that others do theirs meanwhile.
    Slow,
}

impl Strike {
    const fn fault(self) -> Fault {
        match self {
            Self::Dies(when) => Fault::Crash(when),
            Self::Twice => Fault::Twice,
            Self::Unanswered => Fault::NoAnswer(When::After),
            Self::Lost => Fault::NoAnswer(When::Before),
            Self::Fails => Fault::Fail,
            Self::Slow => Fault::Slow(SLOW),
        }
    }
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The caller repeats its request at once.
    Repeat,
    /// The caller comes back late: until then the agents are left to themselves.
    Later,
    /// The caller repeats its request at once, and the agent dies again after so many calls.
    Again(u64),
}

/// The second deaths are spread over so many calls: more than any recovery with its repeated request takes.
const SPREAD: u64 = 61;

struct Struck {
    op: &'static Operation,
    side: Side,
    /// Number of the call, from 0, and what it is; none: all of them.
    at: Option<(u64, Called)>,
    strike: Strike,
    then: Then,
}

impl fmt::Display for Struck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, agent {:?}", self.op.name, self.side)?;
        match self.at {
            Some((at, call)) => write!(f, ", call {at} ({})", call.verb)?,
            None => f.write_str(", every call")?,
        }
        write!(f, ", {:?}, {:?}", self.strike, self.then)
    }
}

/// Longest that an operation may take undisturbed, in simulated time.
const PATIENCE: Duration = Duration::from_secs(400);
/// How long an agent stays away where somebody waits for what it does.
const AWAY: Duration = Duration::from_secs(1);

/// A slow call, for operations in which the other host does something a second after they began.
const SLOW: Duration = Duration::from_secs(2);

/// How long every call takes its effect twice where agents go on until what they do is done.
const DOUBLED: Duration = Duration::from_secs(20);

async fn prepared(op: &Operation) -> Arena {
    let arena = Arena::new();
    if !op.untouched {
        arena.create(2, "keep", &[]).await;
        arena.create(2, "used", &[]).await;
        arena.attach(2, "used").await;
    }
    (op.prepare)(&arena).await;
    if op.running {
        arena.run();
        arena.pass(3).await;
    }
    arena
}

/// The points of an operation: the calls of one agent, from the request to its answer.
async fn calls(op: &Operation, side: Side) -> Vec<Called> {
    let arena = prepared(op).await;
    let session = arena.session(side);
    session.begin_trace();
    let said = (op.act)(&arena).await;
    let calls = session.end_trace();
    said.unwrap_or_else(|why| panic!("{}, undisturbed: {why}", op.name));
    if op.actor.is_some() {
        // Where agents do their own work meanwhile, they may be in the middle of it.
        if !op.running {
            agree::check_at_once(&arena, op.name);
        }
        (op.holds)(&arena).await;
    }
    settle(&arena, op).await;
    agree::check(&arena, op.name).await;
    (op.holds)(&arena).await;
    calls
}

async fn settle(arena: &Arena, op: &Operation) {
    arena.world.cut_off(arena.host(Side::Near), false);
    for side in [Side::Near, Side::Far] {
        if arena.session(side).is_dead() {
            arena.restart(side);
        }
    }
    arena.run();
    arena.settle().await;
    if op.lingers {
        arena.settle().await;
    }
}

impl Struck {
    async fn run(&self) {
        let text = self.to_string();
        let arena = prepared(self.op).await;
        let before = Acknowledged::of(&arena);
        let session = arena.session(self.side);
        match self.at {
            Some((at, _)) => session.plan(at, self.strike.fault()),
            None => session.plan_always(Some(self.strike.fault())),
        }
        let mut first = self.struck(&arena).await;
        session.plan_nothing();
        if let Then::Again(later) = self.then {
            let next = arena.session(self.side);
            next.plan(later, self.strike.fault());
            first = self.struck(&arena).await;
            next.plan_nothing();
        }
        self.check_answer(&arena, first.as_ref()).await;
        if self.then == Then::Later {
            settle(&arena, self.op).await;
            agree::check(&arena, &text).await;
            before.check(&arena, self.op.touches, &text);
        }
        let second = self.again(&arena, &text).await;
        if let Some(Ok(first)) = &first
            && self.then != Then::Later
        {
            assert_eq!(second, self.answer(first.clone()), "{text}: another answer");
        }
        settle(&arena, self.op).await;
        agree::check(&arena, &text).await;
        before.check(&arena, self.op.touches, &text);
        (self.op.holds)(&arena).await;
        let third = self.again(&arena, &text).await;
        assert_eq!(third, second, "{text}: another answer");
        arena.pass(5).await;
        agree::check(&arena, &text).await;
    }

    /// What was answered is so, and who could not look does not say that there is nothing.
    async fn check_answer(&self, arena: &Arena, first: Option<&Result<String, Error>>) {
        match first {
            Some(Ok(_)) if self.op.actor.is_some() && !self.op.tidies => {
                // The other host follows a change of the configuration within a second.
                arena.pass(2).await;
                (self.op.holds)(arena).await;
            }
            Some(Err(why)) if !self.op.done.contains(&ErrorKind::NotFound) => {
                assert_ne!(why.kind(), ErrorKind::NotFound, "{self}: {why}");
            }
            _ => {}
        }
    }

    /// The request, struck. No answer: its caller hears nothing more.
    async fn struck(&self, arena: &Arena) -> Option<Result<String, Error>> {
        let session = arena.session(self.side);
        let act = (self.op.act)(arena);
        tokio::pin!(act);
        if self.at.is_none() {
            // What agents and guests try until it is done would be tried for as long as no exclusive create is the first.
            match timeout(DOUBLED, &mut act).await {
                Ok(said) => return Some(said),
                Err(_) => session.plan_nothing(),
            }
        }
        tokio::select! {
            biased;
            () = session.died() => {}
            said = timeout(PATIENCE, &mut act) => {
                return Some(said.unwrap_or_else(|_| panic!("{self}: it never ended")));
            }
        }
        if self.op.actor == Some(self.side) {
            arena.restart(self.side);
            return None;
        }
        arena.kill(self.side);
        let back = async {
            sleep(AWAY).await;
            arena.restart(self.side);
        };
        let (said, ()) = tokio::join!(timeout(PATIENCE, act), back);
        Some(said.unwrap_or_else(|_| panic!("{self}: it never ended")))
    }

    /// Where a repetition may say that there is nothing left to do, that is the same answer.
    fn answer(&self, said: String) -> String {
        match self.op.done {
            [] => said,
            _ => "done".to_owned(),
        }
    }

    /// The same request, until its answer is final.
    async fn again(&self, arena: &Arena, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut last = String::new();
        loop {
            match timeout(PATIENCE, (self.op.act)(arena)).await {
                Ok(Ok(said)) => return self.answer(said),
                // Said twice with time between: what could not be looked at was looked at again.
                Ok(Err(why)) if self.op.done.contains(&why.kind()) => {
                    let why = why.to_string();
                    if why == last {
                        return self.answer(why);
                    }
                    last = why;
                }
                Ok(Err(why)) => {
                    let may = why.kind().row().retry && Instant::now() < deadline;
                    assert!(may, "{text}: repeated: {why}");
                }
                Err(_) => panic!("{text}: repeated: it never ends"),
            }
            sleep(Duration::from_secs(5)).await;
            arena.engine(self.side).sweep().await;
        }
    }
}

/// Runs a future in a world of its own time.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(future)
}

/// What is done at a point, and at how many of them it is not done because the world would be one that is struck anyway:
/// * dying before a call is dying after the one before it;
/// * dying after a call that changed nothing is dying after the one before it, unless time has passed between them;
/// * who looks twice and answers what it saw the second time has looked once.
fn strikes(op: &Operation, at: u64, call: Called, time_passed: bool) -> Vec<(Strike, Then)> {
    let mut all = Vec::new();
    let mut both = |strike| all.extend([(strike, Then::Repeat), (strike, Then::Later)]);
    if at == 0 {
        both(Strike::Dies(When::Before));
    }
    if call.divisible {
        both(Strike::Dies(When::Half));
    }
    if call.changed {
        both(Strike::Dies(When::After));
        both(Strike::Fails);
        // Anywhere, in time: a factor without a common divisor visits every call.
        let again = Then::Again(at.wrapping_mul(17) % SPREAD);
        all.push((Strike::Dies(When::After), again));
        all.push((Strike::Twice, Then::Repeat));
        all.push((Strike::Lost, Then::Repeat));
    } else if time_passed {
        all.push((Strike::Dies(When::After), Then::Repeat));
    }
    all.push((Strike::Unanswered, Then::Repeat));
    if op.rivals {
        all.push((Strike::Slow, Then::Repeat));
    }
    all
}

/// Everything that can go wrong with one operation.
pub(crate) fn points(op: &'static Operation) -> Points {
    let mut points = Points::default();
    for side in op.struck.iter().copied() {
        let calls = block_on(calls(op, side));
        assert!(!calls.is_empty(), "{}: {side:?} does nothing", op.name);
        points.number += calls.len();
        let mut before = None;
        let mut all = vec![(None, Strike::Twice, Then::Repeat)];
        for (at, call) in (0u64..).zip(calls) {
            let time_passed = before.is_some_and(|before| before != call.at);
            before = Some(call.at);
            let strikes = strikes(op, at, call, time_passed).into_iter();
            all.extend(strikes.map(|(strike, then)| (Some((at, call)), strike, then)));
        }
        all.retain(|(.., then)| op.later || *then != Then::Later);
        points
            .cases
            .extend(all.into_iter().map(|(at, strike, then)| {
                let struck = Struck {
                    op,
                    side,
                    at,
                    strike,
                    then,
                };
                Case {
                    name: struck.to_string(),
                    run: Box::new(move || block_on(struck.run())),
                }
            }));
    }
    points
}
