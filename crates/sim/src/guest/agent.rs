//! The plugin's port to its agent: calls into the engine of the host where the VM is registered at that moment.
//!
//! As the real client does, a call repeats itself with the same request id until an answer or its deadline. As the real
//! server does, a change runs to its end whether or not anybody waits, and is told when its caller has gone. Errors go
//! through the contract's translation, so that what is an answer and what is silence is decided by the real code.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::select;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use vdvs_api::{RemoteError, status};
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{Epoch, Error, ErrorKind, RequestId, VmId, VolumeAddress, VolumeId};
use vdvs_engine::Engine;
use vdvs_engine::api::{self, Call, Caller, Outcome};
use vdvs_plugin::agent::{
    Agent, AgentError, Answer, Attached, InventoryAnswer, InventoryItem, Link, Listing, Notice,
    Silence, Volume,
};

use super::kernel::Kernel;
use super::link::{Connection, Faults, LinkFault};
use super::words;
use crate::schedule::Dice;
use crate::universe::Line;

/// Between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// One in so many calls that change nothing meets what is planned for calls.
const LOOKS: u64 = 4;

/// What a guest counts through all its plugins: identities of requests are never used twice.
#[derive(Debug)]
pub(crate) struct Requests {
    made: u64,
    vm: String,
}

impl Requests {
    pub(crate) fn of(vm: &VmId) -> Self {
        Self {
            made: 0,
            // A copy of a VM has its UUID and luck of its own.
            vm: format!("{} {}", vm.instance_uuid, vm.config_path),
        }
    }

    fn fresh(&mut self) -> RequestId {
        self.made += 1;
        let bytes = format!("{} {}", self.vm, self.made);
        RequestId::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, bytes.as_bytes()))
    }
}

/// One plugin process's agent.
#[derive(Debug)]
pub(crate) struct SimAgent {
    pub(crate) connection: Arc<Connection>,
    pub(crate) faults: Faults,
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) dice: Arc<Mutex<Dice>>,
    pub(crate) requests: Arc<Mutex<Requests>>,
    /// What agents do for this guest: it goes on when the guest is gone.
    pub(crate) served: TaskTracker,
}

/// The connection broke under a call.
struct Broken {
    why: &'static str,
    heard: bool,
}

/// What a request is sent with.
struct Sent {
    line: Line,
    call: Call,
    vm: VmId,
}

impl Sent {
    fn engine(&self) -> &Arc<Engine> {
        &self.line.engine
    }

    /// As the transport says it.
    async fn caller(&self) -> Result<Caller, Error> {
        let (uuid, path) = (self.vm.instance_uuid, &self.vm.config_path);
        Box::pin(self.engine().caller(uuid, path)).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn said(error: &Error) -> AgentError {
    let remote = RemoteError::from(status::from_error(error));
    AgentError::Said {
        kind: remote.kind,
        text: remote.text,
    }
}

fn address(name: &str) -> Answer<VolumeAddress> {
    VolumeAddress::parse(name).map_err(|e| said(&e.into()))
}

impl SimAgent {
    fn vm(&self) -> &VmId {
        &self.connection.vm
    }

    /// A call that changes something: faults are for these first.
    async fn ask<T, Run>(
        &self,
        deadline: Instant,
        send: impl Fn(Sent) -> Run + Send + Sync,
    ) -> Answer<T>
    where
        T: Send + 'static,
        Run: Future<Output = Result<T, Error>> + Send + 'static,
    {
        self.call(deadline, true, send).await
    }

    /// A call that changes nothing. There are many of them, so one in a few only goes wrong.
    async fn look<T, Run>(
        &self,
        deadline: Instant,
        send: impl Fn(Sent) -> Run + Send + Sync,
    ) -> Answer<T>
    where
        T: Send + 'static,
        Run: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let fails = lock(&self.dice).once_in(LOOKS);
        self.call(deadline, fails, send).await
    }

    /// Calls until an answer or the deadline; `fails`: what is planned goes wrong with it.
    async fn call<T, Run>(
        &self,
        deadline: Instant,
        fails: bool,
        send: impl Fn(Sent) -> Run + Send + Sync,
    ) -> Answer<T>
    where
        T: Send + 'static,
        Run: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let request = lock(&self.requests).fresh();
        let begun = Instant::now();
        let (mut pause, mut heard) = (FIRST_PAUSE, false);
        loop {
            self.connection.life.step().await;
            let fault = match fails {
                true => self.faults.next(),
                false => None,
            };
            let attempt = Box::pin(self.attempt(request, deadline, fault, &send));
            let broken = match timeout_at(deadline, attempt).await {
                Err(_) => Broken {
                    why: "no answer in time",
                    heard: true,
                },
                Ok(Err(broken)) => broken,
                Ok(Ok(answer)) => {
                    self.connection.life.step().await;
                    return answer.map_err(|error| said(&error));
                }
            };
            heard |= broken.heard;
            let delay = pause / 2 + lock(&self.dice).millis(0, 25);
            pause = (pause * 2).min(LONGEST_PAUSE);
            if Instant::now() + delay >= deadline {
                self.connection.life.step().await;
                return Err(AgentError::Away(Silence {
                    why: broken.why.to_owned(),
                    heard,
                    waited: begun.elapsed(),
                }));
            }
            sleep(delay).await;
        }
    }

    async fn attempt<T, Run>(
        &self,
        request: RequestId,
        deadline: Instant,
        fault: Option<LinkFault>,
        send: &(impl Fn(Sent) -> Run + Send + Sync),
    ) -> Result<Result<T, Error>, Broken>
    where
        T: Send + 'static,
        Run: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let broke = || Broken {
            why: "the connection broke",
            heard: true,
        };
        let line = self.connection.line().ok_or(Broken {
            why: "nobody listens",
            heard: false,
        })?;
        let late = match fault {
            Some(LinkFault::Delay(late)) => late,
            _ => lock(&self.dice).millis(0, 2),
        };
        select! {
            biased;
            () = self.connection.breaks(&line) => return Err(broke()),
            () = sleep(late) => {}
        }
        if fault == Some(LinkFault::LoseRequest) {
            return Err(broke());
        }
        let sent = |cancel: CancellationToken| Sent {
            line: line.clone(),
            call: Call {
                request,
                deadline,
                cancel,
            },
            vm: self.vm().clone(),
        };
        if let Some(LinkFault::Late(late)) = fault {
            let run = Box::pin(send(sent(CancellationToken::new())));
            self.served.spawn(async move {
                sleep(late).await;
                drop(run.await);
            });
            return Err(broke());
        }
        let cancel = CancellationToken::new();
        let (tell, told) = oneshot::channel();
        let run = Box::pin(send(sent(cancel.clone())));
        self.served.spawn(async move {
            // The caller may have gone.
            drop(tell.send(run.await));
        });
        if fault == Some(LinkFault::Duplicate) {
            let late = lock(&self.dice).millis(0, 4000);
            let again = Box::pin(send(sent(CancellationToken::new())));
            self.served.spawn(async move {
                sleep(late).await;
                drop(again.await);
            });
        }
        let _gone = cancel.drop_guard();
        let answer = select! {
            biased;
            answer = told => answer.map_err(|_| broke())?,
            () = self.connection.breaks(&line) => return Err(broke()),
        };
        if fault == Some(LinkFault::LoseReply) {
            return Err(broke());
        }
        Ok(answer)
    }
}

#[async_trait]
impl Agent for SimAgent {
    fn link(&self) -> watch::Receiver<Link> {
        self.connection.follow()
    }

    fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        self.connection.notices()
    }

    async fn create(
        &self,
        name: &str,
        options: &BTreeMap<String, String>,
        deadline: Instant,
    ) -> Answer<(Volume, bool)> {
        let at = address(name)?;
        let given = GivenOptions::parse(options).map_err(|e| said(&e.into()))?;
        let asked = self.kernel.checker.asks();
        let made = self
            .ask(deadline, |sent| {
                let (at, given) = (at.clone(), given.clone());
                async move {
                    let caller = sent.caller().await?;
                    sent.engine().create(&caller, &sent.call, &at, &given).await
                }
            })
            .await?;
        let created = matches!(made, Outcome::Created(_));
        let volume = words::volume(made.into_inner());
        let checker = &self.kernel.checker;
        match created {
            true => checker.created(name, &volume.datastore),
            false => checker.there_already(name, &volume.datastore, asked),
        }
        Ok((volume, created))
    }

    async fn delete(&self, name: &str, volume: VolumeId, deadline: Instant) -> Answer<()> {
        let at = address(name)?;
        let removal = self.kernel.checker.removing(name);
        let asked = Mutex::new(0_u32);
        let answer = self
            .ask(deadline, |sent| {
                *lock(&asked) += 1;
                let (at, under_way) = (at.clone(), removal.clone());
                async move {
                    let session = Arc::clone(&sent.line.session);
                    let mut run = Box::pin(async {
                        let caller = sent.caller().await?;
                        sent.engine()
                            .delete(&caller, &sent.call, &at, Some(volume))
                            .await
                    });
                    select! {
                        biased;
                        answer = &mut run => answer,
                        () = session.died() => {
                            // What a dead agent had not begun does not happen, and what it had begun is in the record.
                            drop(under_way);
                            run.await
                        }
                    }
                }
            })
            .await;
        match answer {
            // As in the real client.
            Err(AgentError::Said {
                kind: ErrorKind::NotFound,
                ..
            }) if *lock(&asked) > 1 => {}
            Err(e) => return Err(e),
            Ok(_) => {}
        }
        self.kernel.checker.removed(name);
        Ok(())
    }

    async fn get(&self, name: &str, deadline: Instant) -> Answer<Volume> {
        let at = address(name)?;
        let view = self
            .look(deadline, |sent| {
                let at = at.clone();
                async move {
                    let caller = sent.caller().await?;
                    sent.engine().get(&caller, &at).await
                }
            })
            .await?;
        Ok(words::volume(view))
    }

    async fn list(&self, deadline: Instant) -> Answer<Listing> {
        let listing = self
            .look(deadline, |sent| async move {
                let caller = sent.caller().await?;
                sent.engine().list(&caller).await
            })
            .await?;
        let api::Listing {
            volumes,
            unreadable,
        } = listing;
        Ok(Listing {
            volumes: volumes.into_iter().map(words::volume).collect(),
            unreadable: unreadable.iter().map(ToString::to_string).collect(),
        })
    }

    async fn attach(
        &self,
        name: &str,
        read_only: bool,
        wait_ms: u64,
        deadline: Instant,
    ) -> Answer<Attached> {
        let at = address(name)?;
        let until = Instant::now() + Duration::from_millis(wait_ms);
        let checker = self.kernel.checker.clone();
        let attached = self
            .ask(deadline, |sent| {
                let (at, checker) = (at.clone(), checker.clone());
                // A retry waits for what is left of the wait.
                let wait = until.saturating_duration_since(Instant::now());
                async move {
                    let caller = sent.caller().await?;
                    let attach = sent
                        .engine()
                        .attach(&caller, &sent.call, &at, read_only, wait);
                    let attached = attach.await?;
                    // Also of a request that came twice, and of an answer that got lost.
                    let answer = format!("{} epoch {}", attached.view.id, attached.epoch);
                    checker.answered(sent.call.request.uuid(), &answer);
                    Ok(attached)
                }
            })
            .await?;
        Ok(words::attached(attached))
    }

    async fn detach(&self, volume: VolumeId, epoch: Epoch, deadline: Instant) -> Answer<bool> {
        let id8 = volume.id8();
        let disks = self.kernel.world.devices(self.vm());
        let ours = disks.iter().find(|d| d.disk.path.as_str().contains(&id8));
        if let Some(ours) = ours {
            let (checker, uses) = (&self.kernel.checker, self.kernel.uses(&ours.disk));
            checker.detached(self.vm(), &ours.disk, uses);
        }
        let done = self
            .ask(deadline, |sent| async move {
                let caller = sent.caller().await?;
                sent.engine()
                    .detach(&caller, &sent.call, volume, epoch)
                    .await
            })
            .await?;
        Ok(done.is_change())
    }

    async fn begin_format(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        deadline: Instant,
    ) -> Answer<Uuid> {
        let uuid = self
            .ask(deadline, |sent| async move {
                let caller = sent.caller().await?;
                sent.engine()
                    .begin_format(&caller, &sent.call, volume, epoch)
                    .await
            })
            .await?;
        Ok(uuid)
    }

    async fn finish_format(
        &self,
        volume: VolumeId,
        epoch: Epoch,
        uuid: Uuid,
        deadline: Instant,
    ) -> Answer<()> {
        let done = self
            .ask(deadline, |sent| async move {
                let caller = sent.caller().await?;
                sent.engine()
                    .finish_format(&caller, &sent.call, volume, epoch, uuid)
                    .await
            })
            .await;
        done.map(drop)
    }

    async fn report_inventory(
        &self,
        items: &[InventoryItem],
        deadline: Instant,
    ) -> Answer<InventoryAnswer> {
        let item = |item: &InventoryItem| api::InventoryItem {
            volume: item.volume,
            epoch: item.epoch,
            mounted: item.mounted,
        };
        let items: Vec<_> = items.iter().map(item).collect();
        let answer = self
            .look(deadline, |sent| {
                let items = items.clone();
                async move {
                    let caller = sent.caller().await?;
                    sent.engine().report_inventory(&caller, &items).await
                }
            })
            .await?;
        Ok(InventoryAnswer {
            attached: answer.attached.into_iter().map(words::volume).collect(),
            superseded: answer.superseded,
            wanted: answer.wanted,
        })
    }
}
