//! vSAN policies.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1;
use vdvs_engine::api::LocalUser;

use super::AdminFront;

impl AdminFront {
    pub(super) async fn answer_list_policies(
        &self,
        _deadline: Instant,
        _wire: v1::ListPoliciesRequest,
    ) -> Result<v1::ListPoliciesReply, Status> {
        Err(Status::unimplemented("list_policies"))
    }

    pub(super) async fn answer_change_policy(
        &self,
        _user: LocalUser,
        _deadline: Instant,
        _wire: v1::ChangePolicyRequest,
    ) -> Result<v1::ChangeReply, Status> {
        Err(Status::unimplemented("change_policy"))
    }
}
