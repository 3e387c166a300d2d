//! Who is at the other end of a vSocket: the hypervisor gives the peer's cartel id, the host says whose that is.
//!
//! A cartel id is the number of a VM's process and ends with it; it is never kept for longer than a connection.

use std::time::Duration;

use tokio::time::Instant;
use vdvs_engine::ports::{HostError, Vm};
use vdvs_vim::{Error, VmProcess};

use crate::faults;
use crate::host::EsxHost;
use crate::stores::root_of;

/// A guest that connects waits for this.
const LIMIT: Duration = Duration::from_secs(10);

impl EsxHost {
    /// The VM whose process has this cartel id. None: none of this host's.
    ///
    /// # Errors
    /// hostd cannot say now, or two VMs could be meant.
    pub async fn vm_of_cartel(&self, cartel: u32) -> Result<Option<Vm>, HostError> {
        let deadline = Instant::now() + LIMIT;
        // A VM that was just started may be missing in the first answer.
        for _ in 0..2 {
            let list = self
                .processes(deadline)
                .await
                .map_err(|e| faults::host(&e, "", ""))?;
            let found = list.into_iter().find(|p| p.vmx_cartel_id == Some(cartel));
            if let Some(process) = found {
                return self.vm_of(&process, deadline).await.map(Some);
            }
        }
        Ok(None)
    }

    async fn processes(&self, deadline: Instant) -> Result<Vec<VmProcess>, Error> {
        let me = self.esx.me(deadline).await?;
        let client = &self.esx.client;
        let executer = client
            .retrieve_managed_method_executer(&me.host.object, deadline)
            .await?;
        client.vm_process_list(&executer, deadline).await
    }

    /// The VM with this process's configuration file. Its names and UUIDs may be repeated; the file is its own.
    async fn vm_of(&self, process: &VmProcess, deadline: Instant) -> Result<Vm, HostError> {
        let vms = self
            .esx
            .vms(deadline)
            .await
            .map_err(|e| faults::host(&e, "", ""))?;
        let mut of_file = Vec::new();
        for known in vms {
            if self
                .is_file(&known.vm.id.config_path, &process.config_file)
                .await
            {
                of_file.push(known.vm);
            }
        }
        let mut of_file = of_file.into_iter();
        match (of_file.next(), of_file.next()) {
            (Some(vm), None) => Ok(vm),
            (None, _) => Err(HostError::NoSuchVm {
                vm: format!("{} ({})", process.display_name, process.config_file),
            }),
            (Some(one), Some(other)) => Err(HostError::Failed {
                why: format!(
                    "VMs '{}' and '{}' are registered with one configuration file, {}: remove one of them from the \
                     inventory",
                    one.name, other.name, process.config_file
                ),
            }),
        }
    }

    /// Whether `[datastore] vm/vm.vmx` is this file, which is named by the datastore's folder or by a link to it.
    async fn is_file(&self, config_path: &str, file: &str) -> bool {
        if config_path == file {
            return true;
        }
        let Some((name, path)) = config_path
            .strip_prefix('[')
            .and_then(|t| t.split_once("] "))
        else {
            return false;
        };
        if file == format!("/vmfs/volumes/{name}/{path}") {
            return true;
        }
        let Ok(stores) = self.stores.catalog.stores().await else {
            return false;
        };
        let root = stores
            .iter()
            .find(|s| s.name.as_str() == name)
            .and_then(|s| s.folder.as_ref());
        let Some(root) = root.map(|f| f.root.clone()) else {
            return false;
        };
        // A process's file may be named through the url in any of its spellings.
        root_of(file).is_some_and(|file| file == root.join(path))
    }
}
