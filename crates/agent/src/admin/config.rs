//! The configuration document.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1;
use vdvs_engine::api::LocalUser;

use super::AdminFront;

impl AdminFront {
    pub(super) async fn answer_show_config(
        &self,
        _deadline: Instant,
        _wire: v1::ShowConfigRequest,
    ) -> Result<v1::ShowConfigReply, Status> {
        Err(Status::unimplemented("show_config"))
    }

    pub(super) async fn answer_config_history(
        &self,
        _deadline: Instant,
        _wire: v1::ConfigHistoryRequest,
    ) -> Result<v1::ConfigHistoryReply, Status> {
        Err(Status::unimplemented("config_history"))
    }

    pub(super) async fn answer_change_config(
        &self,
        _user: LocalUser,
        _deadline: Instant,
        _wire: v1::ChangeConfigRequest,
    ) -> Result<v1::ChangeReply, Status> {
        Err(Status::unimplemented("change_config"))
    }

    pub(super) async fn answer_backup_config(
        &self,
        _deadline: Instant,
        _wire: v1::BackupConfigRequest,
    ) -> Result<v1::BackupConfigReply, Status> {
        Err(Status::unimplemented("backup_config"))
    }
}
