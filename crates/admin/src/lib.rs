//! `vdvs`: the administrator's command line.
//!
//! It asks the agent over its root-only Unix socket, and prints. It decides nothing and knows nothing by itself: an
//! agent that does not run is an error with advice, never an empty table.
//!
//! | module | concept |
//! |---|---|
//! | [`args`] | the command line |
//! | [`agent`] | the calls, each with a deadline |
//! | [`view`] | what is shown, as data; `--output json` prints exactly this |
//! | [`render`] | tables: pure functions of a view and a width |
//! | [`confirm`] | the question before something is removed |
//! | [`failure`] | errors: text, JSON, exit code |
//! | [`run`] | one command, start to end |
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod agent;
pub mod args;
pub mod confirm;
pub mod failure;
pub mod render;
pub mod run;
pub mod view;
