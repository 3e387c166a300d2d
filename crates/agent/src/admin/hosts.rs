//! The hosts that share datastores with this one.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1;

use super::AdminFront;

impl AdminFront {
    pub(super) async fn answer_list_hosts(
        &self,
        _deadline: Instant,
        _wire: v1::ListHostsRequest,
    ) -> Result<v1::ListHostsReply, Status> {
        Err(Status::unimplemented("list_hosts"))
    }
}
