//! vmgroups, their members and privileges.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;
use tracing::info;
use vdvs_api::v1::change_group_request::Change;
use vdvs_api::v1::{change_members, change_privilege};
use vdvs_api::{status, v1};
use vdvs_domain::access::{
    ChangeMembers, ChangePrivilege, CreateGroup, Leaving, Members, Privilege, UpdateGroup,
};
use vdvs_domain::{Capacity, Error};
use vdvs_engine::api::{
    AdminGroup, AdminMember, AdminUsage, GroupChange, LocalUser, RemoveGroup, Teller,
};

use super::AdminFront;
use crate::guests::Class;

fn member(member: AdminMember) -> v1::GroupMember {
    v1::GroupMember {
        uuid: member.uuid.to_string(),
        name: member.name,
        found: member.host.is_some(),
        host: member.host.unwrap_or_default(),
    }
}

fn privilege(privilege: &Privilege) -> v1::GroupPrivilege {
    v1::GroupPrivilege {
        datastore: privilege.datastore.to_string(),
        allow_create: privilege.allow_create,
        max_volume_bytes: privilege.max_volume.map_or(0, Capacity::bytes),
        total_bytes: privilege.total_bytes.unwrap_or(0),
    }
}

fn usage(usage: AdminUsage) -> v1::GroupUsage {
    v1::GroupUsage {
        datastore: usage.datastore.to_string(),
        volumes: usage.volumes,
        used_bytes: usage.used_bytes,
        total_bytes: usage.total_bytes.unwrap_or(0),
        problem: usage.problem.unwrap_or_default(),
    }
}

fn shown(shown: AdminGroup) -> v1::Group {
    let group = shown.group;
    v1::Group {
        id: group.id.to_string(),
        name: group.name.to_string(),
        description: group.description,
        default_datastore: group.default_datastore.to_string(),
        default_size_bytes: group.default_size.map_or(0, Capacity::bytes),
        everybody_else: group.members == Members::Others,
        members: shown.members.into_iter().map(member).collect(),
        privileges: group.privileges.iter().map(privilege).collect(),
        usage: shown.usage.into_iter().map(usage).collect(),
        home: shown.home.to_string(),
    }
}

fn unclear(what: &'static str, problem: &str) -> Status {
    status::from_error(&Error::Invalid {
        what,
        problem: problem.to_owned(),
    })
}

fn leaving(volumes: v1::Volumes) -> Leaving {
    match volumes {
        v1::Volumes::Unspecified => Leaving::Ask,
        v1::Volumes::Move => Leaving::Move,
        v1::Volumes::Leave => Leaving::Leave,
    }
}

fn members(wire: v1::ChangeMembers) -> Result<GroupChange, Status> {
    use change_members::How;
    let how = wire.how();
    let ask = ChangeMembers {
        volumes: leaving(wire.volumes()),
        group: wire.group,
        vms: wire.vms,
    };
    match how {
        How::Add => Ok(GroupChange::AddMembers(ask, wire.volume_names)),
        How::Remove => Ok(GroupChange::RemoveMembers(ask, wire.volume_names)),
        How::Replace => Ok(GroupChange::ReplaceMembers(ask, wire.volume_names)),
        How::Unspecified => Err(unclear("how", "say whether to add, remove or replace VMs")),
    }
}

fn privileges(wire: v1::ChangePrivilege) -> Result<GroupChange, Status> {
    use change_privilege::How;
    let how = wire.how();
    let ask = ChangePrivilege {
        group: wire.group,
        datastore: wire.datastore,
        allow_create: wire.allow_create,
        max_size: wire.max_size,
        total_size: wire.total_size,
    };
    match how {
        How::Add => Ok(GroupChange::AddPrivilege(ask)),
        How::Set => Ok(GroupChange::SetPrivilege(ask)),
        How::Remove => Ok(GroupChange::RemovePrivilege(ask)),
        How::Unspecified => Err(unclear(
            "how",
            "say whether to add, set or remove the privilege",
        )),
    }
}

fn asked(change: Change) -> Result<GroupChange, Status> {
    Ok(match change {
        Change::Create(wire) => GroupChange::Create(CreateGroup {
            volumes: leaving(wire.volumes()),
            name: wire.name,
            description: wire.description,
            default_datastore: wire.default_datastore,
            default_size: wire.default_size,
            vms: wire.vms,
        }),
        Change::Update(wire) => GroupChange::Update(UpdateGroup {
            name: wire.name,
            new_name: wire.new_name,
            description: wire.description,
            default_datastore: wire.default_datastore,
            default_size: wire.default_size,
        }),
        Change::Remove(wire) => GroupChange::Remove(RemoveGroup {
            name: wire.name,
            remove_volumes: wire.remove_volumes,
            force: wire.force,
        }),
        Change::Members(wire) => members(wire)?,
        Change::Privilege(wire) => privileges(wire)?,
    })
}

/// What a work that is long is called.
fn title(change: &GroupChange) -> String {
    match change {
        GroupChange::Create(ask) => format!("vmgroup create {}", ask.name),
        GroupChange::Remove(ask) => format!("vmgroup rm {}", ask.name),
        GroupChange::AddMembers(ask, _) => format!("vmgroup vm add {}", ask.group),
        GroupChange::RemoveMembers(ask, _) => format!("vmgroup vm rm {}", ask.group),
        GroupChange::ReplaceMembers(ask, _) => format!("vmgroup vm replace {}", ask.group),
        _ => "vmgroup".to_owned(),
    }
}

impl AdminFront {
    pub(super) async fn answer_list_groups(
        &self,
        deadline: Instant,
        wire: v1::ListGroupsRequest,
    ) -> Result<v1::ListGroupsReply, Status> {
        let name = (!wire.name.is_empty()).then_some(wire.name.as_str());
        let listing = self.look(deadline, self.engine.admin_groups(name)).await?;
        Ok(v1::ListGroupsReply {
            groups: listing.groups.into_iter().map(shown).collect(),
            not_configured: listing.not_configured,
        })
    }

    pub(super) async fn answer_change_group(
        &self,
        user: LocalUser,
        deadline: Instant,
        wire: v1::ChangeGroupRequest,
    ) -> Result<v1::ChangeReply, Status> {
        let change = wire.change.map(asked).transpose()?;
        let change = change.ok_or_else(|| unclear("change", "say what to change"))?;
        let engine = Arc::clone(&self.engine);
        if change.may_take_long() {
            let what = title(&change);
            let run = |tell: Teller| async move {
                let done = engine.admin_change_group(&user, &change, &tell).await?;
                let warnings = done.warnings.into_iter().map(|w| format!("warning: {w}"));
                Ok(done.lines.into_iter().chain(warnings).collect())
            };
            return self.answer_or_work(deadline, what, 0, run).await;
        }
        let run = async move {
            let tell = Teller::default();
            engine.admin_change_group(&user, &change, &tell).await
        };
        let class = Class::Change;
        let done = self.calls.change(&self.places, class, deadline, |_| run);
        let done = done.await.map_err(|e| {
            info!(reason = %e.kind(), "administrator: vmgroup: {e}");
            status::from_error(&e)
        })?;
        Ok(v1::ChangeReply {
            lines: done.lines,
            warnings: done.warnings,
            work: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_does_not_say_what_is_refused() {
        for change in [
            Change::Members(v1::ChangeMembers::default()),
            Change::Privilege(v1::ChangePrivilege::default()),
        ] {
            let refused = asked(change).err();
            assert_eq!(
                refused.map(|s| s.code()),
                Some(tonic::Code::InvalidArgument)
            );
        }
    }

    #[test]
    fn only_what_removes_or_moves_volumes_is_long_work() {
        let create = |volumes: v1::Volumes| {
            asked(Change::Create(v1::CreateGroup {
                volumes: volumes.into(),
                ..v1::CreateGroup::default()
            }))
            .map(|c| c.may_take_long())
        };
        assert!(matches!(create(v1::Volumes::Move), Ok(true)));
        assert!(matches!(create(v1::Volumes::Leave), Ok(false)));
    }
}
