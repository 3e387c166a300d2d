//! SIGTERM and SIGINT, taken by a thread that waits for them.
//!
//! The runtime's own signal support needs calls that not every host's kernel has; `sigwait` is as old as threads.

use std::io;
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, Signal};
use tokio_util::sync::CancellationToken;

/// The signals that mean *stop*, and SIGHUP, which some supervisors send to everything: it is taken and ignored.
fn taken() -> SigSet {
    SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
}

/// Blocks the signals for this thread and every thread it starts later. To be called before any other thread exists.
///
/// # Errors
/// What the system says.
pub fn block() -> io::Result<()> {
    Ok(taken().thread_block()?)
}

/// Starts the thread that cancels `stop` at the first SIGTERM or SIGINT. It ends with the process.
///
/// # Errors
/// When no thread can be started.
pub fn watch(stop: CancellationToken) -> io::Result<JoinHandle<()>> {
    Builder::new()
        .name("signals".to_owned())
        .spawn(move || wait(&stop))
}

fn wait(stop: &CancellationToken) {
    loop {
        match taken().wait() {
            Ok(Signal::SIGHUP) => tracing::info!("SIGHUP: there is nothing to read again"),
            Ok(signal) => {
                tracing::info!(%signal, "stopping");
                stop.cancel();
            }
            Err(e) => {
                tracing::error!("waiting for signals failed: {e}; stop this process with SIGKILL");
                return;
            }
        }
    }
}
