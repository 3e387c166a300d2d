//! Why a volume is not where somebody wants it.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1;

use super::AdminFront;

impl AdminFront {
    pub(super) async fn answer_why_volume(
        &self,
        _deadline: Instant,
        _wire: v1::WhyVolumeRequest,
    ) -> Result<v1::WhyVolumeReply, Status> {
        Err(Status::unimplemented("why_volume"))
    }
}
