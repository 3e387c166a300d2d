//! The program as an administrator runs it, against an agent that answers from a table.
#![expect(clippy::unwrap_used, reason = "a test: a failure here is the report")]

use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::runtime::Builder;
use tokio::time::sleep;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, async_trait};
use vdvs_api::status::from_error;
use vdvs_api::v1;
use vdvs_api::v1::admin_service_server::{AdminService, AdminServiceServer};
use vdvs_domain::Error;
use vdvs_transport::grpc::server;

const ID: &str = "0192aaaa-bbbb-7ccc-8ddd-eeee12345678";

/// Answers from a table and notes what it was asked to remove.
#[derive(Debug, Clone, Default)]
struct FakeAgent {
    removed: Arc<Mutex<Vec<(String, String)>>>,
}

fn volume() -> v1::AdminVolume {
    v1::AdminVolume {
        volume: Some(v1::Volume {
            id: ID.into(),
            name: "postgres_vol".into(),
            datastore: "vsanDatastore".into(),
            group: "_DEFAULT".into(),
            capacity_bytes: 1 << 30,
            allocated_bytes: 47 << 20,
            fstype: "ext4".into(),
            filesystem: v1::FilesystemState::Never.into(),
            layout: v1::Layout::Data.into(),
            created_unix_ms: 1_700_000_000_000,
            state: "free".into(),
            ..v1::Volume::default()
        }),
        attention: "look at it".into(),
        disk_path: "dockvols/x/postgres_vol.12345678.vmdk".into(),
        ..v1::AdminVolume::default()
    }
}

fn not_found(address: &str) -> Status {
    from_error(&Error::VolumeNotFound {
        address: address.to_owned(),
        looked_on: "vsanDatastore".to_owned(),
    })
}

#[async_trait]
impl AdminService for FakeAgent {
    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        Ok(Response::new(v1::StatusReply {
            program: "vdvsd 0.1.0".into(),
            host_name: "esx01".into(),
            warnings: vec!["something to read".into()],
            ..v1::StatusReply::default()
        }))
    }

    async fn list_all_volumes(
        &self,
        _: Request<v1::ListAllVolumesRequest>,
    ) -> Result<Response<v1::ListAllVolumesReply>, Status> {
        Ok(Response::new(v1::ListAllVolumesReply {
            volumes: vec![volume()],
            unreadable_datastores: vec!["nfs".into()],
        }))
    }

    async fn inspect_volume(
        &self,
        request: Request<v1::InspectVolumeRequest>,
    ) -> Result<Response<v1::InspectVolumeReply>, Status> {
        let address = request.into_inner().address;
        if address == "slow" {
            sleep(Duration::from_secs(60)).await;
        }
        if address != "postgres_vol" {
            return Err(not_found(&address));
        }
        Ok(Response::new(v1::InspectVolumeReply {
            volume: Some(volume()),
            record_json: r#"{"format":1}"#.into(),
        }))
    }

    async fn remove_volume(
        &self,
        request: Request<v1::RemoveVolumeRequest>,
    ) -> Result<Response<v1::RemoveVolumeReply>, Status> {
        let request = request.into_inner();
        if request.address == "none" {
            return Err(not_found("none"));
        }
        if request.address == "lost" {
            return Err(Status::unavailable("gone in the middle"));
        }
        let head = request.head.unwrap().request_id;
        self.removed.lock().unwrap().push((request.address, head));
        Ok(Response::new(v1::RemoveVolumeReply {
            id: ID.into(),
            full_name: "postgres_vol@vsanDatastore".into(),
        }))
    }

    async fn list_vms(
        &self,
        _: Request<v1::ListVmsRequest>,
    ) -> Result<Response<v1::ListVmsReply>, Status> {
        Ok(Response::new(v1::ListVmsReply {
            vms: vec![v1::AdminVm {
                name: "swarm01".into(),
                power: "on".into(),
                ..v1::AdminVm::default()
            }],
        }))
    }

    async fn list_datastores(
        &self,
        _: Request<v1::ListDatastoresRequest>,
    ) -> Result<Response<v1::ListDatastoresReply>, Status> {
        Ok(Response::new(v1::ListDatastoresReply {
            datastores: vec![v1::Datastore {
                name: "vsanDatastore".into(),
                r#type: "vsan".into(),
                accessible: true,
                capacity_bytes: 1 << 40,
                ..v1::Datastore::default()
            }],
        }))
    }

    async fn list_groups(
        &self,
        _: Request<v1::ListGroupsRequest>,
    ) -> Result<Response<v1::ListGroupsReply>, Status> {
        Err(Status::unimplemented("list_groups"))
    }

    async fn change_group(
        &self,
        _: Request<v1::ChangeGroupRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        Err(Status::unimplemented("change_group"))
    }

    async fn list_policies(
        &self,
        _: Request<v1::ListPoliciesRequest>,
    ) -> Result<Response<v1::ListPoliciesReply>, Status> {
        Err(Status::unimplemented("list_policies"))
    }

    async fn change_policy(
        &self,
        _: Request<v1::ChangePolicyRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        Err(Status::unimplemented("change_policy"))
    }

    async fn show_config(
        &self,
        _: Request<v1::ShowConfigRequest>,
    ) -> Result<Response<v1::ShowConfigReply>, Status> {
        Err(Status::unimplemented("show_config"))
    }

    async fn config_history(
        &self,
        _: Request<v1::ConfigHistoryRequest>,
    ) -> Result<Response<v1::ConfigHistoryReply>, Status> {
        Err(Status::unimplemented("config_history"))
    }

    async fn change_config(
        &self,
        _: Request<v1::ChangeConfigRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        Err(Status::unimplemented("change_config"))
    }

    async fn backup_config(
        &self,
        _: Request<v1::BackupConfigRequest>,
    ) -> Result<Response<v1::BackupConfigReply>, Status> {
        Err(Status::unimplemented("backup_config"))
    }

    async fn set_volume(
        &self,
        _: Request<v1::SetVolumeRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        Err(Status::unimplemented("set_volume"))
    }

    async fn move_volume(
        &self,
        _: Request<v1::MoveVolumeRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        Err(Status::unimplemented("move_volume"))
    }

    async fn take_volume(
        &self,
        _: Request<v1::TakeVolumeRequest>,
    ) -> Result<Response<v1::ChangeReply>, Status> {
        Err(Status::unimplemented("take_volume"))
    }

    async fn why_volume(
        &self,
        _: Request<v1::WhyVolumeRequest>,
    ) -> Result<Response<v1::WhyVolumeReply>, Status> {
        Err(Status::unimplemented("why_volume"))
    }

    async fn list_hosts(
        &self,
        _: Request<v1::ListHostsRequest>,
    ) -> Result<Response<v1::ListHostsReply>, Status> {
        Err(Status::unimplemented("list_hosts"))
    }

    async fn list_audit(
        &self,
        _: Request<v1::ListAuditRequest>,
    ) -> Result<Response<v1::ListAuditReply>, Status> {
        Err(Status::unimplemented("list_audit"))
    }

    async fn show_work(
        &self,
        _: Request<v1::ShowWorkRequest>,
    ) -> Result<Response<v1::ShowWorkReply>, Status> {
        Err(Status::unimplemented("show_work"))
    }

    async fn list_works(
        &self,
        _: Request<v1::ListWorksRequest>,
    ) -> Result<Response<v1::ListWorksReply>, Status> {
        Err(Status::unimplemented("list_works"))
    }
}

/// A running fake agent; it ends with the test's process.
struct World {
    dir: TempDir,
    agent: FakeAgent,
}

impl World {
    fn start() -> Self {
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
                    .add_service(AdminServiceServer::new(service))
                    .serve_with_incoming(UnixListenerStream::new(listener))
                    .await
                    .unwrap();
            });
        });
        is_ready.recv_timeout(Duration::from_secs(30)).unwrap();
        Self { dir, agent }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    fn vdvs(&self, line: &str) -> Ran {
        vdvs(&self.socket(), line)
    }

    fn removed(&self) -> Vec<String> {
        let removed = self.agent.removed.lock().unwrap();
        removed.iter().map(|(address, _)| address.clone()).collect()
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program under test, without a shell"
)]
fn vdvs(socket: &Path, line: &str) -> Ran {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_vdvs"))
        .args(line.split_whitespace())
        .env("VDVS_ADMIN_SOCKET", socket)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ran {
        code: status.code().unwrap(),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

fn no_agent() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    (dir, socket)
}

#[test]
fn every_list_prints_a_table_and_the_same_as_json() {
    let world = World::start();
    for (verb, shown, key) in [
        ("status", "vdvsd 0.1.0", "/program"),
        ("volume ls", "postgres_vol !", "/volumes/0/name"),
        (
            "volume inspect postgres_vol",
            "postgres_vol@vsanDatastore",
            "/record/format",
        ),
        ("vm ls", "swarm01", "/0/name"),
        ("datastore ls", "vsanDatastore", "/0/capacity_bytes"),
    ] {
        let table = world.vdvs(verb);
        assert_eq!((table.code, table.err.as_str()), (0, ""), "{verb}");
        assert!(table.out.contains(shown), "{verb}: {}", table.out);
        assert!(
            !table.out.contains('\u{1b}'),
            "{verb}: no colours in a pipe"
        );
        let json = world.vdvs(&format!("{verb} --output json"));
        assert_eq!((json.code, json.err.as_str()), (0, ""), "{verb}");
        let value: Value = serde_json::from_str(&json.out).unwrap();
        assert!(value.pointer(key).is_some(), "{verb}: {}", json.out);
    }
}

#[test]
fn what_needs_attention_is_marked_with_its_reason() {
    let world = World::start();
    let ran = world.vdvs("volume ls");
    assert!(ran.out.contains("! postgres_vol@vsanDatastore: look at it"));
    assert!(ran.out.contains("! datastore nfs cannot be read now"));
}

#[test]
fn an_agents_refusal_keeps_its_text_and_its_exit_code() {
    let world = World::start();
    let ran = world.vdvs("volume inspect none");
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    assert!(
        ran.err.starts_with("vdvs: Volume none not found"),
        "{}",
        ran.err
    );
    let ran = world.vdvs("volume inspect none -o json");
    assert_eq!((ran.code, ran.out.as_str()), (3, ""));
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!(error.pointer("/error/reason").unwrap(), "NOT_FOUND");
    assert_eq!(error.pointer("/error/exit_code").unwrap(), 3);
}

#[test]
fn nothing_is_removed_without_yes_when_nobody_can_be_asked() {
    let world = World::start();
    let ran = world.vdvs("volume rm postgres_vol");
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("--yes"), "{}", ran.err);
    assert!(world.removed().is_empty());
}

#[test]
fn with_yes_the_volume_is_removed_under_a_fresh_request_id_each_time() {
    let world = World::start();
    for _ in 0..2 {
        let ran = world.vdvs("volume rm --yes postgres_vol");
        assert_eq!((ran.code, ran.err.as_str()), (0, ""));
        assert_eq!(ran.out, "removed postgres_vol@vsanDatastore\n");
    }
    assert_eq!(world.removed(), ["postgres_vol", "postgres_vol"]);
    let asked = world.agent.removed.lock().unwrap().clone();
    let ids: Vec<_> = asked.iter().map(|(_, id)| id).collect();
    assert_ne!(ids.first(), ids.last());
    assert_eq!(world.vdvs("volume rm --yes none").code, 3);
}

#[test]
fn a_remove_without_an_answer_says_that_the_outcome_is_not_known() {
    let world = World::start();
    let ran = world.vdvs("volume rm --yes lost");
    assert_eq!(ran.code, 7);
    assert!(
        ran.err.contains("is not known: see vdvs volume ls"),
        "{}",
        ran.err
    );
}

#[test]
fn an_agent_that_does_not_answer_in_time_is_exit_code_7() {
    let world = World::start();
    let ran = world.vdvs("volume inspect slow --timeout 1");
    assert_eq!(ran.code, 7);
    assert!(ran.err.contains("did not answer in time"), "{}", ran.err);
}

#[test]
fn without_an_agent_the_error_says_what_to_do() {
    let (_dir, socket) = no_agent();
    let ran = vdvs(&socket, "status");
    assert_eq!((ran.code, ran.out.as_str()), (7, ""));
    assert!(ran.err.contains("the agent does not run"), "{}", ran.err);
    assert!(ran.err.contains("Start vdvsd"), "{}", ran.err);
    let json = vdvs(&socket, "volume ls --output json");
    let error: Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!(error.pointer("/error/reason").unwrap(), "UNAVAILABLE");
}

#[test]
fn a_socket_that_an_agent_left_behind_is_told_apart() {
    let (_dir, socket) = no_agent();
    drop(StdListener::bind(&socket).unwrap());
    let ran = vdvs(&socket, "status");
    assert_eq!(ran.code, 7);
    assert!(ran.err.contains("nobody listens on"), "{}", ran.err);
}

#[test]
fn help_and_version_need_no_agent_and_mistakes_are_exit_code_2() {
    let (_dir, socket) = no_agent();
    for line in ["--help", "volume --help", "volume rm --help", "--version"] {
        let ran = vdvs(&socket, line);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
        assert!(ran.out.contains("vdvs"), "{line}");
    }
    for line in ["volume", "volume rm", "volumes ls", "status --output xml"] {
        assert_eq!(vdvs(&socket, line).code, 2, "{line}");
    }
}
