//! vSAN policies.

use vdvs_api::v1;
use vdvs_api::v1::change_policy_request::How;

use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::view::{Changed, Policy, Tabular};

/// All policies, arranged.
///
/// # Errors
/// [`Failure`].
pub async fn list(agent: &mut Agent, arrangement: &Arrangement) -> Result<Vec<Policy>, Failure> {
    let reply = agent.list_policies(v1::ListPoliciesRequest {}).await?;
    let mut list: Vec<_> = reply.policies.into_iter().map(Policy::from).collect();
    list.sort_by_cached_key(|p| p.name.clone());
    let grid = list.grid();
    arrangement.apply(list, &grid)
}

/// Makes, changes or removes a policy.
///
/// # Errors
/// [`Failure`].
pub async fn change(
    agent: &mut Agent,
    how: How,
    name: &str,
    content: &str,
) -> Result<Changed, Failure> {
    let message = match how {
        How::Update => format!("Successfully updated policy {name}"),
        How::Remove => format!("Successfully removed policy: {name}"),
        How::Create | How::Unspecified => format!("Successfully created policy: {name}"),
    };
    let reply = agent
        .change_policy(v1::ChangePolicyRequest {
            head: None,
            how: how.into(),
            name: name.to_owned(),
            content: content.to_owned(),
        })
        .await?;
    Ok(Changed::new(message, reply))
}
