//! How much one VM may ask for at once. What is above the bound is refused at once, so that a flood of one VM costs
//! the others nothing. Detaches have permits of their own. A request that waits for another VM gives its permit back
//! and counts among the waiters instead.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vdvs_domain::{Error, VmId};

use crate::api::Settings;
use crate::inner::locked;

/// Requests of one VM that wait for other VMs. A VM has at most 60 disks, so more would only be retries.
const MAX_WAITERS: usize = 64;

#[derive(Debug)]
struct Gate {
    calls: Arc<Semaphore>,
    detaches: Arc<Semaphore>,
    waiters: Arc<Semaphore>,
}

/// The gates of all VMs.
#[derive(Debug)]
pub(crate) struct Admission {
    gates: Mutex<HashMap<VmId, Arc<Gate>>>,
    calls: usize,
    detaches: usize,
}

/// Lets one request run until dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    gate: Arc<Gate>,
    permit: Option<OwnedSemaphorePermit>,
    limit: usize,
}

impl Admission {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            gates: Mutex::default(),
            calls: settings.calls_per_vm,
            detaches: settings.detaches_per_vm,
        }
    }

    fn gate(&self, vm: &VmId) -> Arc<Gate> {
        let mut gates = locked(&self.gates);
        // A gate nobody uses is as good as none: this keeps the table at the VMs that are asking.
        gates.retain(|id, gate| id == vm || Arc::strong_count(gate) > 1);
        let gate = gates.entry(vm.clone()).or_insert_with(|| {
            Arc::new(Gate {
                calls: Arc::new(Semaphore::new(self.calls)),
                detaches: Arc::new(Semaphore::new(self.detaches)),
                waiters: Arc::new(Semaphore::new(MAX_WAITERS)),
            })
        });
        Arc::clone(gate)
    }

    /// Admits a request.
    pub(crate) fn admit(&self, vm: &VmId) -> Result<Admitted, Error> {
        let gate = self.gate(vm);
        let limit = self.calls;
        let permit = Arc::clone(&gate.calls)
            .try_acquire_owned()
            .map_err(|_| Error::Overloaded { limit })?;
        Ok(Admitted {
            gate,
            permit: Some(permit),
            limit,
        })
    }

    /// Admits a detach.
    pub(crate) fn admit_detach(&self, vm: &VmId) -> Result<Admitted, Error> {
        let gate = self.gate(vm);
        let limit = self.calls + self.detaches;
        let permit = Arc::clone(&gate.detaches)
            .try_acquire_owned()
            .or_else(|_| Arc::clone(&gate.calls).try_acquire_owned())
            .map_err(|_| Error::Overloaded { limit })?;
        Ok(Admitted {
            gate,
            permit: Some(permit),
            limit,
        })
    }
}

impl Admitted {
    /// From running to waiting.
    pub(crate) fn park(&mut self) -> Result<(), Error> {
        let waiter = Arc::clone(&self.gate.waiters).try_acquire_owned();
        let waiter = waiter.map_err(|_| Error::Overloaded { limit: MAX_WAITERS })?;
        self.permit = Some(waiter);
        Ok(())
    }

    /// From waiting to running; waits for its turn among the VM's own requests.
    pub(crate) async fn resume(&mut self) -> Result<(), Error> {
        let permit = Arc::clone(&self.gate.calls).acquire_owned().await;
        let limit = self.limit;
        self.permit = Some(permit.map_err(|_| Error::Overloaded { limit })?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn vm(n: u128) -> VmId {
        VmId {
            instance_uuid: Uuid::from_u128(n),
            config_path: String::new(),
        }
    }

    #[test]
    fn a_flooding_vm_is_refused_while_others_and_its_own_detaches_go_on() {
        let settings = Settings {
            calls_per_vm: 2,
            detaches_per_vm: 1,
            ..Settings::default()
        };
        let admission = Admission::new(&settings);
        let mut first = admission.admit(&vm(1)).unwrap();
        let _second = admission.admit(&vm(1)).unwrap();
        assert_eq!(
            admission.admit(&vm(1)).unwrap_err(),
            Error::Overloaded { limit: 2 }
        );
        let _detach = admission.admit_detach(&vm(1)).unwrap();
        assert!(admission.admit_detach(&vm(1)).is_err());
        assert!(admission.admit(&vm(2)).is_ok());
        first.park().unwrap();
        assert!(admission.admit(&vm(1)).is_ok(), "a waiter holds no place");
    }
}
