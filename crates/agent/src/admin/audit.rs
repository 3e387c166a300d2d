//! What happened on this host.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1;

use super::AdminFront;

impl AdminFront {
    pub(super) async fn answer_list_audit(
        &self,
        _deadline: Instant,
        _wire: v1::ListAuditRequest,
    ) -> Result<v1::ListAuditReply, Status> {
        Err(Status::unimplemented("list_audit"))
    }
}
