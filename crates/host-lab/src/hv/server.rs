//! `labhv.sock`: a thread per connection, bounded in number, line length and idle time; and the thread that notices
//! the end of VMs.

use std::fs::{File, OpenOptions, Permissions, remove_file, set_permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::exit;
use std::sync::Arc;
use std::thread::{Builder, sleep};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use tracing::{error, info, warn};

use super::world::World;
use super::{Hypervisor, StartError};
use crate::protocol::{Answer, LabError, LabErrorKind, MAX_LINE, Reply, Request};

/// Connections at once. The agent uses a handful, the lab's runner one.
const MAX_CONNECTIONS: usize = 64;
/// A connection without a request for so long is closed; clients connect again.
const IDLE: Duration = Duration::from_secs(600);
/// A peer that does not read its reply.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// New VM folders and closing devices are looked for so often; the end of a VM is noticed at once.
const LOOK: u16 = 200;
/// After a failure that would otherwise be met again at once, such as no free descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Serving ended or could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The host.
    #[error(transparent)]
    Start(#[from] StartError),
    /// One labhv per host.
    #[error("another vdvs-labhv serves '{0}'")]
    Running(PathBuf),
    /// The socket.
    #[error("cannot listen on '{0}'")]
    Listen(PathBuf, #[source] io::Error),
    /// A thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Serves the host in this folder on `<host_dir>/labhv.sock` for ever.
///
/// # Errors
/// [`ServeError`]
pub fn serve(host_dir: &Path) -> Result<(), ServeError> {
    // Before any other thread exists, so that all have it.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals
        .thread_block()
        .map_err(|e| ServeError::Thread(e.into()))?;
    let _sole = sole(host_dir)?;
    let hypervisor = Hypervisor::start(host_dir)?;
    let socket = host_dir.join("labhv.sock");
    let listener = listen(&socket).map_err(|e| ServeError::Listen(socket.clone(), e))?;
    let ended = hypervisor.clone();
    Builder::new()
        .name("signals".to_owned())
        .spawn(move || end(&ended, &signals))
        .map_err(ServeError::Thread)?;
    let watcher = hypervisor.clone();
    Builder::new()
        .name("watch".to_owned())
        .spawn(move || watch(&watcher))
        .map_err(ServeError::Thread)?;
    info!(socket = %socket.display(), "ready");
    // Each connection's thread holds one clone.
    let open = Arc::new(());
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(e) => {
                warn!(error = %e, "cannot accept a connection");
                sleep(PAUSE);
                continue;
            }
        };
        if Arc::strong_count(&open) > MAX_CONNECTIONS {
            refuse(&stream);
            continue;
        }
        let (hypervisor, token) = (hypervisor.clone(), Arc::clone(&open));
        let thread = Builder::new().name("connection".to_owned()).spawn(move || {
            if let Err(e) = converse(&hypervisor, &stream) {
                info!(error = %e, "a connection ended");
            }
            drop(token);
        });
        if let Err(e) = thread {
            warn!(error = %e, "cannot serve a connection");
        }
    }
    Ok(())
}

/// Asked to go: a host without running VMs lets go of its locks at once; otherwise this is as being killed.
fn end(hypervisor: &Hypervisor, signals: &SigSet) {
    match signals.wait() {
        Ok(signal) => info!(%signal, "ends"),
        Err(e) => {
            error!(error = %e, "cannot wait for signals");
            return;
        }
    }
    hypervisor.leave();
    exit(0);
}

/// Makes sure that this is the only process for the folder, for as long as the file lives.
fn sole(host_dir: &Path) -> Result<File, ServeError> {
    let path = host_dir.join("labhv.lock");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| ServeError::Listen(path, e))?;
    file.try_lock()
        .map_err(|_| ServeError::Running(host_dir.to_owned()))?;
    Ok(file)
}

fn listen(socket: &Path) -> io::Result<UnixListener> {
    match remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    set_permissions(socket, Permissions::from_mode(0o600))?;
    Ok(listener)
}

fn refuse(stream: &UnixStream) {
    let error = LabError::new(
        LabErrorKind::Io,
        format!("more than {MAX_CONNECTIONS} connections"),
    );
    if let Err(e) = reply(stream, 0, Err(error)) {
        info!(error = %e, "cannot refuse a connection");
    }
}

fn converse(hypervisor: &Hypervisor, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(WRITE_LIMIT))?;
    let mut reader = BufReader::new(stream);
    let limit = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            let text = format!("a request of more than {MAX_LINE} bytes, or an unfinished one");
            return reply(stream, 0, Err(LabError::new(LabErrorKind::Invalid, text)));
        }
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) => reply(stream, request.id, hypervisor.handle(request.call))?,
            Err(e) => {
                let error = LabError::new(LabErrorKind::Invalid, format!("not a request: {e}"));
                reply(stream, 0, Err(error))?;
            }
        }
    }
}

fn reply(mut stream: &UnixStream, id: u64, result: Result<Answer, LabError>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Reply {
        id,
        result: result.into(),
    })?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn watch(hypervisor: &Hypervisor) {
    loop {
        let watches = hypervisor.watches();
        let mut fds: Vec<PollFd<'_>> = watches
            .iter()
            .map(|fd: &OwnedFd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, PollTimeout::from(LOOK)) {
            Ok(_) | Err(Errno::EINTR) => hypervisor.tick(),
            Err(e) => {
                error!(error = %e, "cannot watch the VMs");
                sleep(PAUSE);
                hypervisor.tick();
            }
        }
    }
}

/// Closes the loop devices that no living VM of this host has, for a lab that is being taken down after its labhv.
///
/// # Errors
/// [`ServeError`]
pub fn cleanup(host_dir: &Path) -> Result<(), ServeError> {
    let _sole = sole(host_dir)?;
    World::look(host_dir)?;
    Ok(())
}
