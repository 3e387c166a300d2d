//! TERM and INT as a flag that loops look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// Asked to stop?
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on the signals only set the flag. To be called before any other thread is made.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn on_signals() -> Result<Self> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGINT);
        signals.thread_block().context("block signals")?;
        let stop = Self::default();
        let flag = Arc::clone(&stop.0);
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                if signals.wait().is_ok() {
                    flag.store(true, Ordering::SeqCst);
                }
            })
            .context("start a thread")?;
        Ok(stop)
    }

    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
