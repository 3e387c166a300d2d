//! The agent's client against a server in this process: what is repeated, with which request id, and what is an answer.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a failure here is the report"
)]

use std::fs::remove_file;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use vdvs_api::listing::ListVolumesReply;
use vdvs_api::status::from_error;
use vdvs_api::v1;
use vdvs_api::v1::volume_service_server::{VolumeService, VolumeServiceServer};
use vdvs_domain::{DatastoreName, Epoch, Error, ErrorKind, VolumeId};
use vdvs_plugin::agent::{Agent, AgentError, GrpcAgent, Link, Notice};
use vdvs_transport::Address;
use vdvs_transport::grpc::server;

const ID: &str = "0192aaaa-bbbb-7ccc-8ddd-eeee12345678";

#[derive(Debug, Default)]
struct Seen {
    ids: Vec<String>,
    waits: Vec<u64>,
    /// Volumes that were to be removed.
    meant: Vec<String>,
}

#[derive(Debug, Default)]
struct Fake {
    seen: Mutex<Seen>,
    /// So many calls end without an answer of the agent's.
    broken: AtomicU32,
    /// The volume to be removed does not bear that name any more.
    passed_on: AtomicBool,
    watch: Mutex<Option<mpsc::Sender<Result<v1::Notice, Status>>>>,
}

impl Fake {
    /// A status that no agent's use case made.
    fn broken(&self) -> Result<(), Status> {
        let left = self.broken.load(Ordering::SeqCst);
        if left == 0 {
            return Ok(());
        }
        self.broken.store(left - 1, Ordering::SeqCst);
        Err(Status::unavailable("the proxy fell over"))
    }

    fn note(&self, head: Option<v1::RequestHead>) {
        self.seen.lock().unwrap().ids.push(head.unwrap().request_id);
    }
}

/// Its own type: the trait cannot be implemented for a shared one.
#[derive(Debug, Clone)]
struct Shared(Arc<Fake>);

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl VolumeService for Shared {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::Notice, Status>> + Send>>;

    async fn hello(&self, _: Request<v1::HelloRequest>) -> Reply<v1::HelloReply> {
        Ok(Response::new(v1::HelloReply {
            version: 1,
            versions: Some(v1::VersionRange { min: 1, max: 1 }),
            program: "fake".into(),
            features: Vec::new(),
            vm_name: "swarm01".into(),
            vm_uuid: ID.into(),
            host_name: "esx01".into(),
            clock_unix_ms: 0,
        }))
    }

    async fn create_volume(
        &self,
        _: Request<v1::CreateVolumeRequest>,
    ) -> Reply<v1::CreateVolumeReply> {
        Err(Status::unimplemented(""))
    }

    async fn delete_volume(
        &self,
        request: Request<v1::DeleteVolumeRequest>,
    ) -> Reply<v1::DeleteVolumeReply> {
        let request = request.into_inner();
        self.0.note(request.head);
        self.0.seen.lock().unwrap().meant.push(request.volume_id);
        self.0.broken()?;
        if self.0.passed_on.load(Ordering::SeqCst) {
            return Err(from_error(&not_found(request.name)));
        }
        Ok(Response::new(v1::DeleteVolumeReply { id: ID.into() }))
    }

    async fn get_volume(
        &self,
        request: Request<v1::GetVolumeRequest>,
    ) -> Reply<v1::GetVolumeReply> {
        self.0.broken()?;
        let name = request.into_inner().name;
        if name == "bare" {
            return Err(Status::not_found("no route"));
        }
        Err(from_error(&not_found(name)))
    }

    async fn list_volumes(&self, _: Request<v1::ListVolumesRequest>) -> Reply<ListVolumesReply> {
        Ok(Response::new(ListVolumesReply::default()))
    }

    async fn attach_volume(
        &self,
        request: Request<v1::AttachVolumeRequest>,
    ) -> Reply<v1::AttachVolumeReply> {
        let message = request.into_inner();
        self.0
            .seen
            .lock()
            .unwrap()
            .waits
            .push(message.wait_budget_ms);
        self.0.note(message.head);
        self.0.broken()?;
        Ok(Response::new(v1::AttachVolumeReply::default()))
    }

    async fn detach_volume(
        &self,
        _: Request<v1::DetachVolumeRequest>,
    ) -> Reply<v1::DetachVolumeReply> {
        sleep(Duration::from_secs(3600)).await;
        Err(Status::internal(""))
    }

    async fn begin_format(
        &self,
        _: Request<v1::BeginFormatRequest>,
    ) -> Reply<v1::BeginFormatReply> {
        Err(Status::unimplemented(""))
    }

    async fn finish_format(
        &self,
        _: Request<v1::FinishFormatRequest>,
    ) -> Reply<v1::FinishFormatReply> {
        Err(Status::unimplemented(""))
    }

    async fn report_inventory(
        &self,
        _: Request<v1::ReportInventoryRequest>,
    ) -> Reply<v1::ReportInventoryReply> {
        Err(Status::unimplemented(""))
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Reply<Self::WatchStream> {
        let (tell, notices) = mpsc::channel(4);
        *self.0.watch.lock().unwrap() = Some(tell);
        Ok(Response::new(Box::pin(ReceiverStream::new(notices))))
    }
}

struct Serving {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn serve(path: &Path, fake: &Arc<Fake>) -> Serving {
    drop(remove_file(path));
    let listener = UnixListener::bind(path).unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let service = VolumeServiceServer::new(Shared(Arc::clone(fake)));
    let task = TaskTracker::new().spawn(async move {
        // Ends at once, as a killed agent does: connections are cut, not drained.
        tokio::select! {
            served = server().serve_with_incoming(service, UnixListenerStream::new(listener)) => served.unwrap(),
            _ = ended => {}
        }
    });
    Serving { end, task }
}

impl Serving {
    async fn kill(self) {
        self.end.send(()).unwrap();
        self.task.await.unwrap();
    }
}

fn not_found(address: String) -> Error {
    Error::VolumeNotFound {
        address,
        looked_on: DatastoreName::new("ds").unwrap().to_string(),
    }
}

fn id() -> VolumeId {
    VolumeId::new(ID.parse().unwrap())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn a_call_without_an_answer_is_repeated_with_the_same_request_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1019");
    let fake = Arc::new(Fake::default());
    let _serving = serve(&path, &fake);
    let (agent, _keeper) = GrpcAgent::new(Address::Unix(path));
    fake.broken.store(2, Ordering::SeqCst);
    agent.delete("v", id(), soon()).await.unwrap();
    agent.delete("v", id(), soon()).await.unwrap();
    let ids = fake.seen.lock().unwrap().ids.clone();
    assert_eq!(ids.len(), 4);
    assert!(
        ids.windows(2).take(2).all(|two| two.first() == two.last()),
        "{ids:?}"
    );
    assert_ne!(ids.get(2), ids.get(3));
}

/// An agent that does not know the request may be asked again when the name is another volume's: it can tell.
#[tokio::test]
async fn every_repetition_of_a_removal_says_which_volume_and_one_that_finds_it_gone_was_a_success()
{
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1019");
    let fake = Arc::new(Fake::default());
    let _serving = serve(&path, &fake);
    let (agent, _keeper) = GrpcAgent::new(Address::Unix(path));
    fake.passed_on.store(true, Ordering::SeqCst);
    let said = agent.delete("v", id(), soon()).await.unwrap_err();
    assert_eq!(said.kind(), Some(ErrorKind::NotFound), "asked once");
    fake.broken.store(2, Ordering::SeqCst);
    agent.delete("v", id(), soon()).await.unwrap();
    assert_eq!(fake.seen.lock().unwrap().meant, [ID; 4]);
}

#[tokio::test]
async fn a_repeated_attach_waits_only_for_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1019");
    let fake = Arc::new(Fake::default());
    let _serving = serve(&path, &fake);
    let (agent, _keeper) = GrpcAgent::new(Address::Unix(path));
    fake.broken.store(3, Ordering::SeqCst);
    // The fake's answer has no volume: that makes no sense, so nothing is known.
    let error = agent.attach("v", false, 60_000, soon()).await.unwrap_err();
    assert!(matches!(error, AgentError::Away(_)), "{error:?}");
    let waits = fake.seen.lock().unwrap().waits.clone();
    assert_eq!(waits.len(), 4);
    assert!(
        waits.is_sorted_by(|a, b| a >= b) && waits.first() > waits.last(),
        "{waits:?}"
    );
}

#[tokio::test]
async fn only_a_status_with_a_reason_is_an_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1019");
    let fake = Arc::new(Fake::default());
    let _serving = serve(&path, &fake);
    let (agent, _keeper) = GrpcAgent::new(Address::Unix(path));
    let said = agent.get("v", soon()).await.unwrap_err();
    assert_eq!(said.kind(), Some(ErrorKind::NotFound));
    let end = Instant::now() + Duration::from_millis(500);
    let bare = agent.get("bare", end).await.unwrap_err();
    assert!(matches!(bare, AgentError::Away(_)), "{bare:?}");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_whether_or_not_anybody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1019");
    let (agent, _keeper) = GrpcAgent::new(Address::Unix(path.clone()));
    let begun = Instant::now();
    let nobody = agent.get("v", begun + Duration::from_secs(1)).await;
    let Err(AgentError::Away(nobody)) = nobody else {
        panic!("{nobody:?}");
    };
    let listener = format!("nobody listens on unix:{}", path.display());
    assert_eq!((nobody.why, nobody.heard), (listener, false));
    let _serving = serve(&path, &Arc::new(Fake::default()));
    let id = VolumeId::new(ID.parse().unwrap());
    // Time enough to be heard, on a busy machine too.
    let end = Instant::now() + Duration::from_secs(2);
    let silent = agent.detach(id, Epoch::new(1), end);
    let Err(AgentError::Away(silent)) = silent.await else {
        panic!("an answer from nowhere");
    };
    assert!(
        silent.heard,
        "the request may have been the one: {silent:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn the_link_comes_back_with_the_agent_and_notices_flow() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1019");
    let fake = Arc::new(Fake::default());
    let (agent, keeper) = GrpcAgent::new(Address::Unix(path.clone()));
    let stop = CancellationToken::new();
    let running = TaskTracker::new().spawn(keeper.run(stop.clone()));
    let mut link = agent.link();
    let mut notices = agent.notices().unwrap();
    assert!(agent.notices().is_none(), "taken once");
    for round in 1..=2 {
        let serving = serve(&path, &fake);
        let up = timeout(Duration::from_secs(20), link.wait_for(Link::is_up)).await;
        drop(up.unwrap().unwrap());
        let tell = fake.watch.lock().unwrap().clone().unwrap();
        let superseded = v1::Superseded {
            volume_id: ID.into(),
            epoch: round,
        };
        let kind = Some(v1::notice::Kind::Superseded(superseded));
        for wire in [v1::Notice { kind: None }, v1::Notice { kind }] {
            tell.send(Ok(wire)).await.unwrap();
        }
        let got = timeout(Duration::from_secs(20), notices.recv())
            .await
            .unwrap();
        let volume = VolumeId::new(ID.parse().unwrap());
        let epoch = Epoch::new(round);
        assert_eq!(got, Some(Notice::Superseded { volume, epoch }));
        drop(tell);
        *fake.watch.lock().unwrap() = None;
        serving.kill().await;
        let down = timeout(Duration::from_secs(20), link.wait_for(|l| !l.is_up())).await;
        drop(down.unwrap().unwrap());
    }
    stop.cancel();
    running.await.unwrap();
}
