//! What both ports share: the session, who we are in the inventory, and the VMs registered here.
//!
//! References to hostd's objects count for one session only: whatever is kept names the session it was learnt in.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use uuid::Uuid;
use vdvs_domain::{DatastoreName, VmId};
use vdvs_engine::ports::{DsPath, Power, Vm};
use vdvs_vim::{
    Client, Datastore, Error, FilePath, Hardware, HostSystem, MoRef, NotSent, PowerState,
    VmSummary, datastore_path,
};

use crate::faults;
use crate::feed::Feed;

/// Where a VM runs; of interest only where the inventory has several hosts.
pub(crate) const VM_HOST: &str = "runtime.host";

/// What is read of each VM.
const VM_PATHS: &[&str] = &[
    "name",
    "runtime.powerState",
    "runtime.connectionState",
    "config.instanceUuid",
    "config.uuid",
    "config.files.vmPathName",
    "config.version",
    "config.template",
    VM_HOST,
];

/// This host in the inventory.
#[derive(Debug)]
pub(crate) struct Me {
    pub(crate) host: HostSystem,
    /// On a vCenter, datastores' names mean something within a datacenter only.
    pub(crate) datacenter: Option<MoRef>,
    /// A host by itself, no vCenter.
    pub(crate) alone: bool,
}

/// A VM registered here.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) object: MoRef,
    pub(crate) vm: Vm,
}

/// The session and what is known through it.
#[derive(Debug)]
pub(crate) struct Esx {
    pub(crate) client: Client,
    /// Our name in an inventory with several hosts.
    name: Option<String>,
    pub(crate) feed: Feed,
    me: Mutex<Option<(u64, Arc<Me>)>>,
    /// Of the last list, in the session it was read in.
    objects: Mutex<(u64, Vec<(VmId, MoRef)>)>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Esx {
    pub(crate) fn new(client: Client, name: Option<String>) -> Self {
        Self {
            client,
            name,
            feed: Feed::default(),
            me: Mutex::default(),
            objects: Mutex::default(),
        }
    }

    /// This host, as learnt in the present session.
    pub(crate) async fn me(&self, deadline: Instant) -> Result<Arc<Me>, Error> {
        Ok(self.me_in_session(deadline).await?.1)
    }

    /// The same, and the session it was learnt in.
    async fn me_in_session(&self, deadline: Instant) -> Result<(u64, Arc<Me>), Error> {
        if let Some((generation, me)) = &*held(&self.me)
            && *generation == self.client.generation()
        {
            return Ok((*generation, Arc::clone(me)));
        }
        let alone = self.client.service_content(deadline).await?.is_host();
        let generation = self.client.generation();
        let mut hosts = self.client.list_hosts(deadline).await?;
        hosts.retain(|h| self.name.as_ref().is_none_or(|name| h.name == *name));
        let (Some(host), None) = (hosts.pop(), hosts.pop()) else {
            return Err(Error::NotSent {
                call: "RetrievePropertiesEx",
                why: NotSent::Absent("host of our name, or has several and none is named"),
            });
        };
        let datacenter = match alone {
            true => None,
            false => self
                .client
                .list_datacenters(deadline)
                .await?
                .into_iter()
                .next()
                .map(|(dc, _)| dc),
        };
        let me = Arc::new(Me {
            host,
            datacenter,
            alone,
        });
        *held(&self.me) = Some((generation, Arc::clone(&me)));
        Ok((generation, me))
    }

    /// What `read` finds in the session in which this host was looked up, and that session. Through a vCenter, what
    /// one session said of this host means nothing in what another one lists: all of it would be another host's.
    pub(crate) async fn in_one_session<T, R: Future<Output = Result<T, Error>>>(
        &self,
        deadline: Instant,
        read: impl Fn() -> R,
    ) -> Result<(u64, Arc<Me>, T), Error> {
        loop {
            let (generation, me) = self.me_in_session(deadline).await?;
            let found = read().await?;
            // Every further turn takes another death of hostd, and every call ends at the deadline.
            if self.client.generation() == generation {
                return Ok((generation, me, found));
            }
        }
    }

    /// A path as the API takes it.
    pub(crate) async fn file(
        &self,
        datastore: &DatastoreName,
        path: &DsPath,
        deadline: Instant,
    ) -> Result<FilePath, Error> {
        let text = datastore_path(datastore.as_str(), path.as_str());
        Ok(match &self.me(deadline).await?.datacenter {
            Some(datacenter) => FilePath::within(datacenter, text),
            None => FilePath::new(text),
        })
    }

    /// The datastores mounted on this host, and the session that says so.
    pub(crate) async fn datastores(
        &self,
        deadline: Instant,
    ) -> Result<(u64, Vec<Datastore>), Error> {
        let read = || self.client.list_datastores(deadline);
        let (generation, me, mut found) = self.in_one_session(deadline, read).await?;
        if !me.alone {
            found.retain(|d| me.host.datastores.contains(&d.object));
        }
        Ok((generation, found))
    }

    /// Every VM registered here, now. A VM that hostd cannot read, because its datastore is away, has no identity and is
    /// left out: what is not listed is not thereby dead.
    pub(crate) async fn vms(&self, deadline: Instant) -> Result<Vec<Known>, Error> {
        let client = &self.client;
        let read = || client.inventory("VirtualMachine", VM_PATHS, deadline);
        let (generation, me, found) = self.in_one_session(deadline, read).await?;
        let mut known = Vec::with_capacity(found.len());
        for one in found {
            let here = one.properties.get(VM_HOST).and_then(|e| e.moref());
            if !me.alone && here.as_ref() != Some(&me.host.object) {
                continue;
            }
            known.extend(identified(VmSummary::read(&one.object, &one.properties)));
        }
        let objects = known
            .iter()
            .map(|k| (k.vm.id.clone(), k.object.clone()))
            .collect();
        *held(&self.objects) = (generation, objects);
        Ok(known)
    }

    /// The VM of this identity, read now. None: it is not registered here. Several of one identity: all of them.
    pub(crate) async fn vm(&self, id: &VmId, deadline: Instant) -> Result<Vec<Known>, Error> {
        if let Some(object) = self.object(id) {
            match self.client.vm(&object, deadline).await {
                Ok(summary) => {
                    if let Some(known) = identified(summary).filter(|k| k.vm.id == *id) {
                        return Ok(vec![known]);
                    }
                }
                Err(why) if faults::is_gone(&why) => {}
                Err(why) => return Err(why),
            }
        }
        let mut all = self.vms(deadline).await?;
        all.retain(|k| k.vm.id == *id);
        Ok(all)
    }

    /// The VM of this identity with its devices, in one call. None: its reference is not known, or is another VM's by now,
    /// or its devices cannot be read; whoever looks then looks step by step.
    pub(crate) async fn vm_and_hardware(
        &self,
        id: &VmId,
        deadline: Instant,
    ) -> Result<Option<(Known, Hardware)>, Error> {
        let Some(object) = self.object(id) else {
            return Ok(None);
        };
        match self.client.vm_and_hardware(&object, deadline).await {
            Ok((summary, hardware)) => Ok(identified(summary)
                .filter(|known| known.vm.id == *id)
                .zip(hardware)),
            Err(why) if faults::is_gone(&why) => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// The reference of a VM that the last list of this session had once.
    fn object(&self, id: &VmId) -> Option<MoRef> {
        let objects = held(&self.objects);
        let (generation, list) = &*objects;
        let mut of_id = list.iter().filter(|(vm, _)| vm == id);
        match (of_id.next(), of_id.next()) {
            (Some((_, object)), None) if *generation == self.client.generation() => {
                Some(object.clone())
            }
            _ => None,
        }
    }
}

/// A VM with its identity. A template never runs.
fn identified(summary: VmSummary) -> Option<Known> {
    if summary.template {
        return None;
    }
    let config_path = summary.config_file?;
    let instance_uuid: Uuid = summary.instance_uuid?.parse().ok()?;
    let home = config_path
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .and_then(|(name, _)| DatastoreName::new(name).ok());
    Some(Known {
        object: summary.object,
        vm: Vm {
            id: VmId {
                instance_uuid,
                config_path,
            },
            name: summary.name,
            power: match summary.power {
                PowerState::Off => Power::Off,
                PowerState::Suspended => Power::Suspended,
                // A word nobody knows proves nothing, least of all that it does not write.
                PowerState::On | PowerState::Unknown(_) => Power::On,
            },
            home,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(power: PowerState) -> VmSummary {
        VmSummary {
            object: MoRef::new("VirtualMachine", "1"),
            name: "vm".to_owned(),
            power,
            connection: "connected".to_owned(),
            instance_uuid: Some("52a1f2d4-0000-4000-8000-000000000001".to_owned()),
            bios_uuid: None,
            config_file: Some("[ds one] vm/vm.vmx".to_owned()),
            hardware_version: None,
            template: false,
        }
    }

    #[test]
    fn a_power_state_nobody_knows_never_proves_that_a_vm_is_off() {
        for (word, power) in [
            ("poweredOn", Power::On),
            ("poweredOff", Power::Off),
            ("suspended", Power::Suspended),
            ("", Power::On),
            ("hibernated", Power::On),
        ] {
            let known = identified(summary(PowerState::read(word))).unwrap();
            assert_eq!(known.vm.power, power, "{word}");
            assert_eq!(known.vm.home.unwrap().as_str(), "ds one");
        }
    }

    #[test]
    fn a_vm_that_cannot_be_read_has_no_identity() {
        let mut blind = summary(PowerState::On);
        blind.instance_uuid = None;
        assert!(identified(blind).is_none());
        let mut template = summary(PowerState::Off);
        template.template = true;
        assert!(identified(template).is_none());
    }
}
