//! Whose a disk is that has no record.
//!
//! | seen | said |
//! |---|---|
//! | one VM of this host has it in its configuration | it is attached there |
//! | several have | nobody can say |
//! | none has, and the damaged record named a VM that is not registered here | that VM still owns it: who wants it needs proof, as ever |
//! | none has, the lock reads free all through the time of a proof, and no other host tells of a suspended VM | nobody's |
//! | none has, the lock is held | nobody can say: its VM's host can |
//! | the host cannot tell its VMs' disks | nobody can say |
//!
//! A VM of another host that is off and has the disk loses nothing when the volume is called free: its agent takes the
//! disk out before it boots. A suspended one would write again, so as long as another host tells of one, or cannot be
//! understood, an administrator has to say that none has it.

use std::collections::BTreeMap;

use tokio::time::sleep;
use vdvs_domain::{Error, Owner, VmId, VmRef, VolumeAddress};

use super::catalog::Catalog;
use super::salvage::{self, Salvage};
use crate::inner::Inner;
use crate::layout::Place;
use crate::ports::{DiskLock, Vm, VmDisk};

/// Who has a disk.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Whose {
    /// A VM: by its configuration, or because the record said so and nothing here speaks against it.
    Vm(Box<Owner>),
    /// Nobody.
    Nobodys,
    /// Nobody can say, and what would tell.
    InDoubt(String),
}

/// What is known beside the files.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    pub(super) whose: Whose,
    pub(super) salvage: Salvage,
}

type Here = Vec<(Vm, Vec<VmDisk>)>;

impl Inner {
    /// What is known of the disks whose records are to be made anew. Where a free lock decides, and something is to be
    /// repaired, it is watched as long as a proof takes.
    pub(super) async fn evidence(
        &self,
        catalog: &Catalog,
        places: &[&Place],
        nobodys: &[VolumeAddress],
        repair: bool,
    ) -> Result<BTreeMap<Place, Evidence>, Error> {
        let mut found = BTreeMap::new();
        if places.is_empty() {
            return Ok(found);
        }
        let here = self.disks_here().await;
        let doubt = self.suspended_elsewhere().await;
        for place in places {
            let salvage = salvage::of(&self.newest_bytes(place).await?);
            let named = |a: &&VolumeAddress| {
                a.name == place.name && a.datastore.as_ref() == Some(&catalog.ds)
            };
            let vouched = nobodys.iter().any(|a| named(&a));
            let whose = match &here {
                Err(why) => Whose::InDoubt(why.clone()),
                Ok(here) => {
                    self.whose(here, place, &salvage, vouched, doubt.as_deref())
                        .await
                }
            };
            found.insert((*place).clone(), Evidence { whose, salvage });
        }
        if repair {
            self.prove(&mut found).await;
        }
        Ok(found)
    }

    /// The VMs of this host with their disks, or why nobody can say.
    async fn disks_here(&self) -> Result<Here, String> {
        let failed = |why: &dyn ToString| {
            format!(
                "this host cannot tell its VMs' disks ({}); try again",
                why.to_string()
            )
        };
        let vms = self.ports.host.vms().await.map_err(|why| failed(&why))?;
        let mut here = Vec::with_capacity(vms.len());
        for vm in vms {
            let disks = self.ports.host.disks(&vm.id).await;
            here.push((vm, disks.map_err(|why| failed(&why))?));
        }
        Ok(here)
    }

    /// Why a free lock may hide that a VM of another host has a disk.
    async fn suspended_elsewhere(&self) -> Option<String> {
        let others = self.others().await;
        for file in others.files.iter().filter(|f| f.host != self.host) {
            let mut sleeping = file
                .vms
                .iter()
                .filter(|vm| salvage::sleeps(vm.power.into()));
            if let Some(vm) = sleeping.next() {
                return Some(format!("VM {} on host {} is suspended", vm.name, file.name));
            }
        }
        let strange = others.strange.iter().find(|(host, _)| *host != self.host);
        strange.map(|(host, _)| format!("what host {host} tells cannot be understood"))
    }

    async fn whose(
        &self,
        here: &Here,
        place: &Place,
        salvage: &Salvage,
        vouched: bool,
        doubt: Option<&str>,
    ) -> Whose {
        let disk = place.disk();
        let has = |(vm, disks): &'_ (Vm, Vec<VmDisk>)| {
            let found = disks.iter().find(|d| d.disk == disk)?;
            Some((vm.clone(), found.clone()))
        };
        let holders: Vec<_> = here.iter().filter_map(has).collect();
        match holders.as_slice() {
            [(vm, disk)] => return Whose::Vm(Box::new(self.owner_now(vm, disk))),
            [(one, _), (other, _), ..] => {
                return Whose::InDoubt(format!(
                    "VMs {} and {} both have it in their configuration; take it out of one of them",
                    one.name, other.name
                ));
            }
            [] => {}
        }
        let is_here = |id: &VmId| here.iter().any(|(vm, _)| vm.id == *id);
        match &salvage.owner {
            Some(owner) if !vouched && !is_here(&owner.vm.id) => {
                return Whose::Vm(Box::new(owner.clone()));
            }
            _ => {}
        }
        match (self.ports.host.lock(&disk).await, doubt) {
            (DiskLock::Held { by }, _) => Whose::InDoubt(format!(
                "no VM of this host has it, and it is open by {by}; run fsck on the host of the VM that has it"
            )),
            (DiskLock::Unknown { why }, _) if !vouched && !self.is_alone().await => {
                Whose::InDoubt(format!(
                    "no VM of this host has it, and whether another host's has cannot be seen ({why}); {}",
                    vouch(place)
                ))
            }
            (_, Some(doubt)) if !vouched => Whose::InDoubt(format!(
                "no VM of this host has it and nobody has it open, but {doubt}; run fsck there, or {}",
                vouch(place)
            )),
            _ => Whose::Nobodys,
        }
    }

    /// No other host tells anything on the datastores of this one.
    async fn is_alone(&self) -> bool {
        let others = self.others().await;
        let nobody = others.files.iter().all(|f| f.host == self.host);
        nobody && others.strange.is_empty() && others.unread.is_empty()
    }

    fn owner_now(&self, vm: &Vm, disk: &VmDisk) -> Owner {
        Owner {
            vm: VmRef {
                id: vm.id.clone(),
                name: vm.name.clone(),
            },
            host: self.host,
            host_name: self.host_name(self.host),
            since: self.now(),
            read_only: disk.read_only,
            locator: disk.locator.clone(),
        }
    }

    /// Watches the locks of what seems to be nobody's, and looks at the VMs again.
    async fn prove(&self, found: &mut BTreeMap<Place, Evidence>) {
        let free = |e: &Evidence| e.whose == Whose::Nobodys;
        if !found.values().any(free) {
            return;
        }
        let begun = self.instant();
        while self.instant().saturating_duration_since(begun) < self.settings.free_proof {
            sleep(self.settings.poll).await;
            for (place, evidence) in found.iter_mut().filter(|(_, e)| free(e)) {
                if let DiskLock::Held { by } = self.ports.host.lock(&place.disk()).await {
                    evidence.whose =
                        Whose::InDoubt(format!("it was opened by {by} meanwhile; run fsck again"));
                }
            }
        }
        let here = self.disks_here().await;
        for (place, evidence) in found.iter_mut().filter(|(_, e)| free(e)) {
            let disk = place.disk();
            let taken = match &here {
                Err(why) => Some(why.clone()),
                Ok(here) => here
                    .iter()
                    .find(|(_, disks)| disks.iter().any(|d| d.disk == disk))
                    .map(|(vm, _)| {
                        format!("VM {} came with it meanwhile; run fsck again", vm.name)
                    }),
            };
            if let Some(why) = taken {
                evidence.whose = Whose::InDoubt(why);
            }
        }
    }
}

fn vouch(place: &Place) -> String {
    format!(
        "if you know that no VM of any host has it: vdvs fsck --repair --nobody-has {}@{}",
        place.name, place.ds
    )
}
