//! vSAN policies by name: what stands in one, what may be changed, and why not.
//!
//! | module | concept |
//! |---|---|
//! | `parse` | the expression `(("hostFailuresToTolerate" i1) ("forceProvisioning" i1))`, read strictly, written one way |
//! | `keys` | the keys that are known, with their types and ranges; what a datastore must have to satisfy them |
//! | `change` | create, update and remove as pure functions on the configuration |
//! | `fault` | refusals, with the original's texts |
//!
//! A policy is data and nothing else: its name never becomes a path and its text never reaches a shell (original:
//! S-1, a guest could name any file as a policy and have its content run as a command). What is in the configuration
//! was parsed and written again by this module.

mod change;
mod fault;
mod keys;
mod parse;
#[cfg(test)]
mod tests;

pub use change::{Created, MAX_POLICIES, Updated, create, find, remove, update};
pub use fault::{FailedVolume, PolicyFault};
pub use keys::KNOWN;
pub use parse::{MAX_ENTRIES, MAX_TEXT, PolicyError, PolicyExpression, Value};
