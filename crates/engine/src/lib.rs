//! The use cases: create, delete, get, list, attach, detach, format, report.
//!
//! | module | concept |
//! |---|---|
//! | [`ports`] | what the engine needs from the world |
//! | [`api`] | what its callers say and hear |
//! | `swap` | the one way a shared file changes |
//! | `layout`, `records`, `governance`, `ledger` | what lies on a datastore |
//! | `lookup`, `view`, `identity`, `inventory` | finding, showing, knowing who asks |
//! | `create`, `delete`, `attach`, `detach`, `format`, `release` | the changes: operation in the record → act → result |
//! | `plan`, `proof` | the decisions of an attach |
//! | `resolve`, `reconcile`, `leftovers` | finishing what a crash left |
//! | `keyed`, `admission`, `notices` | who waits for whom |
//!
//! Every change is written into the volume's record before it is made, where any host can read it, and every step may
//! run twice. What is past its point of no return runs to the end even if the caller goes away. Nothing in memory has
//! to survive a restart.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admin;
mod admission;
pub mod api;
mod attach;
mod audit;
mod create;
mod delete;
mod detach;
mod engine;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod governance;
mod identity;
mod index;
mod inner;
mod inventory;
mod keyed;
mod layout;
mod ledger;
mod leftovers;
mod lookup;
mod notices;
mod plan;
pub mod ports;
mod proof;
mod reconcile;
mod records;
mod release;
mod resolve;
mod swap;
mod view;

pub use engine::Engine;
