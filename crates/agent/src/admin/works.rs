//! Work that outlives the call that began it.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1;

use super::AdminFront;

impl AdminFront {
    pub(super) async fn answer_show_work(
        &self,
        _deadline: Instant,
        _wire: v1::ShowWorkRequest,
    ) -> Result<v1::ShowWorkReply, Status> {
        Err(Status::unimplemented("show_work"))
    }

    pub(super) async fn answer_list_works(
        &self,
        _deadline: Instant,
        _wire: v1::ListWorksRequest,
    ) -> Result<v1::ListWorksReply, Status> {
        Err(Status::unimplemented("list_works"))
    }
}
