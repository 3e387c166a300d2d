//! The guests' service. Each handler reads its request, runs one use case as the connection's VM, and writes the reply.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::{debug, error, info, warn};
use vdvs_api::listing::{self, Bytes, ListVolumesReply};
use vdvs_api::v1::volume_service_server::VolumeService;
use vdvs_api::{model, status, v1, version};
use vdvs_domain::{Error, ErrorKind, RequestId, VmId};
use vdvs_engine::Engine;
use vdvs_engine::api::{Call, Caller, InventoryItem, Kept, Outcome};
use vdvs_engine::ports::{Clock, HostIdentity};
use vdvs_transport::{Identity, Peer};

use crate::PROGRAM;
use crate::calls::Calls;
use crate::clock::SystemClock;
use crate::guests::{Class, Guests, Places, vm_of};
use crate::view;

/// What else this agent can do, for `Hello`. A feature is a name that a guest may look for; none changes a message.
const FEATURES: [&str; 1] = ["watch"];

/// The guests' service.
#[derive(Debug, Clone)]
pub struct VolumeFront {
    engine: Arc<Engine>,
    guests: Arc<Guests>,
    calls: Calls,
    host: HostIdentity,
    /// Volumes as lists carry them.
    listed: Arc<Kept<Bytes>>,
}

/// A request with everything the transport knows about it.
struct Asked<W> {
    from: From,
    wire: W,
}

/// Who asks, and until when.
#[derive(Clone)]
struct From {
    vm: VmId,
    /// For lines in the log.
    name: String,
    places: Arc<Places>,
    deadline: Instant,
}

impl VolumeFront {
    /// The service over the engine.
    #[must_use]
    pub fn new(engine: Arc<Engine>, guests: Arc<Guests>, calls: Calls, host: HostIdentity) -> Self {
        Self {
            engine,
            guests,
            calls,
            host,
            listed: Arc::default(),
        }
    }

    fn open<W>(&self, request: Request<W>) -> Result<Asked<W>, Status> {
        let nobody = || Error::UnknownCaller {
            why: "the connection came through no VM's socket".to_owned(),
        };
        let identity = request.extensions().get().map(Peer::identity);
        let vm = identity
            .and_then(vm_of)
            .ok_or_else(nobody)
            .map_err(refuse)?;
        let name = match identity {
            Some(Identity::Vm { name, .. }) => name.clone(),
            Some(Identity::Admin | Identity::Unnamed { .. }) | None => String::new(),
        };
        let from = From {
            places: self.guests.places(&vm),
            vm,
            name,
            deadline: Calls::deadline(request.metadata()),
        };
        let wire = request.into_inner();
        Ok(Asked { from, wire })
    }

    /// Runs a use case that only looks.
    async fn look<T, Run>(
        &self,
        verb: &'static str,
        from: &From,
        run: impl FnOnce(Caller) -> Run,
    ) -> Result<T, Status>
    where
        Run: Future<Output = Result<T, Error>>,
    {
        let look = async {
            let caller = caller(&self.engine, &from.vm).await?;
            run(caller).await
        };
        let result = Calls::read(&from.places, from.deadline, look).await;
        if let Err(e) = &result {
            log_refusal(verb, "", from, e);
        }
        result.map_err(refuse)
    }

    /// Runs a use case that changes something, to its end.
    async fn change<T, Run>(
        &self,
        what: Change,
        from: From,
        run: impl FnOnce(Arc<Engine>, Caller, Call) -> Run + Send + 'static,
    ) -> Result<T, Status>
    where
        T: Send + 'static,
        Run: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let engine = Arc::clone(&self.engine);
        let (places, deadline) = (Arc::clone(&from.places), from.deadline);
        let result = self.calls.change(&places, what.class, deadline, |cancel| async move {
            let began = Instant::now();
            let call = Call {
                request: what.request,
                deadline,
                cancel,
            };
            let result = match caller(&engine, &from.vm).await {
                Ok(caller) => run(engine, caller, call).await,
                Err(e) => Err(e),
            };
            // Logged here and not by the handler, which may be gone by now.
            match &result {
                Ok(_) => {
                    info!(vm = %from.name, ms = elapsed_ms(began), "{} {}", what.verb, what.object);
                }
                Err(e) => log_refusal(what.verb, &what.object, &from, e),
            }
            result
        });
        result.await.map_err(refuse)
    }
}

/// A change, for its queue and its line in the log.
struct Change {
    verb: &'static str,
    object: String,
    class: Class,
    request: RequestId,
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

async fn caller(engine: &Engine, vm: &VmId) -> Result<Caller, Error> {
    engine.caller(vm.instance_uuid, &vm.config_path).await
}

/// An error ends here: its caller gets it, the log gets its line, within the VM's share.
fn log_refusal(verb: &str, object: &str, from: &From, e: &Error) {
    let (vm, reason) = (&from.name, e.kind());
    // Docker asks for names that do not exist all day.
    if reason == ErrorKind::NotFound {
        debug!(%vm, %reason, "{verb} {object}: {e}");
        return;
    }
    let Some(folded) = from.places.quiet().may_say() else {
        return;
    };
    match reason {
        ErrorKind::Internal | ErrorKind::Damaged => {
            error!(%vm, %reason, folded, "{verb} {object}: {e}");
        }
        ErrorKind::HostFailed => warn!(%vm, %reason, folded, "{verb} {object}: {e}"),
        _ => info!(%vm, %reason, folded, "{verb} {object}: {e}"),
    }
}

fn refuse(e: Error) -> Status {
    status::from_error(&e)
}

fn read<W, T: TryFrom<W, Error = Error>>(wire: W) -> Result<T, Status> {
    T::try_from(wire).map_err(refuse)
}

type Notices = Pin<Box<dyn Stream<Item = Result<v1::Notice, Status>> + Send>>;

#[tonic::async_trait]
impl VolumeService for VolumeFront {
    async fn hello(
        &self,
        request: Request<v1::HelloRequest>,
    ) -> Result<Response<v1::HelloReply>, Status> {
        let Asked { from, wire } = self.open(request)?;
        let ask: model::Hello = read(wire)?;
        let agreed = version::negotiate(ask.versions, version::SUPPORTED).map_err(refuse)?;
        let caller = self
            .look("hello", &from, |caller| async { Ok(caller) })
            .await?;
        if self.guests.hello(&from.vm, &ask.program) {
            info!(vm = %from.name, program = %ask.program, version = agreed, "hello");
            self.engine.news();
        }
        let answer = model::HelloAnswer {
            version: agreed,
            versions: version::SUPPORTED,
            program: PROGRAM.to_owned(),
            features: FEATURES.map(str::to_owned).into(),
            vm_name: caller.vm.name,
            vm_uuid: caller.vm.id.instance_uuid,
            host_name: self.host.name.clone(),
            clock: Some(SystemClock.now()),
        };
        Ok(Response::new(answer.into()))
    }

    async fn create_volume(
        &self,
        request: Request<v1::CreateVolumeRequest>,
    ) -> Result<Response<v1::CreateVolumeReply>, Status> {
        let Asked { from, wire } = self.open(request)?;
        let ask: model::Create = read(wire)?;
        let what = Change {
            verb: "create",
            object: ask.address.to_string(),
            class: Class::Change,
            request: ask.request,
        };
        let outcome = self
            .change(what, from, move |engine, caller, call| async move {
                engine
                    .create(&caller, &call, &ask.address, &ask.options)
                    .await
            })
            .await?;
        let created = matches!(outcome, Outcome::Created(_));
        let volume = Some(view::volume(outcome.into_inner()).into());
        Ok(Response::new(v1::CreateVolumeReply { volume, created }))
    }

    async fn delete_volume(
        &self,
        request: Request<v1::DeleteVolumeRequest>,
    ) -> Result<Response<v1::DeleteVolumeReply>, Status> {
        let Asked { from, wire } = self.open(request)?;
        let ask: model::Delete = read(wire)?;
        let what = Change {
            verb: "delete",
            object: ask.address.to_string(),
            class: Class::Change,
            request: ask.request,
        };
        let id = self
            .change(what, from, move |engine, caller, call| async move {
                engine
                    .delete(&caller, &call, &ask.address, ask.volume)
                    .await
            })
            .await?;
        Ok(Response::new(v1::DeleteVolumeReply { id: id.to_string() }))
    }

    async fn get_volume(
        &self,
        request: Request<v1::GetVolumeRequest>,
    ) -> Result<Response<v1::GetVolumeReply>, Status> {
        let Asked { from, wire } = self.open(request)?;
        let ask: model::Get = read(wire)?;
        let engine = &self.engine;
        let view = self
            .look("get", &from, |caller| async move {
                engine.get(&caller, &ask.address).await
            })
            .await?;
        let volume = Some(view::volume(view).into());
        Ok(Response::new(v1::GetVolumeReply { volume }))
    }

    async fn list_volumes(
        &self,
        request: Request<v1::ListVolumesRequest>,
    ) -> Result<Response<ListVolumesReply>, Status> {
        let Asked { from, .. } = self.open(request)?;
        let engine = &self.engine;
        let listed = &self.listed;
        let wire = |view| listing::encoded(&v1::Volume::from(view::volume(view)));
        let (encoded, unreadable) = self
            .look("list", &from, |caller| async move {
                engine.list_as(&caller, listed, wire).await
            })
            .await?;
        let unreadable = unreadable.into_iter().map(String::from);
        Ok(Response::new(ListVolumesReply {
            encoded,
            unreadable_datastores: unreadable.collect(),
        }))
    }

    async fn attach_volume(
        &self,
        request: Request<v1::AttachVolumeRequest>,
    ) -> Result<Response<v1::AttachVolumeReply>, Status> {
        let Asked { from, wire } = self.open(request)?;
        let ask: model::Attach = read(wire)?;
        let what = Change {
            verb: "attach",
            object: ask.address.to_string(),
            class: Class::Attach,
            request: ask.request,
        };
        let attached = self
            .change(what, from, move |engine, caller, call| async move {
                engine
                    .attach(&caller, &call, &ask.address, ask.read_only, ask.wait)
                    .await
            })
            .await?;
        Ok(Response::new(view::attached(attached).into()))
    }

    async fn detach_volume(
        &self,
        request: Request<v1::DetachVolumeRequest>,
    ) -> Result<Response<v1::DetachVolumeReply>, Status> {
        let Asked { from, wire } = self.open(request)?;
        let ask: model::Detach = read(wire)?;
        let what = Change {
            verb: "detach",
            object: format!("{} epoch {}", ask.volume, ask.epoch),
            class: Class::Detach,
            request: ask.request,
        };
        let outcome = self
            .change(what, from, move |engine, caller, call| async move {
                engine.detach(&caller, &call, ask.volume, ask.epoch).await
            })
            .await?;
        let changed = outcome.is_change();
        Ok(Response::new(v1::DetachVolumeReply { changed }))
    }

    async fn begin_format(
        &self,
        request: Request<v1::BeginFormatRequest>,
    ) -> Result<Response<v1::BeginFormatReply>, Status> {
        let Asked { from, wire } = self.open(request)?;
        let ask: model::BeginFormat = read(wire)?;
        let what = Change {
            verb: "begin format of",
            object: format!("{} epoch {}", ask.volume, ask.epoch),
            class: Class::Change,
            request: ask.request,
        };
        let uuid = self
            .change(what, from, move |engine, caller, call| async move {
                engine
                    .begin_format(&caller, &call, ask.volume, ask.epoch)
                    .await
            })
            .await?;
        let filesystem_uuid = uuid.to_string();
        Ok(Response::new(v1::BeginFormatReply { filesystem_uuid }))
    }

    async fn finish_format(
        &self,
        request: Request<v1::FinishFormatRequest>,
    ) -> Result<Response<v1::FinishFormatReply>, Status> {
        let Asked { from, wire } = self.open(request)?;
        let ask: model::FinishFormat = read(wire)?;
        let what = Change {
            verb: "finish format of",
            object: format!("{} epoch {}", ask.volume, ask.epoch),
            class: Class::Change,
            request: ask.request,
        };
        self.change(what, from, move |engine, caller, call| async move {
            engine
                .finish_format(&caller, &call, ask.volume, ask.epoch, ask.filesystem)
                .await
        })
        .await?;
        Ok(Response::new(v1::FinishFormatReply {}))
    }

    async fn report_inventory(
        &self,
        request: Request<v1::ReportInventoryRequest>,
    ) -> Result<Response<v1::ReportInventoryReply>, Status> {
        let Asked { from, wire } = self.open(request)?;
        let ask: model::Inventory = read(wire)?;
        let item = |item: &model::InventoryItem| InventoryItem {
            volume: item.volume,
            epoch: item.epoch,
            mounted: item.mounted,
        };
        let items: Vec<_> = ask.items.iter().map(item).collect();
        let engine = &self.engine;
        let answer = self
            .look("inventory", &from, |caller| async move {
                engine.report_inventory(&caller, &items).await
            })
            .await?;
        Ok(Response::new(view::inventory(answer).into()))
    }

    type WatchStream = Notices;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Notices>, Status> {
        let Asked { from, .. } = self.open(request)?;
        let (watches, limit) = from.places.watches();
        let place = Arc::clone(watches)
            .try_acquire_owned()
            .map_err(|_| refuse(Error::Overloaded { limit }))?;
        // Only a VM that is registered here has anything to hear.
        self.look("watch", &from, |_| async { Ok(()) }).await?;
        let notices = ReceiverStream::new(self.engine.watch(&from.vm))
            .map(move |notice| {
                // The place is the stream's, and goes with it.
                let _place = &place;
                Ok(view::notice(notice).into())
            })
            .take_until(self.calls.draining().clone().cancelled_owned());
        Ok(Response::new(Box::pin(notices)))
    }
}
