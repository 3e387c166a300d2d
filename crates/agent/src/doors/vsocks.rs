//! The vSocket all VMs dial: opened again and again until it is there, and made anew when it breaks.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use vdvs_transport::door::accept_all;
use vdvs_transport::vsock::{EsxSockets, HostListener};
use vdvs_transport::{Backoff, Door};

use crate::hosts::chain;

/// Connections between the accepting thread and the runtime.
const ACCEPTED: usize = 64;

/// Keeps listening until draining begins.
pub(super) async fn keep(
    door: Arc<Door>,
    port: u32,
    privileged_only: bool,
    draining: CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30), 1);
    let mut said = false;
    while !draining.is_cancelled() {
        match HostListener::open(Arc::new(EsxSockets), port, privileged_only) {
            Ok(listener) => {
                let family = listener.family();
                info!(port, family = family.number(), by = %family.by(), version = ?family.version(), "listening for virtual machines");
                backoff.reset();
                said = false;
                serve(Arc::clone(&door), listener, &draining).await;
            }
            Err(e) if !said => {
                said = true;
                warn!("{}; trying again", chain(&e));
            }
            Err(_) => {}
        }
        tokio::select! {
            () = draining.cancelled() => {}
            () = sleep(backoff.next_delay()) => {}
        }
    }
}

/// Until draining begins or the listener breaks.
async fn serve(door: Arc<Door>, listener: HostListener, draining: &CancellationToken) {
    let (sink, arrivals) = mpsc::channel(ACCEPTED);
    let (tell, ended) = oneshot::channel();
    let departure = listener.departure();
    let stop = draining.child_token();
    let (until, _end) = (stop.clone(), stop.clone().drop_guard());
    let accepting = thread::Builder::new()
        .name("vsock".to_owned())
        .spawn(move || {
            // Nobody is left to tell when the agent ends.
            tell.send(accept_all(&listener, &until, &sink)).ok();
        });
    if let Err(e) = accepting {
        return warn!("no thread to accept connections with: {e}; trying again");
    }
    door.serve(arrivals, departure, stop).await;
    if let Ok(Err(e)) = ended.await {
        error!("the vSocket broke and is made anew: {e}");
    }
}
