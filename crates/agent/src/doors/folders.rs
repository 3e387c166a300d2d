//! Sockets in folders instead of vSockets: `DIR/<process group>/1019`, one for each folder that is there.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};
use vdvs_transport::accept::{AcceptFailure, judge};
use vdvs_transport::{Door, UnixSocket};

use crate::hosts::{PORT, chain};

/// Only root may be a VM.
const MODE: u32 = 0o600;
/// A folder that comes is seen after this long.
const LOOK: Duration = Duration::from_millis(250);
/// Pause after a host that is short of something.
const PAUSE: Duration = Duration::from_millis(200);

/// Keeps a socket in every folder until draining begins.
pub(super) async fn keep(door: Arc<Door>, dir: PathBuf, draining: CancellationToken) {
    let tasks = TaskTracker::new();
    let mut listening: HashMap<u32, Arc<UnixSocket>> = HashMap::new();
    let mut said = false;
    while !draining.is_cancelled() {
        listening.retain(|_, socket| socket.is_reachable());
        match groups(&dir) {
            Ok(groups) => {
                for group in groups {
                    if listening.contains_key(&group) {
                        continue;
                    }
                    let path = dir.join(group.to_string()).join(PORT.to_string());
                    match UnixSocket::bind(&path, MODE) {
                        Ok(socket) => {
                            info!(group, socket = %path.display(), "listening");
                            let socket = Arc::new(socket);
                            listening.insert(group, Arc::clone(&socket));
                            let (door, until) = (Arc::clone(&door), draining.clone());
                            tasks.spawn(accept(door, group, socket, until));
                        }
                        Err(e) => warn!(group, "cannot listen; trying again: {}", chain(&e)),
                    }
                }
            }
            Err(e) if !said => {
                said = true;
                warn!("cannot look into {}; trying again: {e}", dir.display());
            }
            Err(_) => {}
        }
        tokio::select! {
            () = draining.cancelled() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// Folders whose names are numbers.
fn groups(dir: &Path) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(|text| text.parse::<u32>().ok()));
    }
    Ok(found)
}

async fn accept(door: Arc<Door>, group: u32, socket: Arc<UnixSocket>, draining: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = draining.cancelled() => return,
            accepted = socket.listener().accept() => accepted,
        };
        match accepted.map_err(|e| (judge(&e), e)) {
            Ok((stream, _)) => door.admit(stream, group, None),
            Err((AcceptFailure::Connection, _)) => {}
            Err((AcceptFailure::Host, _)) => sleep(PAUSE).await,
            Err((AcceptFailure::Listener, e)) => {
                return warn!(group, "its listener failed: {e}");
            }
        }
    }
}
