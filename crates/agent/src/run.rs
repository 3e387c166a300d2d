//! Wiring, start and drain.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Error as ServerError;
use tracing::{error, info, warn};
use vdvs_api::limits::{MAX_REPLY, MAX_REQUEST};
use vdvs_api::v1::admin_service_server::AdminServiceServer;
use vdvs_api::v1::volume_service_server::VolumeServiceServer;
use vdvs_engine::Engine;
use vdvs_engine::api::{About, Guests as KnownGuests, Ports};
use vdvs_engine::ports::{Clock, Store};
use vdvs_store::{OpenError, SqliteStore};
use vdvs_transport::{
    Acceptor, Backoff, BindError, Conn, Identity, Limits, Sinks, UnixSocket, grpc,
};

use crate::PROGRAM;
use crate::admin::{AdminFront, Facts};
use crate::calls::Calls;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::doors::{self, Known, VmPorter};
use crate::guests::{Guests, engine_settings};
use crate::hosts::{self, HostError, Hypervisor, chain};
use crate::ids::RandomIds;
use crate::legacy::LegacyFront;
use crate::listeners::Listeners;
use crate::volume_service::VolumeFront;
use crate::waiting::Waiting;

/// Threads for calls that block: a datastore uses at most 16, so three may hang and a fourth is still served.
const BLOCKING_THREADS: usize = 64;
/// Connections that may wait for the server between two turns of the runtime.
const CONNECTIONS: usize = 64;
/// Calls under way may finish this long after a stop, then they are told to turn back.
const FINISH: Duration = Duration::from_secs(6);
/// And this long after it the process ends, whatever still runs: records tell the next start where it was.
const GONE: Duration = Duration::from_millis(7500);

/// A host that is there opens within this; who calls later than that hears that it is waited for.
const SHORTLY: Duration = Duration::from_secs(1);
/// Connections get this long to close once the work is done.
const GOODBYE: Duration = Duration::from_millis(500);

/// The agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its folder.
    #[error("cannot use the state folder {0}")]
    State(PathBuf, #[source] io::Error),
    /// Its store.
    #[error("cannot open the store")]
    Store(#[from] OpenError),
    /// Its hypervisor, for good.
    #[error("cannot serve this host")]
    Host(#[source] HostError),
    /// The administrator's socket.
    #[error("cannot serve the administrator")]
    Admin(#[from] BindError),
    /// The runtime.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

/// Makes the agent's folder: nobody else's business.
///
/// # Errors
/// [`RunError::State`].
pub fn prepare(state: &Path) -> Result<(), RunError> {
    let failed = |e| RunError::State(state.to_owned(), e);
    match DirBuilder::new().recursive(true).mode(0o700).create(state) {
        Ok(()) => fs::read_dir(state).map(drop).map_err(failed),
        Err(e) => Err(failed(e)),
    }
}

/// Runs the agent until `stop` is cancelled, then drains.
///
/// # Errors
/// [`RunError`] when it cannot start. A host that is not there yet is no error: it is asked again.
pub fn run(config: &Config, stop: &CancellationToken) -> Result<(), RunError> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(RunError::Runtime)?;
    let result = runtime.block_on(serve(config, stop));
    // Threads that hang in a datastore are left behind: the process ends.
    runtime.shutdown_background();
    result
}

/// Connections of virtual machines on their way to their services.
struct Inbox {
    grpc: mpsc::Receiver<Conn>,
    legacy: mpsc::Receiver<Conn>,
    sinks: Sinks,
    /// Of the one door, where there is one.
    porter: Option<Arc<VmPorter>>,
    draining: CancellationToken,
    servers: TaskTracker,
}

impl Inbox {
    /// Opens the door, where there is one, so that VMs are answered from now on.
    fn open(config: &Config) -> Self {
        let (grpc_sink, grpc) = mpsc::channel(CONNECTIONS);
        let (legacy_sink, legacy) = mpsc::channel(CONNECTIONS);
        let (draining, servers) = (CancellationToken::new(), TaskTracker::new());
        let sinks = Sinks {
            grpc: grpc_sink,
            legacy: Some(legacy_sink),
        };
        let open = |listen| doors::open(listen, sinks.clone(), &draining, &servers);
        let porter = config.listen.as_ref().map(open);
        Self {
            grpc,
            legacy,
            sinks,
            porter,
            draining,
            servers,
        }
    }
}

async fn serve(config: &Config, stop: &CancellationToken) -> Result<(), RunError> {
    let inbox = Inbox::open(config);
    let mut waiting = Waiting::default();
    let Some(hypervisor) = open_host(config, stop, &mut waiting).await? else {
        return Ok(());
    };
    let store_path = config.state.join("store.sqlite");
    let store = SqliteStore::open_with(&store_path, SystemClock.now(), config.store).await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let ports = Ports {
        host: Arc::clone(&hypervisor.host),
        datastores: Arc::clone(&hypervisor.datastores),
        store: Arc::clone(&store),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
    };
    let mut settings = engine_settings();
    if let Some(every) = config.status_every {
        settings.status_every = every;
    }
    let engine = Engine::new(ports, settings);
    let admin_socket = match waiting.end().await {
        Some(bound) => bound,
        None => UnixSocket::bind(&config.admin_socket, 0o600)?,
    };
    let host = hypervisor.host.identity();
    info!(host = %host.name, kind = host.kind, "{PROGRAM} serves");
    let facts = Facts {
        log_file: config.log_file(),
        log_level: config.log.clone(),
        port: hosts::PORT,
    };
    Agent::start(&hypervisor, engine, store, inbox, admin_socket, facts)
        .until(stop)
        .await;
    info!("stopped");
    Ok(())
}

/// Opens the hypervisor, again and again until it is there. None: stopped meanwhile.
async fn open_host(
    config: &Config,
    stop: &CancellationToken,
    waiting: &mut Waiting,
) -> Result<Option<Hypervisor>, RunError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2), 1);
    loop {
        let mut opening = pin!(hosts::open(config));
        // A host that does not answer keeps nobody who wants to stop.
        let opened = tokio::select! {
            () = stop.cancelled() => return Ok(None),
            opened = timeout(SHORTLY, &mut opening) => opened,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(_) => {
                waiting.begin(config)?;
                tokio::select! {
                    () = stop.cancelled() => return Ok(None),
                    opened = opening => opened,
                }
            }
        };
        match opened {
            Ok(hypervisor) => return Ok(Some(hypervisor)),
            Err(e) if !e.may_pass() => return Err(RunError::Host(e)),
            Err(e) => waiting.because(chain(&e)),
        }
        waiting.begin(config)?;
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = sleep(backoff.next_delay()) => {}
        }
    }
}

/// Everything that runs.
struct Agent {
    engine: Arc<Engine>,
    calls: Calls,
    reconciler: TaskTracker,
    /// Servers and what feeds them; the listeners' own tasks need no waiting.
    servers: TaskTracker,
    draining: CancellationToken,
    /// Ends the reconciler.
    resting: CancellationToken,
}

impl Agent {
    fn start(
        hypervisor: &Hypervisor,
        engine: Arc<Engine>,
        store: Arc<dyn Store>,
        inbox: Inbox,
        admin_socket: UnixSocket,
        facts: Facts,
    ) -> Self {
        let agent = Self {
            engine,
            calls: Calls::default(),
            reconciler: TaskTracker::new(),
            servers: inbox.servers,
            draining: inbox.draining,
            resting: CancellationToken::new(),
        };
        let guests = Arc::new(Guests::default());
        let engine = &agent.engine;
        engine.introduce(About {
            program: PROGRAM.to_owned(),
            guests: Arc::clone(&guests) as Arc<dyn KnownGuests>,
        });
        agent
            .reconciler
            .spawn(Arc::clone(engine).run(agent.resting.clone()));

        let front = VolumeFront::new(
            Arc::clone(engine),
            Arc::clone(&guests),
            agent.calls.clone(),
            hypervisor.host.identity(),
        );
        agent
            .servers
            .spawn(serve_guests(front, inbox.grpc, agent.draining.clone()));
        let front = LegacyFront::new(Arc::clone(engine), Arc::clone(&guests), agent.calls.clone());
        agent
            .servers
            .spawn(front.serve(inbox.legacy, agent.draining.clone()));
        let host = Arc::clone(&hypervisor.host);
        match (inbox.porter, &hypervisor.identity, &hypervisor.sockets) {
            (Some(porter), Some(identity), _) => {
                let forget = doors::forget(host, Arc::clone(&guests), agent.draining.clone());
                agent.servers.spawn(forget);
                porter.know(Known {
                    identity: Arc::clone(identity),
                    guests: Arc::clone(&guests),
                    store,
                });
            }
            (_, _, Some(sockets)) => {
                let listeners = Listeners::new(
                    host,
                    sockets.clone(),
                    Arc::clone(&guests),
                    inbox.sinks,
                    agent.draining.clone(),
                );
                agent.servers.spawn(listeners.run());
            }
            // The configuration gives a door where VMs have no sockets.
            (_, _, None) => error!("no VM can reach this agent; restart it with --listen"),
        }

        let (sink, conns) = mpsc::channel(CONNECTIONS);
        let front = AdminFront::new(Arc::clone(engine), guests, agent.calls.clone(), facts);
        agent
            .servers
            .spawn(serve_admin(front, conns, agent.draining.clone()));
        agent
            .servers
            .spawn(accept_admin(admin_socket, sink, agent.draining.clone()));
        agent
    }

    /// Serves until `stop`, then drains: see the crate's documentation.
    async fn until(self, stop: &CancellationToken) {
        stop.cancelled().await;
        let end = Instant::now() + GONE;
        self.draining.cancel();
        self.resting.cancel();
        self.calls.drain();
        self.engine.stop_long_work();
        self.reconciler.close();
        self.servers.close();
        if !self.calls.finished(FINISH).await {
            self.calls.abort();
        }
        let work = async {
            self.calls.finished(GONE).await;
            self.engine.drain().await;
            self.reconciler.wait().await;
        };
        if timeout_at(end, work).await.is_err() {
            warn!("some work did not end in time; it is resolved at the next start");
        }
        goodbye(&self.servers, end).await;
    }
}

/// The answers are written; a guest that does not read its goodbye is not waited for.
async fn goodbye(servers: &TaskTracker, end: Instant) {
    let close = end.min(Instant::now() + GOODBYE);
    timeout_at(close, servers.wait()).await.ok();
}

async fn serve_guests(
    front: VolumeFront,
    conns: mpsc::Receiver<Conn>,
    draining: CancellationToken,
) {
    let service = VolumeServiceServer::new(front)
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_REPLY);
    let served = grpc::server().serve_with_incoming_shutdown(
        service,
        grpc::incoming(conns),
        draining.cancelled_owned(),
    );
    report("guests", served.await);
}

async fn serve_admin(front: AdminFront, conns: mpsc::Receiver<Conn>, draining: CancellationToken) {
    let service = AdminServiceServer::new(front)
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(MAX_REPLY);
    let served = grpc::server().serve_with_incoming_shutdown(
        service,
        grpc::incoming(conns),
        draining.cancelled_owned(),
    );
    report("the administrator", served.await);
}

fn report(whom: &str, served: Result<(), ServerError>) {
    if let Err(e) = served {
        error!(
            "the server for {whom} failed; restart this agent: {}",
            chain(&e)
        );
    }
}

async fn accept_admin(socket: UnixSocket, sink: mpsc::Sender<Conn>, draining: CancellationToken) {
    let acceptor = Acceptor::new(
        Identity::Admin,
        Limits::default(),
        sink,
        CancellationToken::new(),
        TaskTracker::new(),
    );
    if let Err(e) = acceptor.run(&socket, &draining).await {
        error!("the administrator's socket failed; restart this agent: {e}");
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn connections_that_do_not_close_get_half_a_second_and_nothing_beyond_the_end() {
        let servers = TaskTracker::new();
        servers.spawn(pending::<()>());
        servers.close();
        for (left, closes) in [(7000, 500), (200, 200), (0, 0)] {
            let begun = Instant::now();
            goodbye(&servers, begun + Duration::from_millis(left)).await;
            assert_eq!(begun.elapsed(), Duration::from_millis(closes));
        }
    }
}
