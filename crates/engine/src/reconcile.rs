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
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use vdvs_domain::{DatastoreName, Error, Ownership, VmId};

use crate::api::Actor;
use crate::inner::{Inner, locked};
use crate::keyed::Key;
use crate::layout;
use crate::plan::OwnerState;
use crate::ports::{DiskPath, HostError, Power, Vm};
use crate::records::Stored;

/// Volumes worked on at once, per datastore.
const AT_ONCE: usize = 4;
/// Longest pass over the VMs' disks before the next event is looked at.
const PASS: Duration = Duration::from_secs(10);

impl Inner {
    /// Runs until cancelled.
    pub(crate) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.follow_host() => {}
            () = self.sweep_regularly() => {}
        }
    }

    /// Each datastore by itself: one that hangs is left alone until its sweep comes back.
    async fn sweep_regularly(self: &Arc<Self>) {
        let mut sweeps = JoinSet::new();
        let mut busy = HashSet::new();
        loop {
            while let Some(done) = sweeps.try_join_next() {
                match done {
                    Ok(ds) => drop(busy.remove(&ds)),
                    Err(why) => tracing::error!(%why, "a sweep ended by a defect"),
                }
            }
            for ds in self.readable().await {
                if busy.insert(ds.clone()) {
                    let me = Arc::clone(self);
                    sweeps.spawn(async move {
                        me.sweep_datastore(&ds).await;
                        ds
                    });
                }
            }
            self.power_pass().await;
            sleep(self.settings.sweep).await;
        }
    }

    async fn readable(&self) -> Vec<DatastoreName> {
        match self.datastores().await {
            Ok(list) => list
                .into_iter()
                .filter(|d| d.accessible)
                .map(|d| d.name)
                .collect(),
            Err(why) => {
                self.said.once("datastores".to_owned(), &why.to_string());
                Vec::new()
            }
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
                    self.power_pass().await;
                }
                Err(why) => {
                    self.said.once("host events".to_owned(), &why.to_string());
                    sleep(self.settings.poll).await;
                }
            }
        }
    }

    /// Everything once.
    pub(crate) async fn sweep(self: &Arc<Self>) {
        let datastores = self.readable().await;
        join_all(datastores.iter().map(|ds| self.sweep_datastore(ds))).await;
        self.power_pass().await;
    }

    async fn sweep_datastore(self: &Arc<Self>, ds: &DatastoreName) {
        let subject = format!("sweep of {ds}");
        match Box::pin(self.sweep_steps(ds)).await {
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

    /// Looks at what the VMs have in their configurations. Each disk by itself, and not longer than [`PASS`]: what a
    /// hanging datastore keeps busy goes on in its own task, and the pass after it does not start it again.
    pub(crate) async fn power_pass(self: &Arc<Self>) {
        let vms = match self.ports.host.vms().await {
            Ok(vms) => vms,
            Err(why) => {
                self.said.once("list of VMs".to_owned(), &why.to_string());
                return;
            }
        };
        self.said.well("list of VMs");
        let mut looks = Vec::new();
        for vm in vms {
            let subject = format!("disks of VM {}", vm.name);
            match self.ports.host.disks(&vm.id).await {
                Ok(disks) => {
                    self.said.well(&subject);
                    looks.extend(disks.into_iter().map(|d| (vm.clone(), d.disk)));
                }
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
    async fn look_at(self: &Arc<Self>, vm: &Vm, disk: &DiskPath) -> Result<Option<String>, Error> {
        let Some(place) = layout::place_of_disk(disk) else {
            let ours = disk
                .path
                .as_str()
                .starts_with(&format!("{}/", layout::DOCKVOLS));
            return Ok(ours.then(|| "it belongs to no volume of ours".to_owned()));
        };
        let off = vm.power == Power::Off;
        match self.answering(&place.ds, self.read_record(&place)).await? {
            None => return Ok(Some("it has no record".to_owned())),
            Some(stored) if stored.record.operation.is_some() => self.resolve_one(&stored).await?,
            Some(stored) if stored.record.ownership.is_owned_by(&vm.id) => {
                if off {
                    self.release_if_off(&stored).await?;
                }
            }
            Some(stored) if off => self.take_out(vm, &stored).await?,
            Some(stored) => {
                return Ok(Some(format!(
                    "it is attached, but its record says {}",
                    stored.record.ownership
                )));
            }
        }
        Ok(None)
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
