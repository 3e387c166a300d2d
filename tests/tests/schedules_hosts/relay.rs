//! A wire between a guest and its host's agent that can lose what the agent says.
//!
//! ```text
//!   plugin ── /run/vdvs-vsock/1019 ──► relay ──► the VM's socket of the agent
//! ```
//! The node sees the relay's folder in place of its host's, by a mount inside the node.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use vdvs_testkit::lab::{NOTES, Service};
use vdvs_testkit::wait::until_true;
use vdvs_tests::rig::Rig;

/// The port of the agent, which is the socket's name.
const PORT: &str = "1019";
/// The relay's folder in the node's notes.
const FOLDER: &str = "relay";
/// Between two looks for a new connection.
const LOOK: Duration = Duration::from_millis(5);

/// The wire.
pub(crate) struct Relay {
    node: String,
    wire: Arc<Wire>,
}

#[derive(Default)]
struct Wire {
    /// What comes from the agent is thrown away.
    losing: AtomicBool,
    lost: AtomicUsize,
    over: AtomicBool,
    open: Mutex<Vec<UnixStream>>,
}

impl Relay {
    /// Puts the relay between a node and the agent of its host.
    pub(crate) fn between(rig: &Rig, host: &str, node: &str) -> Result<Self> {
        let on = rig.node(node)?;
        let folder = on.notes_dir().join(FOLDER);
        fs::create_dir_all(&folder)?;
        let socket = folder.join(PORT);
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("listen at {}", socket.display()))?;
        listener.set_nonblocking(true)?;
        let wire = Arc::new(Wire::default());
        let agent = rig.lab().layout().vsock_dir(host, node).join(PORT);
        let relay = Self {
            node: node.to_owned(),
            wire: Arc::clone(&wire),
        };
        thread::spawn(move || wire.serve(&listener, &agent, &socket));
        on.sh(&format!("mount --bind {NOTES}/{FOLDER} /run/vdvs-vsock"))?;
        reconnect(rig, node)?;
        Ok(relay)
    }

    /// Throws away what the agent says for so long, then breaks the connection. Says how many bytes were lost.
    pub(crate) fn lose_replies(&self, long: Duration) -> usize {
        let before = self.wire.lost.load(Ordering::SeqCst);
        self.wire.losing.store(true, Ordering::SeqCst);
        thread::sleep(long);
        self.wire.hang_up();
        self.wire.losing.store(false, Ordering::SeqCst);
        self.wire.lost.load(Ordering::SeqCst) - before
    }

    /// The node sees its host's own socket again.
    pub(crate) fn away(self, rig: &Rig) -> Result<()> {
        rig.node(&self.node)?.sh("umount /run/vdvs-vsock")?;
        self.wire.over.store(true, Ordering::SeqCst);
        self.wire.hang_up();
        reconnect(rig, &self.node)
    }
}

/// Asks the plugin to end in order; the next one connects to what is there now.
fn reconnect(rig: &Rig, node: &str) -> Result<()> {
    let on = rig.node(node)?;
    let before = on.service_pid(Service::Plugin)?;
    on.signal_service(Service::Plugin, Signal::SIGTERM)?;
    until_true(Duration::from_secs(60), "the plugin ends", || {
        Ok(on.service_pid(Service::Plugin)? != before)
    })?;
    rig.wait_plugin(node)
}

impl Wire {
    fn serve(self: &Arc<Self>, listener: &UnixListener, agent: &Path, socket: &Path) {
        while !self.over.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((guest, _)) => {
                    // Nobody at the other end: the guest sees its connection closed.
                    if let Ok(agent) = UnixStream::connect(agent) {
                        self.connect(guest, agent).ok();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(LOOK),
                Err(_) => break,
            }
        }
        fs::remove_file(socket).ok();
    }

    fn connect(self: &Arc<Self>, guest: UnixStream, agent: UnixStream) -> Result<()> {
        guest.set_nonblocking(false)?;
        self.open().extend([guest.try_clone()?, agent.try_clone()?]);
        let (from_guest, to_agent) = (guest.try_clone()?, agent.try_clone()?);
        let wires = [Arc::clone(self), Arc::clone(self)];
        let [one, two] = wires;
        thread::spawn(move || one.carry(from_guest, to_agent, false));
        thread::spawn(move || two.carry(agent, guest, true));
        Ok(())
    }

    fn carry(&self, mut from: UnixStream, mut to: UnixStream, replies: bool) {
        let mut bytes = [0; 16 * 1024];
        while let Ok(read) = from.read(&mut bytes)
            && read > 0
        {
            if replies && self.losing.load(Ordering::SeqCst) {
                self.lost.fetch_add(read, Ordering::SeqCst);
                continue;
            }
            if to.write_all(bytes.get(..read).unwrap_or_default()).is_err() {
                break;
            }
        }
        // The other direction sees the end, too.
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    }

    fn hang_up(&self) {
        for stream in self.open().drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
