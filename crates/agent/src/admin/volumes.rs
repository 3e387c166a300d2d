//! Changes of one volume.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1;
use vdvs_engine::api::LocalUser;

use super::AdminFront;

impl AdminFront {
    pub(super) async fn answer_set_volume(
        &self,
        _user: LocalUser,
        _deadline: Instant,
        _wire: v1::SetVolumeRequest,
    ) -> Result<v1::ChangeReply, Status> {
        Err(Status::unimplemented("set_volume"))
    }

    pub(super) async fn answer_move_volume(
        &self,
        _user: LocalUser,
        _deadline: Instant,
        _wire: v1::MoveVolumeRequest,
    ) -> Result<v1::ChangeReply, Status> {
        Err(Status::unimplemented("move_volume"))
    }

    pub(super) async fn answer_take_volume(
        &self,
        _user: LocalUser,
        _deadline: Instant,
        _wire: v1::TakeVolumeRequest,
    ) -> Result<v1::ChangeReply, Status> {
        Err(Status::unimplemented("take_volume"))
    }
}
