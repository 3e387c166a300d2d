//! What differs between the views of the volumes, and its repair.

use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;
use tracing::info;
use vdvs_api::{limits, model, status, v1};
use vdvs_engine::api::{Call, Finding, Fixed, LocalUser, Remedy, Repaired};

use super::{AdminFront, count, read, unix_ms};
use crate::guests::Class;

fn finding(found: Finding) -> v1::Finding {
    let row = found.kind.row();
    v1::Finding {
        name: row.name.to_owned(),
        explanation: row.means.to_owned(),
        risk: row.risk.as_str().to_owned(),
        danger: row.danger.to_owned(),
        since_unix_ms: unix_ms(found.since),
        since_seen: found.since_seen,
        repair: match row.remedy {
            Remedy::Agent(what) => what.to_owned(),
            Remedy::Person(_) => String::new(),
        },
        volume_id: found.volume.map_or_else(String::new, |id| id.to_string()),
        object: found.object,
        text: found.text,
        command: found.command,
    }
}

fn repaired(fixed: Fixed) -> v1::Repaired {
    let row = fixed.finding.kind.row();
    v1::Repaired {
        name: row.name.to_owned(),
        object: fixed.finding.object,
        outcome: fixed.outcome.as_str().to_owned(),
        text: fixed.text,
        risk: row.risk.as_str().to_owned(),
        command: match fixed.outcome {
            // To repeat what was refused needs no advice.
            Repaired::Refused => match row.remedy {
                Remedy::Agent(_) => String::new(),
                Remedy::Person(_) => fixed.finding.command,
            },
            Repaired::Would | Repaired::Done | Repaired::Gone => String::new(),
        },
    }
}

impl AdminFront {
    pub(super) async fn answer_doctor(
        &self,
        deadline: Instant,
        wire: v1::DoctorRequest,
    ) -> Result<v1::DoctorReply, Status> {
        let name = limits::cut(&wire.name, limits::MAX_OPTION_TEXT);
        let found = self.look(deadline, self.engine.admin_doctor(name)).await?;
        Ok(v1::DoctorReply {
            host: found.host,
            volumes: count(found.volumes),
            vms: count(found.vms),
            hosts: count(found.hosts),
            findings: found.findings.into_iter().map(finding).collect(),
        })
    }

    pub(super) async fn answer_repair(
        &self,
        user: LocalUser,
        deadline: Instant,
        wire: v1::RepairRequest,
    ) -> Result<v1::RepairReply, Status> {
        let ask: model::RemoveVolume = read(v1::RemoveVolumeRequest {
            head: wire.head,
            // Not a volume's: only what every change has is read here.
            address: wire.name,
        })?;
        let engine = Arc::clone(&self.engine);
        let run = |cancel| async move {
            let call = Call {
                request: ask.request,
                deadline,
                cancel,
            };
            let object = limits::cut(&wire.object, MAX_OBJECT);
            let finding = (ask.address.as_str(), object);
            let fixed = engine
                .admin_repair(&user, &call, finding, wire.dry_run)
                .await;
            if let Err(e) = &fixed {
                info!(reason = %e.kind(), "administrator: repair {}: {e}", ask.address);
            }
            fixed
        };
        let done = self
            .calls
            .change(&self.places, Class::Change, deadline, run);
        let fixed = done.await.map_err(|e| status::from_error(&e))?;
        Ok(v1::RepairReply {
            repaired: fixed.into_iter().map(repaired).collect(),
        })
    }
}

/// A vmgroup's, a volume's and a datastore's name, each as long as it may be; what is longer names nothing.
const MAX_OBJECT: usize = 1024;
