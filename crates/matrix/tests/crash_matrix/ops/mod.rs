//! What is struck. An operation says what stands before it, what is asked, and what then is so; where it can be stopped
//! nobody says: that is counted.

mod between;
mod config;
mod groups;
mod moving;
mod refusals;
mod upkeep;
mod volumes;

use std::pin::Pin;

use vdvs_domain::{Error, ErrorKind};

use crate::arena::{Arena, Side};

pub(crate) type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;
type Step<T> = for<'a> fn(&'a Arena) -> Doing<'a, T>;

/// One thing people ask for, or agents do by themselves.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// The agents that work at it: each is struck.
    pub(crate) struck: &'static [Side],
    /// Whose caller hears nothing more when that agent dies; none: nobody asked, the agents do it by themselves.
    pub(crate) actor: Option<Side>,
    /// The agents' own work goes on during it.
    pub(crate) running: bool,
    /// The request may come minutes later all the same: what stood before it then has not changed by itself.
    pub(crate) later: bool,
    /// What is left of it goes only minutes after the rest is over: a name that was moved away, behind a claim that
    /// somebody else might be making.
    pub(crate) lingers: bool,
    /// Its answer may come before all is so: what it could not tidy up, the agents do.
    pub(crate) tidies: bool,
    /// The other host changes the same a second later, so calls of this one are slow, too.
    pub(crate) rivals: bool,
    /// Nobody has used any datastore before.
    pub(crate) untouched: bool,
    /// What stands before.
    pub(crate) prepare: Step<()>,
    /// The request, or waiting for what the agents do. The text is what repetitions must say too.
    pub(crate) act: Step<Result<String, Error>>,
    /// What a repetition may say instead, because there is nothing left to do.
    pub(crate) done: &'static [ErrorKind],
    /// Volumes that it may change the owner of, or end.
    pub(crate) touches: &'static [&'static str],
    /// What is so afterwards.
    pub(crate) holds: Step<()>,
}

/// What administrators are told who ask for what is so already: their requests carry no id. That it is so is looked at.
const NOTHING_LEFT: &[ErrorKind] = &[
    ErrorKind::AlreadyExists,
    ErrorKind::Conflict,
    ErrorKind::InvalidArgument,
    ErrorKind::NotConfigured,
    ErrorKind::NotFound,
];

/// What most of them are.
const PLAIN: Operation = Operation {
    name: "",
    struck: &[Side::Near],
    actor: Some(Side::Near),
    running: false,
    later: true,
    lingers: false,
    rivals: false,
    tidies: false,
    untouched: false,
    prepare: |_| Box::pin(async {}),
    act: |_| Box::pin(async { Ok(String::new()) }),
    done: &[],
    touches: &["db"],
    holds: |_| Box::pin(async {}),
};

/// Every operation of the agents.
pub(crate) fn all() -> impl Iterator<Item = &'static Operation> {
    [
        volumes::ALL,
        between::ALL,
        groups::ALL,
        moving::ALL,
        config::ALL,
        upkeep::ALL,
        refusals::ALL,
    ]
    .into_iter()
    .flatten()
}
