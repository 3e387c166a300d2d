//! The use cases: create, delete, get, list, attach, detach, format, report.
//!
//! | module | concept |
//! |---|---|
//! | [`ports`] | what the engine needs from the world |
//! | [`api`] | what its callers say and hear |
//! | `swap` | the one way a shared file changes |
//! | `layout`, `records`, `governance`, `ledger` | what lies on a datastore |
//! | `index`, `kept` | what is remembered of records, and of lists |
//! | `lookup`, `view`, `identity`, `inventory` | finding, showing, knowing who asks |
//! | `works`, `cloning`, `rivals`, `unmake`, `policies` | parts of a create: long work, sources, other creators, its ends, vSAN policies |
//! | `create`, `delete`, `attach`, `detach`, `format`, `release` | the changes: operation in the record → act → result |
//! | `plan`, `proof` | the decisions of an attach |
//! | `claims`, `wanted`, `fence` | volumes that VMs of other hosts want, and what is done about it |
//! | `resolve`, `reconcile`, `differences`, `leftovers` | finishing what a crash left, repairing what differs |
//! | `doctor` | what differs, named and shown, and repaired when asked |
//! | `fsck` | what is damaged on a datastore, and its repair |
//! | `keyed`, `admission`, `notices` | who waits for whom |
//!
//! Every change is written into the volume's record before it is made, where any host can read it, and every step may
//! run twice. What is past its point of no return runs to the end even if the caller goes away. Nothing in memory has
//! to survive a restart.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admin;
mod admin_find;
mod admin_groups;
mod admin_groups_rm;
mod admin_groups_view;
mod admin_lists;
mod admission;
mod adopt;
pub mod api;
mod attach;
mod attaching;
mod audit;
mod bringing;
mod claims;
mod cloning;
pub mod config;
mod config_face;
mod create;
mod delete;
mod detach;
mod differences;
mod doctor;
mod engine;
mod fence;
mod format;
mod fsck;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod governance;
mod hosts;
mod identity;
mod index;
mod inner;
mod inventory;
mod kept;
mod keyed;
mod layout;
mod ledger;
mod ledger_sift;
mod leftovers;
pub mod legacy;
mod lookup;
mod moving;
mod moving_admin;
mod moving_vms;
mod notices;
mod plan;
mod policies;
mod policies_admin;
pub mod ports;
mod preparing;
mod proof;
mod reconcile;
mod records;
mod release;
mod resolve;
mod rivals;
mod settings;
mod swap;
mod taking;
mod telling;
mod transfers;
mod unclaimed;
mod unmake;
mod view;
mod wanted;
mod why;
mod works;

pub use engine::Engine;
