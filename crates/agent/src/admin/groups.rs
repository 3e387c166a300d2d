//! vmgroups, their members and privileges.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1;
use vdvs_engine::api::LocalUser;

use super::AdminFront;

impl AdminFront {
    pub(super) async fn answer_list_groups(
        &self,
        _deadline: Instant,
        _wire: v1::ListGroupsRequest,
    ) -> Result<v1::ListGroupsReply, Status> {
        Err(Status::unimplemented("list_groups"))
    }

    pub(super) async fn answer_change_group(
        &self,
        _user: LocalUser,
        _deadline: Instant,
        _wire: v1::ChangeGroupRequest,
    ) -> Result<v1::ChangeReply, Status> {
        Err(Status::unimplemented("change_group"))
    }
}
