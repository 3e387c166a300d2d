//! An agent that answers every request from a table, and notes what it was asked.

use std::mem::take;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, async_trait};
use vdvs_api::status::from_error;
use vdvs_api::v1;
use vdvs_api::v1::admin_service_server::{AdminService, AdminServiceServer};
use vdvs_domain::Error;
use vdvs_transport::grpc::server;

use super::canned::Canned;
use crate::compat::Connection;

/// A name that no agent knows.
pub(super) const UNKNOWN: &str = "nobody";

#[derive(Debug, Clone, Default)]
struct FakeAgent {
    asked: Arc<Mutex<Vec<String>>>,
}

impl FakeAgent {
    /// Notes the request without its id, which differs each time, and answers.
    fn answer<T: Canned>(&self, name: &str, request: &str) -> Result<Response<T>, Status> {
        let request = match request.split_once("request_id: \"") {
            Some((before, after)) => format!("{before}id: \"…{}", after.get(36..).unwrap()),
            None => request.to_owned(),
        };
        self.asked.lock().unwrap().push(format!("{name} {request}"));
        // As a value: a field may be called so.
        if request.contains(&format!("\"{UNKNOWN}")) {
            return Err(from_error(&Error::VolumeNotFound {
                address: UNKNOWN.to_owned(),
                looked_on: "datastore1".to_owned(),
            }));
        }
        Ok(Response::new(T::canned(&request)))
    }
}

macro_rules! agent {
    ($($name:ident($request:ident) -> $reply:ident;)+) => {
        #[async_trait]
        impl AdminService for FakeAgent {
            $(async fn $name(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<v1::$reply>, Status> {
                self.answer(stringify!($name), &format!("{:?}", request.into_inner()))
            })+
        }
    };
}

agent! {
    status(StatusRequest) -> StatusReply;
    list_all_volumes(ListAllVolumesRequest) -> ListAllVolumesReply;
    inspect_volume(InspectVolumeRequest) -> InspectVolumeReply;
    remove_volume(RemoveVolumeRequest) -> RemoveVolumeReply;
    list_vms(ListVmsRequest) -> ListVmsReply;
    list_datastores(ListDatastoresRequest) -> ListDatastoresReply;
    list_groups(ListGroupsRequest) -> ListGroupsReply;
    change_group(ChangeGroupRequest) -> ChangeReply;
    list_policies(ListPoliciesRequest) -> ListPoliciesReply;
    change_policy(ChangePolicyRequest) -> ChangeReply;
    show_config(ShowConfigRequest) -> ShowConfigReply;
    config_history(ConfigHistoryRequest) -> ConfigHistoryReply;
    change_config(ChangeConfigRequest) -> ChangeReply;
    backup_config(BackupConfigRequest) -> BackupConfigReply;
    set_volume(SetVolumeRequest) -> ChangeReply;
    move_volume(MoveVolumeRequest) -> ChangeReply;
    take_volume(TakeVolumeRequest) -> ChangeReply;
    prepare_vms(PrepareVmsRequest) -> ChangeReply;
    why_volume(WhyVolumeRequest) -> WhyVolumeReply;
    list_hosts(ListHostsRequest) -> ListHostsReply;
    list_audit(ListAuditRequest) -> ListAuditReply;
    show_work(ShowWorkRequest) -> ShowWorkReply;
    list_works(ListWorksRequest) -> ListWorksReply;
    doctor(DoctorRequest) -> DoctorReply;
    repair(RepairRequest) -> RepairReply;
    fsck(FsckRequest) -> FsckReply;
}

/// A running agent; it ends with the test's process.
pub(super) struct World {
    dir: TempDir,
    agent: FakeAgent,
}

impl World {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = FakeAgent::default();
        let (path, service) = (dir.path().join("admin.sock"), agent.clone());
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(path).unwrap();
                ready.send(()).unwrap();
                server()
                    .serve_with_incoming(
                        AdminServiceServer::new(service),
                        UnixListenerStream::new(listener),
                    )
                    .await
                    .unwrap();
            });
        });
        is_ready.recv_timeout(Duration::from_secs(30)).unwrap();
        Self { dir, agent }
    }

    pub(super) fn connection(&self) -> Connection {
        Connection::to(self.dir.path().join("admin.sock"))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What was asked since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        take(&mut *self.agent.asked.lock().unwrap())
    }
}
