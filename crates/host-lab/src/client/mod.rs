//! Asking labhv. Connections are kept and used again, each for one call at a time: a long poll delays nobody, and a
//! labhv that was restarted in between is not noticed.
//!
//! A kept connection may have lost its peer. Where nothing can have arrived, or the call only asks, it is made again over
//! a new one; otherwise what happened is unknown, and is said to be.

mod blocking;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

pub use blocking::BlockingClient;

use crate::protocol::{
    Answer, Call, Device, Disk, LabError, LockState, MAX_LINE, Outcome, Reply, Request, VmState,
};

/// Longest line of a reply, as for requests.
const LINE_LIMIT: u64 = MAX_LINE as u64;
/// Connections kept for later calls: as many as are usually under way together. labhv has room for 64.
const KEPT: usize = 8;

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// labhv's answer: refused or failed.
    #[error(transparent)]
    Refused(#[from] LabError),
    /// labhv is not there; nothing was asked, so nothing happened.
    #[error("labhv does not listen on '{0}'")]
    Unreachable(PathBuf, #[source] io::Error),
    /// The question may have arrived, the answer did not: what happened is unknown.
    #[error("no answer from labhv: {0}")]
    NoAnswer(String),
}

impl ClientError {
    fn broken(e: impl ToString) -> Self {
        Self::NoAnswer(e.to_string())
    }

    fn unexpected(answer: &Answer) -> Self {
        Self::NoAnswer(format!("an answer of another kind: {answer:?}"))
    }
}

/// The async client. Clones share their connections.
#[derive(Debug, Clone)]
pub struct LabClient {
    socket: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
}

type Connection = BufReader<UnixStream>;

/// How one exchange over one connection failed.
enum Lost {
    /// Nothing of the question can have arrived.
    Unsent(io::Error),
    /// It may have.
    Unanswered(String),
}

impl LabClient {
    /// A client of the labhv that listens on this socket, now or later.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            idle: Arc::default(),
        }
    }

    /// Asks and waits for the answer, at most until `deadline`.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn call(&self, call: Call, deadline: Instant) -> Result<Answer, ClientError> {
        let only_asks = matches!(
            call,
            Call::ListVms | Call::ListDevices { .. } | Call::Lock { .. } | Call::WaitChange { .. }
        );
        let line = encode(call)?;
        let late = || Lost::Unanswered("the deadline passed".to_owned());
        while let Some(kept) = self.kept() {
            match timeout_at(deadline, exchange(kept, &line)).await {
                Ok(Ok((connection, reply))) => return self.done(connection, &reply),
                // Its labhv is gone: so are those of the others, as the next rounds find.
                Ok(Err(Lost::Unsent(_))) => {}
                Ok(Err(Lost::Unanswered(_))) if only_asks => {}
                Ok(Err(Lost::Unanswered(why))) => return Err(ClientError::NoAnswer(why)),
                Err(_) => return Err(ClientError::broken("the deadline passed")),
            }
        }
        let connect = timeout_at(deadline, UnixStream::connect(&self.socket)).await;
        let unreachable = |e| ClientError::Unreachable(self.socket.clone(), e);
        let stream = connect
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))
            .flatten()
            .map_err(unreachable)?;
        let exchange = exchange(BufReader::new(stream), &line);
        match timeout_at(deadline, exchange)
            .await
            .unwrap_or_else(|_| Err(late()))
        {
            Ok((connection, reply)) => self.done(connection, &reply),
            Err(Lost::Unsent(e)) => Err(unreachable(e)),
            Err(Lost::Unanswered(why)) => Err(ClientError::NoAnswer(why)),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> Option<Connection> {
        self.idle().pop()
    }

    /// A whole reply came: the connection can serve the next call.
    fn done(&self, connection: Connection, reply: &[u8]) -> Result<Answer, ClientError> {
        if connection.buffer().is_empty() {
            let mut idle = self.idle();
            if idle.len() < KEPT {
                idle.push(connection);
            }
        }
        decode(reply)
    }

    /// All VMs of the host.
    ///
    /// # Errors
    /// [`ClientError`], as all calls.
    pub async fn vms(&self, deadline: Instant) -> Result<Vec<VmState>, ClientError> {
        expect_vms(self.call(Call::ListVms, deadline).await?)
    }

    /// The disks of a VM.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn devices(&self, vm: &str, deadline: Instant) -> Result<Vec<Device>, ClientError> {
        expect_devices(
            self.call(Call::ListDevices { vm: vm.to_owned() }, deadline)
                .await?,
        )
    }

    /// Hot-adds a disk; with the device, whether it was new.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn attach(
        &self,
        vm: &str,
        disk: &Disk,
        read_only: bool,
        deadline: Instant,
    ) -> Result<(Device, bool), ClientError> {
        let call = Call::Attach {
            vm: vm.to_owned(),
            disk: disk.clone(),
            read_only,
        };
        expect_attached(self.call(call, deadline).await?)
    }

    /// Removes a disk, with `force` also while the guest uses it; whether it was there.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn detach(
        &self,
        vm: &str,
        disk: &Disk,
        force: bool,
        deadline: Instant,
    ) -> Result<bool, ClientError> {
        let call = Call::Detach {
            vm: vm.to_owned(),
            disk: disk.clone(),
            force,
        };
        expect_detached(self.call(call, deadline).await?)
    }

    /// The lock on a disk, with its holder where known.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn lock(
        &self,
        disk: &Disk,
        deadline: Instant,
    ) -> Result<(LockState, Option<String>), ClientError> {
        expect_lock(
            self.call(Call::Lock { disk: disk.clone() }, deadline)
                .await?,
        )
    }

    /// Suspends a VM.
    ///
    /// # Errors
    /// [`ClientError`]; the VM runs on then.
    pub async fn suspend(&self, vm: &str, deadline: Instant) -> Result<(), ClientError> {
        expect_suspended(
            self.call(Call::Suspend { vm: vm.to_owned() }, deadline)
                .await?,
        )
    }

    /// Resumes a VM.
    ///
    /// # Errors
    /// [`ClientError`]; the VM stays suspended then.
    pub async fn resume(&self, vm: &str, deadline: Instant) -> Result<(), ClientError> {
        expect_resumed(
            self.call(Call::Resume { vm: vm.to_owned() }, deadline)
                .await?,
        )
    }

    /// Waits for a change. A little of the time is kept for the answer's way back.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn wait_change(&self, since: u64, deadline: Instant) -> Result<u64, ClientError> {
        const WAY_BACK: u64 = 50;
        let left = deadline
            .saturating_duration_since(Instant::now())
            .as_millis();
        let timeout_ms = u64::try_from(left)
            .unwrap_or(u64::MAX)
            .saturating_sub(WAY_BACK);
        expect_generation(
            self.call(Call::WaitChange { since, timeout_ms }, deadline)
                .await?,
        )
    }
}

/// One question and its answer, a whole line.
async fn exchange(mut connection: Connection, line: &[u8]) -> Result<(Connection, Vec<u8>), Lost> {
    // A line is far smaller than a socket's buffer: it is taken at once, or the peer is gone and took nothing.
    connection
        .get_mut()
        .write_all(line)
        .await
        .map_err(Lost::Unsent)?;
    let mut reply = Vec::new();
    let read = (&mut connection)
        .take(LINE_LIMIT)
        .read_until(b'\n', &mut reply)
        .await;
    match read {
        Ok(_) if reply.last() == Some(&b'\n') => Ok((connection, reply)),
        Ok(_) => Err(Lost::Unanswered("the connection ended".to_owned())),
        Err(e) => Err(Lost::Unanswered(e.to_string())),
    }
}

fn encode(call: Call) -> Result<Vec<u8>, ClientError> {
    // One request at a time on a connection: any id tells its reply apart from "not a request", which has 0.
    let mut line = serde_json::to_vec(&Request { id: 1, call }).map_err(ClientError::broken)?;
    line.push(b'\n');
    Ok(line)
}

fn decode(line: &[u8]) -> Result<Answer, ClientError> {
    if line.last() != Some(&b'\n') {
        return Err(ClientError::NoAnswer("the connection ended".to_owned()));
    }
    let reply: Reply = serde_json::from_slice(line).map_err(ClientError::broken)?;
    match reply.result {
        Outcome::Ok(answer) => Ok(answer),
        Outcome::Error(error) => Err(ClientError::Refused(error)),
    }
}

macro_rules! expect_answer {
    ($name:ident, $pattern:pat => $value:expr, $type:ty) => {
        fn $name(answer: Answer) -> Result<$type, ClientError> {
            match answer {
                $pattern => Ok($value),
                other => Err(ClientError::unexpected(&other)),
            }
        }
    };
}

expect_answer!(expect_vms, Answer::Vms(vms) => vms, Vec<VmState>);
expect_answer!(expect_devices, Answer::Devices(devices) => devices, Vec<Device>);
expect_answer!(expect_attached, Answer::Attached { device, changed } => (device, changed), (Device, bool));
expect_answer!(expect_detached, Answer::Detached { changed } => changed, bool);
expect_answer!(expect_lock, Answer::Lock { state, holder } => (state, holder), (LockState, Option<String>));
expect_answer!(expect_generation, Answer::Generation(generation) => generation, u64);
expect_answer!(expect_powered_on, Answer::PoweredOn => (), ());
expect_answer!(expect_powered_off, Answer::PoweredOff => (), ());
expect_answer!(expect_suspended, Answer::Suspended => (), ());
expect_answer!(expect_resumed, Answer::Resumed => (), ());
