//! What can be asked for, one function per verb: arguments in, a call to the agent, a view out. Nothing here prints,
//! asks a person or knows a command line, so every face of the program (`vdvs`, `vmdkops_admin.py`, the esxcli
//! plug-in's back end) does the same things through the same calls.
//!
//! A change that the agent goes on with by itself returns at once, with [`Changed::work`](crate::view::Changed::work);
//! [`work::follow`] waits for its end.

pub mod audit;
pub mod config;
pub mod doctor;
pub mod fsck;
pub mod group;
pub mod inventory;
pub mod policy;
pub mod volume;
pub mod work;

use vdvs_domain::ErrorKind;

use crate::failure::Failure;

fn missing(what: &str) -> Failure {
    Failure::new(
        ErrorKind::Internal,
        format!("the agent's answer holds no {what}; see its log"),
    )
}
