//! What goes wrong between a plugin and its agent, and the connection's keeper.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::select;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use vdvs_domain::VmId;
use vdvs_engine::api::Notice as Told;
use vdvs_plugin::agent::{Link, Notice};

use super::life::Life;
use crate::universe::{Line, Switchboard};

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkFault {
    /// The connection breaks before the request arrives.
    LoseRequest,
    /// The connection breaks after the call took effect, before its answer arrives.
    LoseReply,
    /// The request is carried out a second time, later.
    Duplicate,
    /// The request arrives so late.
    Delay(Duration),
    /// The connection breaks, and the request arrives so late all the same: behind what its sender does meanwhile.
    Late(Duration),
}

/// The faults of the calls to come, one each. Cloning gives the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<VecDeque<LinkFault>>>);

impl Faults {
    fn queue(&self) -> MutexGuard<'_, VecDeque<LinkFault>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, fault: LinkFault, times: u32) {
        self.queue().extend((0..times).map(|_| fault));
    }

    pub(crate) fn clear(&self) {
        self.queue().clear();
    }

    pub(crate) fn next(&self) -> Option<LinkFault> {
        self.queue().pop_front()
    }
}

/// For Hello.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(500);
/// Notices on their way.
const NOTICES: usize = 64;

/// One plugin process's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) vm: VmId,
    pub(crate) board: Switchboard,
    pub(crate) life: Life,
    link: Mutex<Link>,
    /// One channel each, so that they are woken in their order.
    followers: Mutex<Vec<watch::Sender<Link>>>,
    tell: mpsc::Sender<Notice>,
    notices: Mutex<Option<mpsc::Receiver<Notice>>>,
}

impl Connection {
    pub(crate) fn new(vm: &VmId, board: &Switchboard, life: Life) -> Self {
        let (tell, notices) = mpsc::channel(NOTICES);
        let why = "not connected yet".to_owned();
        Self {
            vm: vm.clone(),
            board: board.clone(),
            life,
            link: Mutex::new(Link::Down { why }),
            followers: Mutex::default(),
            tell,
            notices: Mutex::new(Some(notices)),
        }
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Link> {
        let link = lock(&self.link).clone();
        let (follower, receiver) = watch::channel(link);
        let mut followers = lock(&self.followers);
        followers.retain(|follower| !follower.is_closed());
        followers.push(follower);
        receiver
    }

    pub(crate) fn notices(&self) -> Option<mpsc::Receiver<Notice>> {
        lock(&self.notices).take()
    }

    fn set(&self, link: Link) {
        lock(&self.link).clone_from(&link);
        for follower in lock(&self.followers).iter() {
            follower.send_replace(link.clone());
        }
    }

    /// The agent this VM reaches now.
    pub(crate) fn line(&self) -> Option<Line> {
        self.board.agent_of(&self.vm)
    }

    fn holds(&self, line: &Line) -> bool {
        self.line()
            .is_some_and(|now| now.incarnation == line.incarnation)
    }

    /// Returns when the connection to this agent is no more: it died, it is cut, the VM moved or was suspended.
    pub(crate) async fn breaks(&self, line: &Line) {
        let moved = async {
            let mut seen = self.board.bell().count();
            while self.holds(line) {
                seen = self.board.bell().after(seen).await;
            }
        };
        select! {
            biased;
            () = line.session.died() => {}
            () = self.life.freezes() => {}
            () = moved => {}
        }
    }

    /// Keeps the connection until the process ends.
    pub(crate) async fn keep(&self) {
        loop {
            self.life.step().await;
            let seen = self.board.bell().count();
            match self.line() {
                Some(line) => {
                    let why = self.connected(&line).await;
                    self.set(Link::Down { why });
                    sleep(PAUSE).await;
                }
                None => {
                    drop(timeout(PAUSE, self.board.bell().after(seen)).await);
                }
            }
        }
    }

    /// One connection, from Hello to its end; returns why it ended.
    async fn connected(&self, line: &Line) -> String {
        let hello = Box::pin(
            line.engine
                .caller(self.vm.instance_uuid, &self.vm.config_path),
        );
        let caller = select! {
            biased;
            () = self.breaks(line) => return "the connection broke".to_owned(),
            answer = timeout(HELLO_TIME, hello) => match answer {
                Err(_) => return "no answer to Hello in time".to_owned(),
                Ok(Err(refused)) => return refused.to_string(),
                Ok(Ok(caller)) => caller,
            },
        };
        let mut notices = line.engine.watch(&self.vm);
        self.life.step().await;
        self.set(Link::Up {
            vm_name: caller.vm.name,
            vm_uuid: caller.vm.id.instance_uuid.to_string(),
            host: line.host_name.clone(),
        });
        loop {
            let told = select! {
                biased;
                () = self.breaks(line) => return "the connection broke".to_owned(),
                told = notices.recv() => told,
            };
            let Some(told) = told else {
                return "the agent ended the connection".to_owned();
            };
            self.life.step().await;
            let notice = match told {
                Told::Wanted { volume, by_vm } => Notice::Wanted { volume, by_vm },
                Told::Superseded { volume, epoch } => Notice::Superseded { volume, epoch },
            };
            // Nobody takes them: the inventory tells the same.
            drop(self.tell.try_send(notice));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
