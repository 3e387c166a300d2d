//! The reconciler: what nobody asked for and must be done all the same.
//!
//! | trigger | step |
//! |---|---|
//! | start | resolve the operations that records on readable datastores say are under way, each volume by itself |
//! | host event | *power pass*: volumes of VMs that are off are released, also when nobody waits for them |
//! | every sweep | all of the above; *vanished* disks; *leftovers* of creates; ledgers |
//!
//! A difference it may not repair is reported once, and again when it changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vdvs_domain::{DatastoreName, Error, Ownership, VmId};

use crate::api::Actor;
use crate::inner::Inner;
use crate::keyed::Key;
use crate::layout;
use crate::plan::OwnerState;
use crate::ports::{HostError, Power, Vm};
use crate::records::Stored;

/// Volumes worked on at once, per datastore.
const AT_ONCE: usize = 4;

impl Inner {
    /// Runs until cancelled.
    pub(crate) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let me = &self;
        let events = me.follow_host();
        let sweeps = async {
            loop {
                Box::pin(me.sweep()).await;
                sleep(me.settings.sweep).await;
            }
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = events => {}
            () = sweeps => {}
        }
    }

    /// Host events wake the waiters and start a power pass.
    async fn follow_host(self: &Arc<Self>) {
        let mut generation = 0;
        loop {
            let now = self.instant();
            let deadline = now.checked_add(self.settings.sweep).unwrap_or(now);
            match self.ports.host.changed(generation, deadline).await {
                Ok(same) if same == generation => {}
                Ok(new) => {
                    generation = new;
                    self.said.well("host events");
                    self.notices.changed();
                    Box::pin(self.power_pass()).await;
                }
                Err(why) => {
                    self.said.once("host events".to_owned(), &why.to_string());
                    sleep(self.settings.poll).await;
                }
            }
        }
    }

    /// Everything once. Each datastore by itself, so that a hanging one stops nobody else.
    pub(crate) async fn sweep(self: &Arc<Self>) {
        let datastores = match self.datastores().await {
            Ok(list) => list,
            Err(why) => {
                self.said.once("datastores".to_owned(), &why.to_string());
                return;
            }
        };
        let readable = datastores.into_iter().filter(|d| d.accessible);
        join_all(readable.map(|d| self.sweep_datastore(d.name))).await;
        self.power_pass().await;
    }

    async fn sweep_datastore(self: &Arc<Self>, ds: DatastoreName) {
        let subject = format!("sweep of {ds}");
        match self.sweep_steps(&ds).await {
            Ok(()) => self.said.well(&subject),
            Err(why) => self.said.once(subject, &why.to_string()),
        }
    }

    async fn sweep_steps(self: &Arc<Self>, ds: &DatastoreName) -> Result<(), Error> {
        let records = self.answering(ds, self.records_on(ds)).await?;
        stream::iter(&records)
            .for_each_concurrent(AT_ONCE, async |stored| self.sweep_volume(stored).await)
            .await;
        for group in self.groups_on(ds).await? {
            self.sweep_leftovers(ds, group).await?;
            self.repair_ledger(ds, group).await?;
        }
        Ok(())
    }

    async fn sweep_volume(self: &Arc<Self>, stored: &Stored) {
        let subject = Self::subject(&stored.name());
        let done = match (&stored.record.operation, &stored.record.ownership) {
            (Some(_), _) => self.resolve_one(stored).await,
            (None, Ownership::Attached { .. }) => self.check_attached_disk(stored).await,
            _ => Ok(()),
        };
        match done {
            Ok(()) => self.said.well(&subject),
            // Somebody else changed it meanwhile: nothing to report.
            Err(Error::Contended { .. } | Error::VolumeNotFound { .. }) => {}
            Err(why) => self.said.once(subject, &why.to_string()),
        }
    }

    /// A volume whose owner is off, or whose disk is gone from its VM, is released.
    async fn check_attached_disk(self: &Arc<Self>, stored: &Stored) -> Result<(), Error> {
        let Some(owner) = stored.record.ownership.owner() else {
            return Ok(());
        };
        match self.owner_state(&owner.vm.id).await? {
            OwnerState::Here(Power::Off) => self.release_if_off(stored).await,
            OwnerState::Here(Power::On) => self.release_if_vanished(stored).await,
            _ => Ok(()),
        }
    }

    async fn release_if_off(self: &Arc<Self>, stored: &Stored) -> Result<(), Error> {
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
        let off = OwnerState::Here(Power::Off);
        if now.record.ownership.owner().is_none() || self.owner_state_of(&now.record).await? != off
        {
            return Ok(());
        }
        let me = Arc::clone(self);
        self.to_the_end(async move {
            let _key = key;
            me.release_powered_off(&now).await.map(drop)
        })
        .await
    }

    /// The device list is the truth: a disk that is not in it is not attached.
    async fn release_if_vanished(&self, stored: &Stored) -> Result<(), Error> {
        let host_failed = |why: HostError| Error::HostFailed {
            verb: "list the VM's disks",
            why: why.to_string(),
        };
        if self.disk_in(stored).await.map_err(host_failed)?.is_some() {
            return Ok(());
        }
        let _key = self
            .keys
            .hold(Key::Volume(stored.record.id), "vanished")
            .await;
        let now = self.read_existing(&stored.place).await?;
        if now.record != stored.record || self.disk_in(&now).await.map_err(host_failed)?.is_some() {
            return Ok(());
        }
        self.released(&now, "its disk was gone from the VM")
            .await
            .map(drop)
    }

    /// Looks at what VMs that are off have in their configuration.
    pub(crate) async fn power_pass(self: &Arc<Self>) {
        let vms = match self.ports.host.vms().await {
            Ok(vms) => vms,
            Err(why) => {
                self.said.once("list of VMs".to_owned(), &why.to_string());
                return;
            }
        };
        self.said.well("list of VMs");
        for vm in &vms {
            let subject = format!("disks of VM {}", vm.name);
            match self.look_at_disks(vm).await {
                Ok(None) => self.said.well(&subject),
                Ok(Some(odd)) => self.said.once(subject, &odd),
                Err(why) => self.said.once(subject, &why.to_string()),
            }
        }
    }

    /// Releases what an off VM holds, takes out of its configuration what is no longer its own, and names what no
    /// record explains.
    async fn look_at_disks(self: &Arc<Self>, vm: &Vm) -> Result<Option<String>, Error> {
        let disks = self.ports.host.disks(&vm.id).await;
        let disks = disks.map_err(|why| Error::HostFailed {
            verb: "list the VM's disks",
            why: why.to_string(),
        })?;
        let mut odd = Vec::new();
        for disk in disks {
            let ours = disk
                .disk
                .path
                .as_str()
                .starts_with(&format!("{}/", layout::DOCKVOLS));
            let Some(place) = layout::place_of_disk(&disk.disk) else {
                if ours {
                    odd.push(format!("{} belongs to no volume", disk.disk));
                }
                continue;
            };
            let read = self.answering(&place.ds, self.read_record(&place)).await?;
            match read {
                Some(stored) if stored.record.operation.is_some() => {
                    // Its own key and its own answer: an unresolved operation is the sweep's business too.
                    if let Err(why) = self.resolve_one(&stored).await {
                        self.said
                            .once(Self::subject(&stored.name()), &why.to_string());
                    }
                }
                Some(stored) if stored.record.ownership.is_owned_by(&vm.id) => {
                    if vm.power == Power::Off {
                        self.release_if_off(&stored).await?;
                    }
                }
                Some(stored) if vm.power == Power::Off => {
                    self.take_out(vm, &stored).await?;
                }
                Some(stored) => odd.push(format!(
                    "{} is attached, but its record says {}",
                    stored.name(),
                    stored.record.ownership
                )),
                None => odd.push(format!("{} has no record", disk.disk)),
            }
        }
        odd.sort();
        Ok((!odd.is_empty()).then(|| odd.join("; ")))
    }

    /// Removes a disk that is another's from the configuration of a VM that is off, before it can boot with it.
    async fn take_out(self: &Arc<Self>, vm: &Vm, stored: &Stored) -> Result<(), Error> {
        let _key = self
            .keys
            .hold(Key::Volume(stored.record.id), "take out")
            .await;
        let now = self.read_existing(&stored.place).await?;
        let still_off = self.owner_state(&vm.id).await? == OwnerState::Here(Power::Off);
        if now.record.operation.is_some() || now.record.ownership.is_owned_by(&vm.id) || !still_off
        {
            return Ok(());
        }
        let _queue = self.keys.hold(Key::Vm(vm.id.clone()), "take out").await;
        let (disk, deadline) = (now.place.disk(), self.host_deadline());
        let detached = self.ports.host.detach(&vm.id, &disk, deadline).await;
        detached.map_err(|why| Error::HostFailed {
            verb: "take a disk out of a VM that is off",
            why: why.to_string(),
        })?;
        let detail = format!(
            "from the configuration of VM {}, which is off and does not own it",
            vm.name
        );
        let (name, id) = (now.name().to_string(), Some(now.record.id));
        self.audit(Actor::Reconciler, "take out", name, id, detail)
            .await;
        Ok(())
    }

    /// The volumes held by each VM, over all readable datastores.
    pub(crate) async fn held_by_all(&self) -> Result<HashMap<VmId, Vec<String>>, Error> {
        let mut held: HashMap<VmId, Vec<String>> = HashMap::new();
        let mut seen = HashSet::new();
        for ds in self
            .datastores()
            .await?
            .into_iter()
            .filter(|d| d.accessible)
        {
            let Ok(records) = self.answering(&ds.name, self.records_on(&ds.name)).await else {
                continue;
            };
            for stored in records {
                if let Some(owner) = stored.record.ownership.owner()
                    && seen.insert(stored.record.id)
                {
                    held.entry(owner.vm.id.clone())
                        .or_default()
                        .push(stored.name().to_string());
                }
            }
        }
        for names in held.values_mut() {
            names.sort();
        }
        Ok(held)
    }
}
