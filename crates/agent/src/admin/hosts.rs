//! The hosts that share datastores with this one.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::v1;
use vdvs_engine::api::AdminHost;

use super::{AdminFront, unix_ms};

fn shown(host: AdminHost) -> v1::AdminHost {
    let config = host.configs.first();
    v1::AdminHost {
        id: host.id.to_string(),
        local: host.local,
        told_at_unix_ms: unix_ms(host.told_at),
        vms: host.vms,
        guests_connected: host.guests_connected,
        volumes_held: host.volumes_held,
        config_id: config.map_or_else(String::new, |(id, _)| id.to_string()),
        config_version: config.map_or(0, |(_, version)| *version),
        name: host.name,
        kind: host.kind,
        program: host.program,
        datastores: host.datastores,
        warnings: host.warnings,
    }
}

impl AdminFront {
    pub(super) async fn answer_list_hosts(
        &self,
        deadline: Instant,
        _wire: v1::ListHostsRequest,
    ) -> Result<v1::ListHostsReply, Status> {
        let hosts = self.look(deadline, self.engine.admin_hosts()).await?;
        Ok(v1::ListHostsReply {
            hosts: hosts.into_iter().map(shown).collect(),
        })
    }
}
