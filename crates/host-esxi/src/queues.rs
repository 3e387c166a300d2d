//! One change of a VM at a time: hostd answers a second one with *task in progress*, and a unit is only free until
//! somebody else takes it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};
use vdvs_domain::VmId;
use vdvs_engine::ports::HostError;

/// A turn at changing a VM; ends when it is dropped.
pub(crate) type Turn = OwnedMutexGuard<()>;

/// The queues of VMs that are being changed.
#[derive(Debug, Default)]
pub(crate) struct Queues(Mutex<HashMap<VmId, Arc<AsyncMutex<()>>>>);

impl Queues {
    /// Waits for a turn. Nothing was done when the deadline passes first.
    pub(crate) async fn turn(&self, vm: &VmId, deadline: Instant) -> Result<Turn, HostError> {
        let queue = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // Those nobody stands in any more.
            all.retain(|_, queue| Arc::strong_count(queue) > 1);
            Arc::clone(all.entry(vm.clone()).or_default())
        };
        timeout_at(deadline, queue.lock_owned())
            .await
            .map_err(|_| HostError::Failed {
                why: "other changes of the VM took too long".to_owned(),
            })
    }
}
