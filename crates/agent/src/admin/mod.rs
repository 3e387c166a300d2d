//! The administrator's service, on a socket that only root can open. It is not limited by vmgroups.

mod audit;
mod config;
mod doctor;
mod fsck;
mod groups;
mod hosts;
mod policies;
mod user;
mod vms;
mod volumes;
mod why;
mod works;

use std::future::Future;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

use tokio::time::Instant;
use tonic::{Request, Response, Status};
use tracing::{info, warn};
use vdvs_api::v1::admin_service_server::AdminService;
use vdvs_api::{model, status, v1, version};
use vdvs_domain::{Error, Timestamp};
use vdvs_engine::Engine;
use vdvs_engine::api::{Call, LocalUser};
use vdvs_transport::{Identity, Peer};

use self::works::Works;
use crate::PROGRAM;
use crate::calls::Calls;
use crate::guests::{Class, Guests, Places};
use crate::view;

/// What the agent was started with, for `status`.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Where lines go.
    pub log_file: PathBuf,
    /// Which.
    pub log_level: String,
    /// The vSocket port that guests dial.
    pub port: u32,
}

/// The administrator's service.
#[derive(Debug)]
pub struct AdminFront {
    engine: Arc<Engine>,
    guests: Arc<Guests>,
    calls: Calls,
    places: Places,
    works: Works,
    reports: fsck::Reports,
    began: Instant,
    facts: Facts,
}

impl AdminFront {
    /// The service over the engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>, guests: Arc<Guests>, calls: Calls, facts: Facts) -> Self {
        Self {
            engine,
            guests,
            calls,
            places: Places::default(),
            works: Works::default(),
            reports: fsck::Reports::default(),
            began: Instant::now(),
            facts,
        }
    }

    /// Runs a use case that only looks, and logs its failure.
    async fn look<T>(
        &self,
        deadline: Instant,
        run: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Status> {
        Calls::read(&self.places, deadline, run).await.map_err(|e| {
            info!(reason = %e.kind(), "administrator: {e}");
            status::from_error(&e)
        })
    }
}

/// The second door: the service is only on the administrator's socket, and serves only who came through it.
fn open<W>(request: Request<W>) -> Result<(Instant, W), Status> {
    open_as(request).map(|(_, deadline, wire)| (deadline, wire))
}

/// The same, for what is audited: with who asks.
fn open_as<W>(request: Request<W>) -> Result<(LocalUser, Instant, W), Status> {
    let deadline = Calls::deadline(request.metadata());
    let peer = request.extensions().get::<Peer>();
    match peer.map(|p| (p.identity(), p.uid())) {
        Some((Identity::Admin, uid)) => {
            let user = user::of(uid);
            Ok((user, deadline, request.into_inner()))
        }
        other => {
            warn!(peer = ?other, "somebody else asked for the administrator's service");
            let why = "this is the administrator's service".to_owned();
            Err(status::from_error(&Error::UnknownCaller { why }))
        }
    }
}

fn read<W, T: TryFrom<W, Error = Error>>(wire: W) -> Result<T, Status> {
    T::try_from(wire).map_err(|e| status::from_error(&e))
}

/// A time as the contract has it.
fn unix_ms(at: Timestamp) -> i64 {
    i64::try_from(at.millis()).unwrap_or(i64::MAX)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[tonic::async_trait]
impl AdminService for AdminFront {
    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let (deadline, _) = open(request)?;
        let status = self.look(deadline, self.engine.admin_status()).await?;
        let uptime = self.began.elapsed().as_millis();
        let datastore = |ds| view::datastore(ds).into();
        Ok(Response::new(v1::StatusReply {
            program: PROGRAM.to_owned(),
            host_name: status.host.name,
            host_id: status.host.id.to_string(),
            host_kind: status.host.kind.to_owned(),
            uptime_ms: u64::try_from(uptime).unwrap_or(u64::MAX),
            protocol_min: version::MIN,
            protocol_max: version::MAX,
            guests_connected: count(self.guests.connected()),
            vms: status.vms,
            volumes: status.volumes,
            attached: status.attached,
            unresolved_operations: status.unresolved_operations,
            open_to_all: status.open_to_all,
            warnings: status.warnings,
            datastores: status.datastores.into_iter().map(datastore).collect(),
            lock_hint: status.lock_hint,
            config_mode: status.config_mode,
            pid: process::id(),
            log_file: self.facts.log_file.display().to_string(),
            log_level: self.facts.log_level.clone(),
            port: self.facts.port,
            hosts: status.hosts,
        }))
    }

    async fn list_all_volumes(
        &self,
        request: Request<v1::ListAllVolumesRequest>,
    ) -> Result<Response<v1::ListAllVolumesReply>, Status> {
        let (deadline, _) = open(request)?;
        let listing = self.look(deadline, self.engine.admin_volumes()).await?;
        let volume = |v| view::admin_volume(v).into();
        let unreadable = listing.unreadable.into_iter();
        Ok(Response::new(v1::ListAllVolumesReply {
            volumes: listing.volumes.into_iter().map(volume).collect(),
            unreadable_datastores: unreadable.map(String::from).collect(),
        }))
    }

    async fn inspect_volume(
        &self,
        request: Request<v1::InspectVolumeRequest>,
    ) -> Result<Response<v1::InspectVolumeReply>, Status> {
        let (deadline, wire) = open(request)?;
        let address: String = read(wire)?;
        let run = self.engine.admin_inspect(&address);
        let found = self.look(deadline, run).await?;
        Ok(Response::new(v1::InspectVolumeReply {
            volume: Some(view::admin_volume(found.volume).into()),
            record_json: found.record_json,
        }))
    }

    async fn remove_volume(
        &self,
        request: Request<v1::RemoveVolumeRequest>,
    ) -> Result<Response<v1::RemoveVolumeReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        let ask: model::RemoveVolume = read(wire)?;
        let engine = Arc::clone(&self.engine);
        let remove = |cancel| async move {
            let call = Call {
                request: ask.request,
                deadline,
                cancel,
            };
            let removed = engine.admin_remove(&user, &call, &ask.address).await;
            match &removed {
                Ok((id, name)) => info!(%id, "administrator: removed {name}"),
                Err(e) => info!(reason = %e.kind(), "administrator: remove {}: {e}", ask.address),
            }
            removed
        };
        let removed = self
            .calls
            .change(&self.places, Class::Change, deadline, remove);
        let (id, full_name) = removed.await.map_err(|e| status::from_error(&e))?;
        Ok(Response::new(v1::RemoveVolumeReply {
            id: id.to_string(),
            full_name,
        }))
    }

    async fn list_vms(
        &self,
        request: Request<v1::ListVmsRequest>,
    ) -> Result<Response<v1::ListVmsReply>, Status> {
        let (deadline, _) = open(request)?;
        let vms = self.look(deadline, self.engine.admin_vms()).await?;
        let vms = vms.into_iter().map(|vm| view::vm(vm).into()).collect();
        Ok(Response::new(v1::ListVmsReply { vms }))
    }

    async fn list_datastores(
        &self,
        request: Request<v1::ListDatastoresRequest>,
    ) -> Result<Response<v1::ListDatastoresReply>, Status> {
        let (deadline, _) = open(request)?;
        let datastores = self.look(deadline, self.engine.admin_datastores()).await?;
        let datastore = |ds| view::datastore(ds).into();
        let datastores = datastores.into_iter().map(datastore).collect();
        Ok(Response::new(v1::ListDatastoresReply { datastores }))
    }

    async fn list_groups(
        &self,
        request: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_list_groups(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn change_group(
        &self,
        request: Request<v1::ChangeGroupRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        self.answer_change_group(user, deadline, wire)
            .await
            .map(Response::new)
    }

    async fn list_policies(
        &self,
        request: Request<v1::ListPoliciesRequest>,
    ) -> Result<Response<v1::ListPoliciesReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_list_policies(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn change_policy(
        &self,
        request: Request<v1::ChangePolicyRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        self.answer_change_policy(user, deadline, wire)
            .await
            .map(Response::new)
    }

    async fn show_config(
        &self,
        request: Request<v1::ShowConfigRequest>,
    ) -> Result<Response<v1::ShowConfigReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_show_config(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn config_history(
        &self,
        request: Request<v1::ConfigHistoryRequest>,
    ) -> Result<Response<v1::ConfigHistoryReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_config_history(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn change_config(
        &self,
        request: Request<v1::ChangeConfigRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        self.answer_change_config(user, deadline, wire)
            .await
            .map(Response::new)
    }

    async fn backup_config(
        &self,
        request: Request<v1::BackupConfigRequest>,
    ) -> Result<Response<v1::BackupConfigReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_backup_config(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn set_volume(
        &self,
        request: Request<v1::SetVolumeRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        self.answer_set_volume(user, deadline, wire)
            .await
            .map(Response::new)
    }

    async fn move_volume(
        &self,
        request: Request<v1::MoveVolumeRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        self.answer_move_volume(user, deadline, wire)
            .await
            .map(Response::new)
    }

    async fn take_volume(
        &self,
        request: Request<v1::TakeVolumeRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        self.answer_take_volume(user, deadline, wire)
            .await
            .map(Response::new)
    }

    async fn prepare_vms(
        &self,
        request: Request<v1::PrepareVmsRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        self.answer_prepare_vms(user, deadline, wire)
            .await
            .map(Response::new)
    }

    async fn why_volume(
        &self,
        request: Request<v1::WhyVolumeRequest>,
    ) -> Result<Response<v1::WhyVolumeReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_why_volume(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn list_hosts(
        &self,
        request: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_list_hosts(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn list_audit(
        &self,
        request: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_list_audit(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn show_work(
        &self,
        request: Request<v1::ShowWorkRequest>,
    ) -> Result<Response<v1::ShowWorkReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_show_work(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn list_works(
        &self,
        request: Request<v1::ListWorksRequest>,
    ) -> Result<Response<v1::ListWorksReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_list_works(deadline, wire)
            .await
            .map(Response::new)
    }

    async fn doctor(
        &self,
        request: Request<v1::DoctorRequest>,
    ) -> Result<Response<v1::DoctorReply>, Status> {
        let (deadline, wire) = open(request)?;
        self.answer_doctor(deadline, wire).await.map(Response::new)
    }

    async fn repair(
        &self,
        request: Request<v1::RepairRequest>,
    ) -> Result<Response<v1::RepairReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        self.answer_repair(user, deadline, wire)
            .await
            .map(Response::new)
    }

    async fn fsck(
        &self,
        request: Request<v1::FsckRequest>,
    ) -> Result<Response<v1::FsckReply>, Status> {
        let (user, deadline, wire) = open_as(request)?;
        self.answer_fsck(user, deadline, wire)
            .await
            .map(Response::new)
    }
}
