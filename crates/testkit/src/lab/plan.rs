//! What a lab shall consist of: hosts, the datastores each sees, the VMs registered on each. Pure: no files, no kernel.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::binaries::Profile;
use super::layout::check_name;
use super::network;

/// The host every node is registered on, unless said otherwise.
pub const DEFAULT_HOST: &str = "esx01";
/// The datastore every lab has, unless said otherwise.
pub const DEFAULT_DATASTORE: &str = "vsanDatastore";

/// What a lab shall consist of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabConfig {
    /// The lab's name.
    pub name: String,
    /// Its hosts.
    pub hosts: Vec<HostPlan>,
    /// Which build of our programs.
    pub profile: Profile,
}

/// A host of a lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// Its name, `esx01`.
    pub name: String,
    /// What it sees. A datastore of the same name on another host is the same folder.
    pub datastores: Vec<Datastore>,
    /// The VMs registered on it.
    pub vms: Vec<VmPlan>,
}

/// A datastore as a host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datastore {
    /// Its name; the folder's too.
    pub name: String,
    /// `vmfs`, `nfs`, `vsan` or `vvol`.
    pub kind: String,
    /// How long a lock on it outlives the host that held it.
    pub lapse: Duration,
}

/// A VM: a node's outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPlan {
    /// Its place on the switch; the VM is called `swarm<index>`.
    pub index: u8,
    /// The datastore its own files are on.
    pub home: String,
}

impl Datastore {
    /// A datastore whose locks end with their host.
    #[must_use]
    pub fn new(name: &str, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            lapse: Duration::ZERO,
        }
    }

    /// The same with locks that outlive their host.
    #[must_use]
    pub fn lapsing(self, lapse: Duration) -> Self {
        Self { lapse, ..self }
    }
}

impl VmPlan {
    /// `swarm01`
    #[must_use]
    pub fn name(&self) -> String {
        format!("swarm{:02}", self.index)
    }
}

impl LabConfig {
    /// A lab of this name with one host, one datastore and `nodes` nodes.
    #[must_use]
    pub fn new(name: &str, nodes: u8) -> Self {
        Self::spread(name, nodes, 1)
    }

    /// A lab with several hosts that share the default datastore; the nodes are spread over them in order.
    #[must_use]
    pub fn spread(name: &str, nodes: u8, hosts: u8) -> Self {
        let hosts = u16::from(hosts.max(1));
        let host_of = |index: u8| u16::from(index - 1) * hosts / u16::from(nodes) + 1;
        let plan = |number: u16| HostPlan {
            name: format!("esx{number:02}"),
            datastores: vec![Datastore::new(DEFAULT_DATASTORE, "vsan")],
            vms: (1..=nodes)
                .filter(|index| host_of(*index) == number)
                .map(|index| VmPlan {
                    index,
                    home: DEFAULT_DATASTORE.to_owned(),
                })
                .collect(),
        };
        Self {
            name: name.to_owned(),
            hosts: (1..=hosts).map(plan).collect(),
            profile: Profile::default(),
        }
    }

    /// The same with these datastores on every host; all VMs live on the first.
    #[must_use]
    pub fn with_datastores(mut self, datastores: &[Datastore]) -> Self {
        let home = datastores.first().map(|first| first.name.clone());
        for host in &mut self.hosts {
            host.datastores = datastores.to_vec();
            for vm in &mut host.vms {
                vm.home = home.clone().unwrap_or_default();
            }
        }
        self
    }

    /// The same with the home of one VM on another datastore.
    #[must_use]
    pub fn with_home(mut self, vm: &str, datastore: &str) -> Self {
        for plan in self.hosts.iter_mut().flat_map(|host| &mut host.vms) {
            if plan.name() == vm {
                datastore.clone_into(&mut plan.home);
            }
        }
        self
    }

    /// All nodes' names, host by host.
    #[must_use]
    pub fn node_names(&self) -> Vec<String> {
        let vms = self.hosts.iter().flat_map(|host| &host.vms);
        vms.map(VmPlan::name).collect()
    }

    /// Refuses what cannot be made.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(!self.hosts.is_empty(), "a lab without a host");
        let mut places = Vec::new();
        for host in &self.hosts {
            check_name(&host.name)?;
            for datastore in &host.datastores {
                check_name(&datastore.name)?;
            }
            for vm in &host.vms {
                let known = host.datastores.iter().find(|one| one.name == vm.home);
                known.with_context(|| {
                    format!(
                        "{} shall live on '{}', which {} does not see",
                        vm.name(),
                        vm.home,
                        host.name
                    )
                })?;
                ensure!(
                    (1..=network::INDEX_MAX).contains(&vm.index) && !places.contains(&vm.index),
                    "{} is twice in the lab or has no place on the switch",
                    vm.name()
                );
                places.push(vm.index);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_spread_in_order_and_every_host_has_some() {
        let config = LabConfig::spread("x", 3, 2);
        let of = |host: usize| -> Vec<String> {
            config.hosts[host].vms.iter().map(VmPlan::name).collect()
        };
        assert_eq!(of(0), ["swarm01", "swarm02"]);
        assert_eq!(of(1), ["swarm03"]);
        config.check().unwrap();
        assert_eq!(LabConfig::new("x", 2).node_names(), ["swarm01", "swarm02"]);
    }

    #[test]
    fn a_home_its_host_does_not_see_is_refused() {
        let config = LabConfig::new("x", 1).with_home("swarm01", "elsewhere");
        assert!(
            config
                .check()
                .unwrap_err()
                .to_string()
                .contains("elsewhere")
        );
    }
}
