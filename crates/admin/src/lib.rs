//! `vdvs`: the administrator's command line.
//!
//! It asks the agent over its root-only Unix socket, and prints. It decides nothing and knows nothing by itself: an
//! agent that does not run is an error with advice, never an empty table.
//!
//! A command is `args → ops → view → print`: the command line is read, one operation asks the agent and returns a view,
//! and the view is printed as a table, JSON, XML or CSV. Nothing of it needs an agent before the command line is
//! understood: help, completions and man pages come from the command line's own description.
//!
//! | module | concept |
//! |---|---|
//! | [`args`] | the command line |
//! | [`ops`] | one function per verb: calls the agent, returns a view; shared with the original's faces |
//! | [`agent`] | the calls, each with a deadline |
//! | [`view`] | what is shown, as data; `--output json` prints exactly this |
//! | [`grid`] | the same as named columns; [`arrange`] filters and sorts by them |
//! | [`render`] | text for people, XML and CSV: pure functions of a view and a width |
//! | [`confirm`], [`progress`] | the question before something is removed, the line while something takes long |
//! | [`failure`] | errors: text, JSON, XML, CSV, exit code |
//! | [`run`] | one command, start to end |
//! | [`pages`] | completions and man pages |
//! | [`compat`] | the faces `vmdkops_admin.py` and esxcli's back end |
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod agent;
pub mod args;
pub mod arrange;
pub mod compat;
pub mod confirm;
pub mod failure;
pub mod glob;
pub mod grid;
pub mod ops;
pub mod pages;
pub mod progress;
pub mod render;
pub mod run;
pub mod time;
pub mod view;
