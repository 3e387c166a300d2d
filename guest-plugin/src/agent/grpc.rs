//! The agent over gRPC: one long-lived connection, made again whenever it is lost.
//!
//! ```text
//!   Down ──Hello answered──► Up ──the Watch stream ends──► Down, wait (jittered, growing), Hello again
//! ```
//! Calls do not wait for the keeper of this connection: each tries at once, and repeats itself with the same request
//! id until its deadline while no answer came. A status that no agent wrote is never an answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tracing::{debug, info, warn};
use uuid::Uuid;
use vdvs_api::v1::volume_service_client::VolumeServiceClient;
use vdvs_api::{RemoteError, model, v1, version, volume_client};
use vdvs_domain::{Epoch, ErrorKind, RequestId, VolumeId};
use vdvs_transport::{Address, Backoff, channel};

use super::{
    Agent, AgentError, Answer, Attached, Attachment, InventoryAnswer, InventoryItem, Link, Listing,
    Notice, Silence, Volume, unreachable,
};
use crate::clock::fresh_request;

/// Between two tries to reach an agent: it restarts within two seconds, and a guest is not alone.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// For Hello: the agent answers from memory.
const HELLO_TIME: Duration = Duration::from_secs(10);

/// Notices not taken yet; the service takes them at once.
const NOTICES: usize = 64;

type Client = VolumeServiceClient<Channel>;

/// The agent behind an address.
#[derive(Debug)]
pub struct GrpcAgent {
    address: Address,
    client: Client,
    link: watch::Sender<Link>,
    notices: Mutex<Option<mpsc::Receiver<Notice>>>,
}

/// What keeps the connection; to be run until the program ends.
#[derive(Debug)]
pub struct Keeper {
    agent: Arc<GrpcAgent>,
    notices: mpsc::Sender<Notice>,
}

impl GrpcAgent {
    /// A client for this address. Connects when [`Keeper::run`] runs or a call is made; needs a runtime.
    #[must_use]
    pub fn new(address: Address) -> (Arc<Self>, Keeper) {
        let (tell, notices) = mpsc::channel(NOTICES);
        let agent = Arc::new(Self {
            client: volume_client(channel(address.clone())),
            address,
            link: watch::Sender::new(Link::Down {
                why: "not connected yet".into(),
            }),
            notices: Mutex::new(Some(notices)),
        });
        let keeper = Keeper {
            agent: Arc::clone(&agent),
            notices: tell,
        };
        (agent, keeper)
    }

    /// Calls until an answer or the deadline.
    async fn call<T, F>(
        &self,
        what: &'static str,
        deadline: Instant,
        mut send: impl FnMut(Client, Duration) -> F,
    ) -> Answer<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let begun = Instant::now();
        let mut pause = backoff();
        let mut heard = false;
        let mut last: Option<String> = None;
        let silent = |why: String, heard: bool| {
            AgentError::Away(Silence {
                why,
                heard,
                waited: begun.elapsed(),
            })
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let sent = send(self.client.clone(), left);
            let Ok(answer) = timeout_at(deadline, sent).await else {
                // The request itself may be what was not answered.
                let why = last.unwrap_or_else(|| format!("no answer to {what} in time"));
                return Err(silent(why, true));
            };
            let status = match answer {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => status,
            };
            let refused = unreachable(&status, &self.address);
            heard |= refused.is_none();
            let error = RemoteError::from(status);
            if !error.transport {
                return Err(AgentError::Said {
                    kind: error.kind,
                    text: error.text,
                });
            }
            let why = refused.unwrap_or(error.text);
            let passes = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Timeout);
            let delay = pause.next_delay();
            if !passes || Instant::now() + delay >= deadline {
                return Err(silent(why, heard));
            }
            debug!(what, %why, "asked again");
            last = Some(why);
            sleep(delay).await;
        }
    }

    /// Why there is no connection.
    fn why(&self, status: Status) -> String {
        unreachable(&status, &self.address).unwrap_or_else(|| RemoteError::from(status).text)
    }
}

fn backoff() -> Backoff {
    let (seed, _) = Uuid::new_v4().as_u64_pair();
    Backoff::new(FIRST_PAUSE, LONGEST_PAUSE, seed)
}

fn timed<T>(message: T, left: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    request
}

fn head(request: RequestId) -> Option<v1::RequestHead> {
    let request_id = request.to_string();
    Some(v1::RequestHead { request_id })
}

/// An answer that makes no sense is no answer: what happened is not known.
fn nonsense(error: impl Into<RemoteError>) -> AgentError {
    AgentError::Away(Silence {
        why: error.into().text,
        heard: true,
        waited: Duration::ZERO,
    })
}

impl Keeper {
    /// Keeps the connection until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = backoff();
        let mut said = false;
        loop {
            let ended = tokio::select! {
                ended = self.connection(&mut pause) => ended,
                () = stop.cancelled() => return,
            };
            let was_up = self.agent.link.borrow().is_up();
            if was_up || !said {
                warn!(why = %ended, "no agent; the journal answers");
                said = true;
            } else {
                debug!(why = %ended, "no agent");
            }
            self.agent.link.send_replace(Link::Down { why: ended });
            tokio::select! {
                () = sleep(pause.next_delay()) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One connection, from Hello to its end; returns why it ended.
    async fn connection(&self, pause: &mut Backoff) -> String {
        let hello = v1::HelloRequest {
            versions: Some(version::SUPPORTED.into()),
            program: format!("vdvs-plugin {}", env!("CARGO_PKG_VERSION")),
            features: Vec::new(),
        };
        let mut client = self.agent.client.clone();
        let answer = match timeout(HELLO_TIME, client.hello(timed(hello, HELLO_TIME))).await {
            Err(_) => return "no answer to Hello in time".into(),
            Ok(Err(status)) => return self.agent.why(status),
            Ok(Ok(reply)) => match model::HelloAnswer::try_from(reply.into_inner()) {
                Ok(answer) => answer,
                Err(e) => return e.to_string(),
            },
        };
        let mut notices = match client.watch(v1::WatchRequest {}).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return self.agent.why(status),
        };
        info!(
            host = %answer.host_name, vm = %answer.vm_name, agent = %answer.program,
            "connected to the agent"
        );
        self.agent.link.send_replace(Link::Up {
            vm_name: answer.vm_name,
            vm_uuid: answer.vm_uuid.to_string(),
            host: answer.host_name,
        });
        pause.reset();
        loop {
            match notices.message().await {
                Ok(Some(wire)) => {
                    let Some(notice) = notice(wire) else {
                        continue;
                    };
                    if self.notices.send(notice).await.is_err() {
                        return "nobody takes notices".into();
                    }
                }
                Ok(None) => return "the agent ended the connection".into(),
                Err(status) => return self.agent.why(status),
            }
        }
    }
}

/// A notice this version does not know is skipped, as is one that makes no sense: the inventory tells the same.
fn notice(wire: v1::Notice) -> Option<Notice> {
    match model::Notice::read(wire) {
        Ok(Some(model::Notice::Wanted { volume, by_vm })) => Some(Notice::Wanted { volume, by_vm }),
        Ok(Some(model::Notice::Superseded { volume, epoch })) => {
            Some(Notice::Superseded { volume, epoch })
        }
        Ok(None) => None,
        Err(e) => {
            warn!(error = %e, "a notice of the agent makes no sense");
            None
        }
    }
}

impl From<model::Volume> for Volume {
    fn from(wire: model::Volume) -> Self {
        let attachment = wire.attachment().map(|a| Attachment {
            vm: a.vm_name.clone(),
            vm_uuid: a.vm_uuid.to_string(),
            locator: a.locator.clone(),
        });
        Self {
            id: wire.id,
            state: wire.state.word().to_owned(),
            name: wire.name,
            datastore: wire.datastore,
            group: wire.group.to_string(),
            capacity: wire.capacity.bytes(),
            allocated: wire.allocated_bytes,
            filesystem: wire.filesystem,
            layout: wire.layout,
            options: wire.options,
            created: wire.created_at,
            created_by: wire.created_by.unwrap_or_default(),
            attachment,
            epoch: wire.epoch,
            waiting: wire.waiting.unwrap_or_default(),
        }
    }
}

#[async_trait]
impl Agent for GrpcAgent {
    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        self.notices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    async fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
        deadline: Instant,
    ) -> Answer<(Volume, bool)> {
        let message = v1::CreateVolumeRequest {
            head: head(fresh_request()),
            name: name.to_owned(),
            options: options.clone().into_iter().collect(),
        };
        let reply = self
            .call("create", deadline, |mut client, left| {
                let message = message.clone();
                async move { client.create_volume(timed(message, left)).await }
            })
            .await?;
        let created = reply.created;
        let volume = model::Volume::try_from(reply).map_err(nonsense)?;
        Ok((volume.into(), created))
    }

    async fn delete(&self, name: &str, volume: VolumeId, deadline: Instant) -> Answer<()> {
        let message = v1::DeleteVolumeRequest {
            head: head(fresh_request()),
            name: name.to_owned(),
            volume_id: volume.to_string(),
        };
        let mut asked = 0u32;
        let answer = self
            .call("delete", deadline, |mut client, left| {
                asked = asked.saturating_add(1);
                let message = message.clone();
                async move { client.delete_volume(timed(message, left)).await }
            })
            .await;
        match answer {
            // An agent ended between removing the record, and with it the request's result, and its answer; or another
            // one finished what it had begun, and this one does not know the request. The volume is gone either way.
            Err(AgentError::Said {
                kind: ErrorKind::NotFound,
                ..
            }) if asked > 1 => Ok(()),
            other => other.map(drop),
        }
    }

    async fn get(&self, name: &str, deadline: Instant) -> Answer<Volume> {
        let message = v1::GetVolumeRequest {
            name: name.to_owned(),
        };
        let reply = self
            .call("get", deadline, |mut client, left| {
                let message = message.clone();
                async move { client.get_volume(timed(message, left)).await }
            })
            .await?;
        let volume = model::Volume::try_from(reply).map_err(nonsense)?;
        Ok(volume.into())
    }

    async fn list(&self, deadline: Instant) -> Answer<Listing> {
        let reply = self
            .call("list", deadline, |mut client, left| async move {
                client
                    .list_volumes(timed(v1::ListVolumesRequest {}, left))
                    .await
            })
            .await?;
        let listing = model::Listing::try_from(reply).map_err(nonsense)?;
        Ok(Listing {
            volumes: listing.volumes.into_iter().map(Volume::from).collect(),
            unreadable: listing.unreadable.iter().map(ToString::to_string).collect(),
        })
    }

    async fn attach(
        &self,
        name: &str,
        read_only: bool,
        wait_ms: u64,
        deadline: Instant,
    ) -> Answer<Attached> {
        let begun = Instant::now();
        let mut message = v1::AttachVolumeRequest {
            head: head(fresh_request()),
            name: name.to_owned(),
            read_only,
            wait_budget_ms: wait_ms,
        };
        let reply = self
            .call("attach", deadline, |mut client, left| {
                // A retry waits for what is left of the wait.
                let spent = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                message.wait_budget_ms = wait_ms.saturating_sub(spent);
                let message = message.clone();
                async move { client.attach_volume(timed(message, left)).await }
            })
            .await?;
        let attached = model::Attached::try_from(reply).map_err(nonsense)?;
        Ok(Attached {
            volume: attached.volume.into(),
            epoch: attached.epoch,
            locator: attached.locator,
            disk_uuid: attached.disk_uuid,
        })
    }

    async fn detach(&self, volume: VolumeId, epoch: Epoch, deadline: Instant) -> Answer<bool> {
        let message = v1::DetachVolumeRequest {
            head: head(fresh_request()),
            volume_id: volume.to_string(),
            epoch: epoch.number(),
        };
        let reply = self
            .call("detach", deadline, |mut client, left| {
                let message = message.clone();
                async move { client.detach_volume(timed(message, left)).await }
            })
            .await?;
        Ok(reply.changed)
    }

    async fn begin_format(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        deadline: Instant,
    ) -> Answer<Uuid> {
        let message = v1::BeginFormatRequest {
            head: head(fresh_request()),
            volume_id: volume.to_string(),
            epoch: epoch.number(),
        };
        let reply = self
            .call("begin format", deadline, |mut client, left| {
                let message = message.clone();
                async move { client.begin_format(timed(message, left)).await }
            })
            .await?;
        Uuid::try_from(reply).map_err(nonsense)
    }

    async fn finish_format(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        uuid: Uuid,
        deadline: Instant,
    ) -> Answer<()> {
        let message = v1::FinishFormatRequest {
            head: head(fresh_request()),
            volume_id: volume.to_string(),
            epoch: epoch.number(),
            filesystem_uuid: uuid.to_string(),
        };
        self.call("finish format", deadline, |mut client, left| {
            let message = message.clone();
            async move { client.finish_format(timed(message, left)).await }
        })
        .await
        .map(drop)
    }

    async fn report_inventory(
        &self,
        items: &[InventoryItem],
        deadline: Instant,
    ) -> Answer<InventoryAnswer> {
        let items = items.iter().map(|item| model::InventoryItem {
            volume: item.volume,
            epoch: item.epoch,
            mounted: item.mounted,
        });
        let message = v1::ReportInventoryRequest::from(model::Inventory {
            items: items.collect(),
        });
        let reply = self
            .call("inventory", deadline, |mut client, left| {
                let message = message.clone();
                async move { client.report_inventory(timed(message, left)).await }
            })
            .await?;
        let answer = model::InventoryAnswer::try_from(reply).map_err(nonsense)?;
        Ok(InventoryAnswer {
            attached: answer.attached.into_iter().map(Volume::from).collect(),
            superseded: answer.superseded,
            wanted: answer.wanted,
        })
    }
}
