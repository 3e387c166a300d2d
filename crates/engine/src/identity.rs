//! From what the transport says about a caller to a VM of this host.
//!
//! Two VMs with one instance UUID (a copied VM): the one that holds volumes keeps them; the other gets nothing until
//! somebody changes it. While neither holds any, both may work, each as itself: an owner is UUID and configuration
//! file.

use std::sync::Arc;

use uuid::Uuid;
use vdvs_domain::{Error, VmId, VmRef};

use crate::api::Caller;
use crate::inner::Inner;
use crate::ports::{HostError, Vm};

impl Inner {
    pub(crate) async fn caller(
        &self,
        instance_uuid: Uuid,
        config_path: &str,
    ) -> Result<Caller, Error> {
        let failed = |why: HostError| Error::HostFailed {
            verb: "list its VMs",
            why: why.to_string(),
        };
        let asked = VmId {
            instance_uuid,
            config_path: config_path.to_owned(),
        };
        let host = &self.ports.host;
        let mut vms = host.known_vms().await.map_err(failed)?;
        // Nobody is refused by what was known a moment ago.
        if !vms.iter().any(|v| v.id == asked) {
            vms = Arc::new(host.vms().await.map_err(failed)?);
        }
        let Some(vm) = vms.iter().find(|v| v.id == asked) else {
            return Err(Error::UnknownCaller {
                why: format!(
                    "no VM {instance_uuid} with configuration {config_path} is registered on this host"
                ),
            });
        };
        let twins: Vec<&Vm> = vms
            .iter()
            .filter(|v| v.id.instance_uuid == instance_uuid && v.id != asked)
            .collect();
        if !twins.is_empty() && self.held_by_vm(&asked).await?.is_empty() {
            for twin in twins {
                if !self.held_by_vm(&twin.id).await?.is_empty() {
                    return Err(same_uuid(vm, twin));
                }
            }
        }
        Ok(Caller {
            vm: VmRef {
                id: vm.id.clone(),
                name: vm.name.clone(),
            },
            home: vm.home.clone(),
        })
    }
}

fn same_uuid(newcomer: &Vm, holder: &Vm) -> Error {
    Error::UnknownCaller {
        why: format!(
            "VMs {} ({}) and {} ({}) both have instance UUID {}; {} holds volumes and keeps them, change the UUID of {}",
            holder.name,
            holder.id.config_path,
            newcomer.name,
            newcomer.id.config_path,
            holder.id.instance_uuid,
            holder.name,
            newcomer.name
        ),
    }
}
