//! May this VM do this, on this datastore? One pure function, one gate in front of every verb.
//!
//! The model is the original's, because administrators know it: a VM belongs to one vmgroup (every VM nobody named
//! belongs to `_DEFAULT`, while that group exists); a group has privileges per datastore, with `_VM_DS` (the VM's home
//! datastore) and `_ALL_DS` (every datastore without a privilege of its own) as placeholders. No group, no privilege,
//! no answer: denied, and the denial names the rule.
//!
//! | part | concept |
//! |---|---|
//! | `model` | vmgroups, members, privileges, policies, transfers |
//! | `decide` | the decision about one request |
//! | `asked` | what administrators write: names, datastores, limits |
//! | `change` | every change of groups, `members` and `privileges`, as a function from one configuration to the next |
//! | `fault` | why a change is refused |

mod asked;
mod change;
mod decide;
mod fault;
mod members;
mod model;
#[cfg(test)]
mod tests;

pub use asked::{KnownVm, MAX_DESCRIPTION, MAX_GROUP_NAME, MAX_VMS_ASKED, Surroundings, limit};
pub use change::{ChangePrivilege, Changed, CreateGroup, UpdateGroup};
pub use decide::{Caller, Denied, Spot, Verb, decide, default_datastore, group_of, privilege_on};
pub use fault::{Fault, MemberChange, NAME_PATTERN};
pub use members::{ChangeMembers, Leaving};
pub use model::{
    AccessConfig, DatastoreScope, Group, Member, Members, Privilege, StoragePolicy, Transfer,
    TransferredVolume,
};
