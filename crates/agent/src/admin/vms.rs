//! VMs made ready for volumes.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;
use tracing::info;
use vdvs_api::{limits, status, v1};
use vdvs_domain::Error;
use vdvs_engine::api::LocalUser;

use super::AdminFront;
use crate::guests::Class;

impl AdminFront {
    pub(super) async fn answer_prepare_vms(
        &self,
        user: LocalUser,
        deadline: Instant,
        wire: v1::PrepareVmsRequest,
    ) -> Result<v1::ChangeReply, Status> {
        if wire.vms.iter().any(|vm| vm.len() > limits::MAX_OPTION_TEXT) {
            return Err(status::from_error(&Error::Invalid {
                what: "VM",
                problem: format!("its name has more than {} bytes", limits::MAX_OPTION_TEXT),
            }));
        }
        let engine = Arc::clone(&self.engine);
        let run = |_| async move {
            engine
                .admin_prepare(&user, &wire.vms, wire.controllers, deadline)
                .await
        };
        let done = self
            .calls
            .change(&self.places, Class::Change, deadline, run);
        let lines = done.await.map_err(|e| {
            info!(reason = %e.kind(), "administrator: {e}");
            status::from_error(&e)
        })?;
        Ok(v1::ChangeReply {
            lines,
            ..v1::ChangeReply::default()
        })
    }
}
