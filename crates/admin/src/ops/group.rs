//! vmgroups, their members and privileges.

use vdvs_api::v1;
use vdvs_api::v1::change_group_request::Change;
use vdvs_api::v1::{change_members, change_privilege};
use vdvs_domain::ErrorKind;

use crate::agent::Agent;
use crate::arrange::Arrangement;
use crate::failure::Failure;
use crate::view::{Changed, Group, GroupList, Member, Privilege, Tabular};

/// The group every VM without one belongs to.
const DEFAULT: &str = "_DEFAULT";

/// All groups, arranged.
///
/// # Errors
/// [`Failure`].
pub async fn list(agent: &mut Agent, arrangement: &Arrangement) -> Result<GroupList, Failure> {
    let reply = agent.list_groups(v1::ListGroupsRequest::default()).await?;
    let mut list = GroupList::from(reply);
    let grid = list.grid();
    list.groups = arrangement.apply(list.groups, &grid)?;
    Ok(list)
}

/// One group.
///
/// # Errors
/// [`Failure`].
pub async fn show(agent: &mut Agent, name: &str) -> Result<Group, Failure> {
    let reply = agent
        .list_groups(v1::ListGroupsRequest {
            name: name.to_owned(),
        })
        .await?;
    let mut groups = GroupList::from(reply).groups;
    groups.retain(|g| g.name == name);
    match (groups.pop(), groups.is_empty()) {
        (Some(group), true) => Ok(group),
        (None, _) => Err(Failure::new(
            ErrorKind::NotFound,
            format!("Vmgroup {name} does not exist; see those there are with: vdvs vmgroup ls"),
        )),
        (Some(_), false) => Err(Failure::new(
            ErrorKind::Ambiguous,
            format!(
                "several configurations have a vmgroup {name}; see which govern here with: vdvs config status"
            ),
        )),
    }
}

async fn change(
    agent: &mut Agent,
    change: Change,
    message: impl Into<String>,
) -> Result<Changed, Failure> {
    let reply = agent
        .change_group(v1::ChangeGroupRequest {
            head: None,
            change: Some(change),
        })
        .await?;
    Ok(Changed::new(message, reply))
}

/// Makes a group.
///
/// # Errors
/// [`Failure`].
pub async fn create(agent: &mut Agent, group: v1::CreateGroup) -> Result<Changed, Failure> {
    let name = &group.name;
    let mut message = format!("vmgroup '{name}' is created.");
    if name != DEFAULT {
        message += " Do not forget to run 'vmgroup vm add' to add vm to vmgroup.";
    }
    change(agent, Change::Create(group), message).await
}

/// Changes a group's name, description or defaults.
///
/// # Errors
/// [`Failure`].
pub async fn update(agent: &mut Agent, update: v1::UpdateGroup) -> Result<Changed, Failure> {
    change(agent, Change::Update(update), "vmgroup modify succeeded").await
}

/// Removes a group.
///
/// # Errors
/// [`Failure`].
pub async fn remove(agent: &mut Agent, remove: v1::RemoveGroup) -> Result<Changed, Failure> {
    let message = if remove.remove_volumes {
        "All Volumes will be removed. vmgroup rm succeeded"
    } else {
        "vmgroup rm succeeded"
    };
    change(agent, Change::Remove(remove), message).await
}

/// Adds, removes or replaces members.
///
/// # Errors
/// [`Failure`].
pub async fn members(agent: &mut Agent, members: v1::ChangeMembers) -> Result<Changed, Failure> {
    let verb = match members.how() {
        change_members::How::Remove => "rm",
        change_members::How::Replace => "replace",
        change_members::How::Add | change_members::How::Unspecified => "add",
    };
    let message = format!("vmgroup vm {verb} succeeded");
    change(agent, Change::Members(members), message).await
}

/// The members.
///
/// # Errors
/// [`Failure`]; `_DEFAULT` has none that could be listed.
pub async fn list_members(agent: &mut Agent, name: &str) -> Result<Vec<Member>, Failure> {
    let group = show(agent, name).await?;
    if group.everybody_else {
        return Err(Failure::new(
            ErrorKind::InvalidArgument,
            format!(
                "{name} tenant contains all VMs which were not added to other tenants; see them with: vdvs vm ls --filter group={name}"
            ),
        ));
    }
    Ok(group.members)
}

/// Adds, changes or removes a privilege.
///
/// # Errors
/// [`Failure`].
pub async fn privilege(
    agent: &mut Agent,
    privilege: v1::ChangePrivilege,
) -> Result<Changed, Failure> {
    let verb = match privilege.how() {
        change_privilege::How::Set => "set",
        change_privilege::How::Remove => "rm",
        change_privilege::How::Add | change_privilege::How::Unspecified => "add",
    };
    let message = format!("vmgroup access {verb} succeeded");
    change(agent, Change::Privilege(privilege), message).await
}

/// The privileges.
///
/// # Errors
/// [`Failure`].
pub async fn list_privileges(agent: &mut Agent, name: &str) -> Result<Vec<Privilege>, Failure> {
    Ok(show(agent, name).await?.privileges)
}
