//! The cases: what is searched in every CI, what takes longer, and the mistakes that must be found.
//!
//! A case's name says what can go wrong in it, and how often: an agent's death, a lost answer of the hypervisor, a third
//! writer who dies in the middle of a swap. Within that every case is searched to its end, or the search fails.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::owner::{Ask, Happening, Mistake, Prepared, Scene, Voice};
use crate::search::{Broken, Explored, Limit, search, straight};
use crate::swap_case::{Blind, Writers};

/// More states than a machine of a CI holds.
pub const MOST: u64 = 3_000_000;
/// A wait of several polls, long enough for a proof of death.
const WAIT: Duration = Duration::from_secs(1);
/// A wait of two polls.
const SHORT: Duration = Duration::from_millis(500);
const NO_WAIT: Duration = Duration::ZERO;

/// What is searched.
#[derive(Debug, Clone)]
pub enum Subject {
    /// Writers of one file.
    Swap(Writers),
    /// Two engines.
    Owner(Scene),
}

/// One search.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is called.
    pub name: &'static str,
    /// What is searched.
    pub subject: Subject,
}

/// What a search that ended says.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// How large it was.
    pub explored: Explored,
    /// Changes of ownership it went through.
    pub edges: BTreeSet<String>,
    /// How it ended, as it looks from outside of the agents.
    pub ends: BTreeSet<u64>,
}

impl Case {
    const fn swap(name: &'static str, writers: Writers) -> Self {
        let subject = Subject::Swap(writers);
        Self { name, subject }
    }

    const fn owner(name: &'static str, scene: Scene) -> Self {
        let subject = Subject::Owner(scene);
        Self { name, subject }
    }

    /// The same case, whose states are told apart by all that an agent was answered, in one order.
    #[must_use]
    pub fn exactly(mut self) -> Self {
        if let Subject::Owner(scene) = &mut self.subject {
            scene.exact = true;
        }
        self
    }

    /// The schedule that turns nowhere, step by step.
    #[must_use]
    pub fn straight(&self) -> Vec<String> {
        match &self.subject {
            Subject::Swap(writers) => straight(writers),
            Subject::Owner(scene) => straight(&Prepared::new(scene.clone())),
        }
    }

    /// Searches it, up to the limit.
    ///
    /// # Errors
    /// The schedule that breaks a promise.
    pub fn run(&self, limit: Limit) -> Result<Finished, Broken> {
        match &self.subject {
            Subject::Swap(writers) => Ok(Finished {
                explored: search(writers, limit)?,
                ..Finished::default()
            }),
            Subject::Owner(scene) => {
                let prepared = Prepared::new(scene.clone());
                let explored = search(&prepared, limit)?;
                let (edges, ends) = (prepared.edges(), prepared.ends());
                Ok(Finished {
                    explored,
                    edges,
                    ends,
                })
            }
        }
    }
}

/// VMs on two hosts, one each; a swap is one step.
fn apart() -> Scene {
    Scene {
        vms: vec![0, 1],
        whole: true,
        ..Scene::default()
    }
}

fn race() -> Scene {
    Scene {
        voices: vec![
            Voice::new(0, &[Ask::Attach(NO_WAIT)]),
            Voice::new(1, &[Ask::Attach(NO_WAIT)]),
        ],
        ..apart()
    }
}

fn handover() -> Scene {
    Scene {
        owner: Some(0),
        voices: vec![
            Voice::new(0, &[Ask::Detach]),
            Voice::new(1, &[Ask::Attach(SHORT)]),
        ],
        ..apart()
    }
}

/// The other VM asks once, and does not wait.
fn handover_now() -> Scene {
    Scene {
        voices: vec![
            Voice::new(0, &[Ask::Detach]),
            Voice::new(1, &[Ask::Attach(NO_WAIT)]),
        ],
        ..handover()
    }
}

fn late() -> Scene {
    Scene {
        owner: Some(0),
        given_back: true,
        voices: vec![
            Voice::new(0, &[Ask::Attach(NO_WAIT)]),
            Voice::new(0, &[Ask::Late(1)]),
        ],
        ..apart()
    }
}

fn twice() -> Scene {
    let attach = Ask::Attach(NO_WAIT);
    Scene {
        voices: vec![
            Voice::new(0, &[attach, Ask::Detach]),
            Voice::again(0, attach, (0, 0)),
        ],
        ..apart()
    }
}

fn dead_owner() -> Scene {
    Scene {
        owner: Some(0),
        voices: vec![Voice::new(1, &[Ask::Attach(WAIT)])],
        happenings: vec![Happening::HostDies(0, 300), Happening::PowerOn(0, 1)],
        ..apart()
    }
}

fn live_owner() -> Scene {
    Scene {
        owner: Some(0),
        voices: vec![Voice::new(1, &[Ask::Attach(WAIT)])],
        ..apart()
    }
}

fn suspended() -> Scene {
    Scene {
        happenings: vec![Happening::Suspend(0), Happening::Resume(0)],
        ..live_owner()
    }
}

fn moving(scene: Scene) -> Scene {
    Scene {
        happenings: vec![Happening::Move(0, 1)],
        ..scene
    }
}

fn alone() -> Scene {
    Scene {
        voices: vec![Voice::new(0, &[Ask::Attach(NO_WAIT)])],
        ..apart()
    }
}

fn dying(scene: Scene) -> Scene {
    Scene { deaths: 1, ..scene }
}

fn visited(scene: Scene) -> Scene {
    Scene {
        strangers: 1,
        ..scene
    }
}

fn by_calls(scene: Scene) -> Scene {
    Scene {
        whole: false,
        ..scene
    }
}

/// What is searched in every CI.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut all = swaps();
    all.extend(owners());
    all
}

fn swaps() -> Vec<Case> {
    vec![
        Case::swap("three writers of no file", Writers::new(3)),
        Case::swap(
            "three writers who list a value and a dead writer's slot",
            Writers::new(3).from_value(4).from_torn(5),
        ),
        Case::swap(
            "three writers, who know the slot, list, and know an older one",
            Writers::new(3)
                .from_value(4)
                .knowing(&[Some(4), None, Some(3)]),
        ),
        Case::swap(
            "three writers above a slot that a crash left below the value",
            Writers::new(3)
                .from_value(3)
                .from_value(4)
                .knowing(&[Some(3), Some(4), None]),
        ),
        Case::swap(
            "two writers, who know a value and a dead writer's slot above it",
            Writers::new(2)
                .from_value(4)
                .from_torn(5)
                .knowing(&[Some(4), Some(5)]),
        ),
        Case::swap(
            "two writers, two changes each",
            Writers::new(2).changing(&[2, 2]),
        ),
        Case::swap(
            "two writers who know the slot, two changes each",
            Writers::new(2)
                .changing(&[2, 2])
                .from_value(4)
                .knowing(&[Some(4), Some(4)]),
        ),
        Case::swap(
            "two writers, one of whom knows the slot, two changes each",
            Writers::new(2)
                .changing(&[2, 2])
                .from_value(4)
                .knowing(&[Some(4), None]),
        ),
        Case::swap(
            "two writers of no file who come late to what a third changes twice",
            Writers::new(3).changing(&[1, 2, 1]),
        ),
    ]
}

/// One may sleep with its slot made, another before it makes the same one.
fn late_to_two_changes() -> Writers {
    Writers::new(3)
        .changing(&[1, 2, 1])
        .from_value(4)
        .knowing(&[Some(4), Some(4), Some(4)])
}

fn owners() -> Vec<Case> {
    vec![
        Case::owner("two VMs attach at once", race()),
        Case::owner("two VMs attach at once; one death", dying(race())),
        Case::owner("two VMs attach at once; one stranger", visited(race())),
        Case::owner(
            "one VM gives back, the other asks once; one death",
            dying(handover_now()),
        ),
        Case::owner("one VM gives back, the other waits", handover()),
        Case::owner(
            "one VM gives back, the other waits; one lost answer",
            Scene {
                losses: 1,
                ..handover()
            },
        ),
        Case::owner("a late detach meets a new attach", late()),
        Case::owner(
            "a late detach meets a new attach; one stranger",
            visited(late()),
        ),
        Case::owner("an attach arrives twice, and a detach follows", twice()),
        Case::owner("the owner lives and keeps the volume", live_owner()),
        Case::owner(
            "the owner's host dies, its VM is started elsewhere",
            dead_owner(),
        ),
        Case::owner("the owner is suspended and resumed", suspended()),
        Case::owner("a VM moves while it attaches", moving(alone())),
        Case::owner(
            "a late detach meets a new attach, call by call",
            by_calls(late()),
        ),
        Case::owner(
            "the owner is suspended and resumed, call by call",
            by_calls(suspended()),
        ),
    ]
}

/// What takes minutes: more that goes wrong at once.
#[must_use]
pub fn large() -> Vec<Case> {
    vec![
        Case::swap(
            "two writers who come late to what a third changes twice",
            late_to_two_changes(),
        ),
        Case::owner(
            "one VM gives back, the other waits; one death",
            dying(handover()),
        ),
        Case::owner(
            "one VM gives back, the other waits; one stranger",
            visited(handover()),
        ),
        Case::owner(
            "two VMs attach at once; one death, one lost answer",
            Scene {
                losses: 1,
                ..dying(race())
            },
        ),
        Case::owner(
            "the owner is suspended and resumed; one death",
            dying(suspended()),
        ),
    ]
}

/// The same cases with something wrong: a search that does not find it would show nothing.
#[must_use]
pub fn mistakes() -> Vec<Case> {
    let with = |scene: Scene, mistake| Scene {
        mistake: Some(mistake),
        ..scene
    };
    vec![
        Case::swap(
            "a read that does not list again what it passed over",
            Writers::new(3).changing(&[1, 2, 1]).blind(Blind::Again),
        ),
        Case::swap(
            "swap without its second look",
            Writers::new(3).blind(Blind::Second),
        ),
        Case::swap(
            "swap without its third look",
            Writers::new(3).blind(Blind::Third),
        ),
        Case::swap(
            "swap whose third look does not ask for its base",
            late_to_two_changes().blind(Blind::Base),
        ),
        Case::swap(
            "swap of no file whose third look does not list",
            Writers::new(3).changing(&[1, 2, 1]).blind(Blind::Base),
        ),
        Case::swap(
            "pruning without looking below",
            Writers::new(2)
                .from_value(3)
                .from_value(4)
                .knowing(&[Some(3), Some(4)])
                .blind(Blind::Below),
        ),
        Case::owner(
            "no comparison of epochs",
            with(late(), Mistake::EpochNotCompared),
        ),
        Case::owner(
            "a lock that always reads free",
            with(live_owner(), Mistake::LockReadsFree),
        ),
    ]
}
