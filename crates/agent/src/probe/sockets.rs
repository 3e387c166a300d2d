//! vSockets: which device, which family, whether the port can be had.

use std::sync::Arc;

use nix::errno::Errno;
use vdvs_transport::vsock::{EsxSockets, FoundBy, HostListener, find_family};

use super::{Answer, Finding};
use crate::hosts::{PORT, chain};

pub(super) fn vsockets() -> Vec<Finding> {
    let family = find_family(&EsxSockets);
    let (number, version) = (family.number(), family.version());
    if *family.by() == FoundBy::Convention {
        let why = "neither /dev/vsock nor /vmfs/devices/char/vsock/vsock says a family; nothing else was tried";
        return vec![Finding::new(2, "vsockets", Answer::No, why)];
    }
    let detail = format!(
        "family {number} says {}, version {version:?}, context {:?}",
        family.by(),
        family.local_cid()
    );
    let listens = match HostListener::open(Arc::new(EsxSockets), PORT, true) {
        Ok(_) => Ok(format!("port {PORT} can be listened on")),
        Err(e) if e.errno() == Errno::EADDRINUSE => {
            Ok(format!("port {PORT} is in use, by the agent if it runs"))
        }
        Err(e) => Err(chain(&e)),
    };
    vec![
        Finding::new(2, "vsockets", Answer::Yes, detail),
        Finding::of(2, "vsocket listening", listens),
    ]
}
