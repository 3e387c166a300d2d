//! Differences between the records and what the VMs of this host have, each with a name and a safe repair.
//!
//! | name | what it is | repair |
//! |---|---|---|
//! | `unfinished-operation` | a record says that something is under way, and nobody is at it | finished or undone by looking (`resolve`) |
//! | `powered-off-owner` | the owner is off | the disk is taken out of its configuration, the volume is free |
//! | `vanished-disk` | the owner runs without the disk | the volume is free |
//! | `moved-owner` | the owner runs here, and its record names another host | the record names this one |
//! | `foreign-disk` | a VM has a disk whose record does not name it | off: taken out before the VM can boot. Running: its guest is told, and the disk is taken out unless the host sees it in use; then it stays and is reported. Suspended: it stays |
//! | `unknown-disk` | a VM has a disk below `dockvols` that has no record | reported. There is no such disk any more, its volume having been removed while this host was away. Off: taken out, since it keeps the VM from starting. Running: taken out unless the host sees it in use; then it stays and is reported. Suspended: it stays |
//!
//! A repair looks again under the volume's key before it acts, and leaves a row in the audit that begins with the name.
//! The device list is the truth about what is attached; the record is the truth about whose it is.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vdvs_domain::ownership::Event;
use vdvs_domain::{DatastoreName, Error, VmId};

use crate::api::Actor;
use crate::inner::{Inner, locked, unavailable};
use crate::keyed::Key;
use crate::layout::{self, Place};
use crate::plan::OwnerState;
use crate::ports::{Detached, DiskPath, HostError, Power, StorageError, Vm};
use crate::records::{Change, Stored};
use crate::release::Taken;

/// Longest pass over the VMs' disks before the next event is looked at.
const PASS: Duration = Duration::from_secs(10);

/// A VM of this host in one look.
#[derive(Debug)]
pub(crate) struct Seen {
    power: Power,
    /// `None`: the host could not say.
    disks: Option<HashSet<DiskPath>>,
}

/// The VMs of this host in one look.
pub(crate) type Here = HashMap<VmId, Seen>;

fn host_failed(verb: &'static str) -> impl FnOnce(HostError) -> Error {
    move |why| Error::HostFailed {
        verb,
        why: why.to_string(),
    }
}

impl Inner {
    /// The VMs of this host with their disks.
    pub(crate) async fn here(&self) -> Result<Here, Error> {
        let vms = self.ports.host.vms().await;
        let mut here = Here::new();
        for vm in vms.map_err(host_failed("list its VMs"))? {
            let disks = self.ports.host.disks(&vm.id).await.ok();
            let disks = disks.map(|list| list.into_iter().map(|d| d.disk).collect());
            here.insert(
                vm.id,
                Seen {
                    power: vm.power,
                    disks,
                },
            );
        }
        Ok(here)
    }

    /// A volume whose owner is off, or whose disk is gone from its VM, is released.
    pub(crate) async fn check_attached_disk(
        self: &Arc<Self>,
        stored: &Stored,
        vm: &Seen,
    ) -> Result<(), Error> {
        let disk = stored.place.disk();
        let gone = vm.disks.as_ref().is_some_and(|d| !d.contains(&disk));
        match vm.power {
            Power::Off => self.release_if_off(stored).await,
            Power::On if gone => self.release_if_vanished(stored).await,
            Power::On | Power::Suspended => self.follow_owner(stored).await,
        }
    }

    /// *powered-off-owner*
    pub(crate) async fn release_if_off(self: &Arc<Self>, stored: &Stored) -> Result<(), Error> {
        let key = self
            .keys
            .hold(Key::Volume(stored.record.id), "release")
            .await;
        let Some(now) = self.read_record(&stored.place).await? else {
            return Ok(());
        };
        if !now.record.exists() || now.record.operation.is_some() {
            return Ok(());
        }
        if self.owner_state_of(&now).await? != OwnerState::Here(Power::Off) {
            return Ok(());
        }
        let me = Arc::clone(self);
        self.to_the_end(async move {
            let _key = key;
            me.release_powered_off(&now).await.map(drop)
        })
        .await
    }

    /// *vanished-disk*: the device list is the truth, a disk that is not in it is not attached.
    pub(crate) async fn release_if_vanished(&self, stored: &Stored) -> Result<(), Error> {
        let listing = "list the VM's disks";
        let present = self.disk_in(stored).await;
        if present.map_err(host_failed(listing))?.is_some() {
            return Ok(());
        }
        let _key = self
            .keys
            .hold(Key::Volume(stored.record.id), "vanished")
            .await;
        let now = self.read_existing(&stored.place).await?;
        if !now.record.same_attachment(&stored.record)
            || self
                .disk_in(&now)
                .await
                .map_err(host_failed(listing))?
                .is_some()
        {
            return Ok(());
        }
        let taken = Taken::by_proof("vanished-disk: its disk was gone from the VM");
        self.released(&now, taken).await.map(drop)
    }

    /// *moved-owner*: its VM is here now, after vMotion or a restart by HA. Only the agent of the host that the record
    /// names, or of the host where the VM is, does anything to it, so the record follows.
    pub(crate) async fn follow_owner(&self, stored: &Stored) -> Result<(), Error> {
        let Some(owner) = stored.record.ownership.owner() else {
            return Ok(());
        };
        if owner.host == self.host {
            return Ok(());
        }
        let _key = self.keys.hold(Key::Volume(stored.record.id), "moved").await;
        let now = self.read_existing(&stored.place).await?;
        let here = matches!(
            self.owner_state_of(&now).await?,
            OwnerState::Here(Power::On | Power::Suspended)
        );
        if !here || !now.record.same_attachment(&stored.record) {
            return Ok(());
        }
        let before = self.holder(owner);
        let (host, name) = (self.host, self.host_name(self.host));
        let moved = self
            .change(&now.place, |record| {
                if !record.same_attachment(&now.record) || record.operation.is_some() {
                    return Ok(Change::Keep);
                }
                let mut next = record.clone();
                next.ownership = record.ownership.apply(Event::Moved(host, name.clone()))?;
                Ok(next.into())
            })
            .await?;
        if moved
            .record
            .ownership
            .owner()
            .is_some_and(|o| o.host == host)
        {
            let detail = format!("moved-owner: was {before}, runs here now");
            let (name, id) = (now.name().to_string(), Some(now.record.id));
            self.audit(Actor::Reconciler, "follow", name, id, detail)
                .await;
        }
        Ok(())
    }

    /// Looks at what these VMs have in their configurations. Each disk by itself, and not longer than [`PASS`]: what a
    /// hanging datastore keeps busy goes on in its own task, and the pass after it does not start it again.
    pub(crate) async fn look_at_vms(self: &Arc<Self>, vms: Vec<Vm>) {
        let mut looks = Vec::new();
        for vm in vms {
            let subject = format!("disks of VM {}", vm.name);
            match self.ports.host.disks(&vm.id).await {
                Ok(disks) => {
                    self.said.well(&subject);
                    looks.extend(disks.into_iter().map(|d| (vm.clone(), d.disk)));
                }
                // Unregistered meanwhile: another event tells.
                Err(HostError::NoSuchVm { .. }) => {}
                Err(why) => self.said.once(subject, &why.to_string()),
            }
        }
        let looks = looks
            .into_iter()
            .filter_map(|(vm, disk)| self.start_look(vm, disk));
        let done = timeout(PASS, join_all(looks.collect::<Vec<_>>())).await;
        if done.is_err() {
            tracing::debug!("some disks are still being looked at");
        }
    }

    fn start_look(self: &Arc<Self>, vm: Vm, disk: DiskPath) -> Option<JoinHandle<()>> {
        if !locked(&self.looking).insert((vm.id.clone(), disk.clone())) {
            return None;
        }
        let me = Arc::clone(self);
        Some(self.task(async move {
            let subject = format!("{disk} in VM {}", vm.name);
            match Box::pin(me.look_at(&vm, &disk)).await {
                Ok(None) => me.said.well(&subject),
                Ok(Some(odd)) => me.said.once(subject, &odd),
                Err(Error::Contended { .. } | Error::VolumeNotFound { .. }) => {}
                Err(why) => me.said.once(subject, &why.to_string()),
            }
            locked(&me.looking).remove(&(vm.id, disk));
        }))
    }

    /// Releases what an off VM holds, takes out of its configuration what is no longer its own, and says what no
    /// record explains.
    pub(crate) async fn look_at(
        self: &Arc<Self>,
        vm: &Vm,
        disk: &DiskPath,
    ) -> Result<Option<String>, Error> {
        let Some(place) = layout::place_of_disk(disk) else {
            let ours = disk
                .path
                .as_str()
                .starts_with(&format!("{}/", layout::DOCKVOLS));
            return Ok(ours.then(|| "unknown-disk: it belongs to no volume of ours".to_owned()));
        };
        let Some(stored) = self.answering(&place.ds, self.read_record(&place)).await? else {
            return self.take_out_if_gone(vm, &place).await;
        };
        let own = stored.record.ownership.is_owned_by(&vm.id);
        if own {
            self.watch_if(true, &stored);
        }
        match (own, vm.power) {
            (true, _) if stored.record.operation.is_some() => self.resolve_one(&stored).await?,
            (true, Power::Off) => self.release_if_off(&stored).await?,
            (true, Power::On | Power::Suspended) => self.follow_owner(&stored).await?,
            // No volume yet, or no longer one: whoever is at it looks at the disk.
            (false, _) if !stored.record.exists() => {}
            (false, _) => return self.take_out(vm, &stored).await,
        }
        Ok(None)
    }

    /// *unknown-disk*: it has no record. Where there is no disk either, its volume was removed while this host was away
    /// and the lock had lapsed. Nothing attaches a disk that is not there, so under the VM's key this is never one that
    /// is about to be the VM's; a datastore that cannot be looked at says nothing.
    async fn take_out_if_gone(&self, vm: &Vm, place: &Place) -> Result<Option<String>, Error> {
        let odd = |why: &str| Ok(Some(format!("unknown-disk: it has no record{why}")));
        let _queue = self.keys.hold(Key::Vm(vm.id.clone()), "take out").await;
        let state = self.owner_state(&vm.id).await?;
        // Before the disk is looked for and after its record was: neither is missed where all is out of sight.
        let ours = self
            .answering(&place.ds, self.shows_ours(&place.ds))
            .await?;
        let there = self.answering(&place.ds, self.disk_is_there(place)).await?;
        if there {
            return odd("");
        }
        let how = match state {
            OwnerState::Here(Power::Off) => "which is off",
            OwnerState::Here(Power::On | Power::Suspended) if !ours => {
                return odd(
                    "; neither is its disk there, but nothing of ours is on its datastore now",
                );
            }
            OwnerState::Here(Power::On) => "which runs",
            OwnerState::Here(Power::Suspended) => {
                return odd(
                    " and the disk is gone, but its VM is suspended; it goes when that is off",
                );
            }
            OwnerState::NotHere | OwnerState::None => return Ok(None),
        };
        let (disk, deadline) = (place.disk(), self.host_deadline());
        match self.ports.host.detach(&vm.id, &disk, deadline).await {
            Ok(Detached::Removed) => {}
            // It left the VM as its volume was removed, after the list of disks that this look began with.
            Ok(Detached::WasAbsent) => return Ok(None),
            Err(HostError::Busy) => {
                return odd(
                    " and the disk is gone, but its VM uses it; stop what uses it there, or power the VM off",
                );
            }
            Err(why) => {
                return Err(host_failed("take a disk that is gone out of a VM")(why));
            }
        }
        let detail = format!(
            "unknown-disk: taken out of VM {}, {how}; the disk is gone",
            vm.name
        );
        self.audit(
            Actor::Reconciler,
            "take out",
            disk.to_string(),
            None,
            detail,
        )
        .await;
        Ok(None)
    }

    /// Whether a marker is there, which every datastore of ours keeps for ever. An export whose file system is not
    /// mounted on its server looks empty, and what running VMs have of it is alive when it is back.
    async fn shows_ours(&self, ds: &DatastoreName) -> Result<bool, Error> {
        let (store, own) = (&self.ports.datastores, layout::own_dir());
        match store.read_dir_starting(ds, &own, layout::MARKER).await {
            Ok(markers) => Ok(!markers.is_empty()),
            Err(StorageError::NotFound(_)) => Ok(false),
            Err(why) => Err(unavailable(ds, &why)),
        }
    }

    /// *foreign-disk*: another VM's, or nobody's. Also while something is under way with its owner: nothing of that
    /// concerns this VM, and the owner's host may be gone for good, while this VM's lock keeps everybody else out. A VM
    /// has a disk only while the record names it, so under the volume's key this is never a disk that is just attached.
    async fn take_out(self: &Arc<Self>, vm: &Vm, stored: &Stored) -> Result<Option<String>, Error> {
        let volume = stored.record.id;
        let _key = self.keys.hold(Key::Volume(volume), "take out").await;
        let now = self.read_existing(&stored.place).await?;
        if !now.record.exists() || now.record.ownership.is_owned_by(&vm.id) {
            return Ok(None);
        }
        let odd = |why: &str| {
            Some(format!(
                "foreign-disk: its record says {}, and {why}",
                now.record.ownership
            ))
        };
        let how = match self.owner_state(&vm.id).await? {
            OwnerState::Here(Power::Off) => "which is off",
            OwnerState::Here(Power::On) => {
                self.notices.superseded(&vm.id, volume, now.record.epoch);
                "which runs"
            }
            OwnerState::Here(Power::Suspended) => {
                return Ok(odd(
                    "its VM is suspended; it goes when that is resumed or off",
                ));
            }
            OwnerState::NotHere | OwnerState::None => return Ok(None),
        };
        let _queue = self.keys.hold(Key::Vm(vm.id.clone()), "take out").await;
        let (disk, deadline) = (now.place.disk(), self.host_deadline());
        match self.ports.host.detach(&vm.id, &disk, deadline).await {
            Ok(_) => {}
            Err(HostError::Busy) => {
                return Ok(odd(
                    "its VM uses it; stop what uses it there, or power the VM off",
                ));
            }
            Err(why) => {
                return Err(host_failed("take a disk out of a VM that does not own it")(
                    why,
                ));
            }
        }
        let detail = format!(
            "foreign-disk: taken out of VM {}, {how} and does not own it",
            vm.name
        );
        let (name, id) = (now.name().to_string(), Some(volume));
        self.audit(Actor::Reconciler, "take out", name, id, detail)
            .await;
        Ok(None)
    }
}
