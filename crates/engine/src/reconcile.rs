//! The reconciler: what nobody asked for and must be done all the same.
//!
//! | trigger | step |
//! |---|---|
//! | start | resolve the operations that records on readable datastores say are under way, each volume by itself |
//! | host event | the disks of the VMs that changed (see `differences`): volumes of VMs that are off are released, also when nobody waits for them |
//! | half a second | the records of the volumes that VMs of this host hold: does another host want one (see `wanted`) |
//! | every sweep | all of the above for all VMs; *leftovers* of creates; ledgers |
//!
//! A difference it may not repair is reported once, and again when it changes.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use vdvs_domain::error::full_name;
use vdvs_domain::{DatastoreName, Error, Ownership, VmId, VolumeRecord};

use crate::differences::Here;
use crate::inner::{Inner, locked};
use crate::ports::{Power, Vm};
use crate::records::Stored;

/// Volumes worked on at once, per datastore.
const AT_ONCE: usize = 4;

impl Inner {
    /// Runs until cancelled.
    pub(crate) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        tokio::select! {
            biased;
            () = cancel.cancelled() => {}
            () = self.follow_host() => {}
            () = self.follow_claims() => {}
            () = self.sweep_regularly() => {}
            () = self.follow_transfers() => {}
            () = self.tell_others() => {}
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

    /// Host events wake who waits for what the changed VMs hold, and their disks are looked at.
    async fn follow_host(self: &Arc<Self>) {
        let mut generation = 0;
        loop {
            let now = self.instant();
            let deadline = now.checked_add(self.settings.sweep).unwrap_or(now);
            match self.ports.host.changed(generation, deadline).await {
                Ok(same) if same == generation => {}
                Ok(new) => {
                    self.said.well("host events");
                    if self.host_event().await {
                        generation = new;
                    } else {
                        generation = 0;
                        sleep(self.settings.poll).await;
                    }
                }
                Err(why) => {
                    self.said.once("host events".to_owned(), &why.to_string());
                    sleep(self.settings.poll).await;
                }
            }
        }
    }

    /// `false`: the host could not say which VMs changed.
    async fn host_event(self: &Arc<Self>) -> bool {
        let Some(vms) = self.vms_or_say().await else {
            return false;
        };
        let now: HashMap<VmId, Power> = vms.iter().map(|v| (v.id.clone(), v.power)).collect();
        let before = mem::replace(&mut *locked(&self.vms_seen), now.clone());
        let differs = |vm: &&VmId| before.get(*vm) != now.get(*vm);
        let changed: HashSet<VmId> = before
            .keys()
            .chain(now.keys())
            .filter(differs)
            .cloned()
            .collect();
        if changed.is_empty() {
            return true;
        }
        self.notices.vms_changed(&changed);
        self.hosts.news();
        let changed = vms.into_iter().filter(|v| changed.contains(&v.id));
        self.look_at_vms(changed.collect()).await;
        true
    }

    async fn vms_or_say(&self) -> Option<Vec<Vm>> {
        match self.ports.host.vms().await {
            Ok(vms) => {
                self.said.well("list of VMs");
                Some(vms)
            }
            Err(why) => {
                self.said.once("list of VMs".to_owned(), &why.to_string());
                None
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
        let records = self.answering(ds, self.records_in_use(ds)).await?;
        // After the records: what was attached since is not in them, and is not called vanished.
        let here = self.here().await?;
        stream::iter(&records)
            .for_each_concurrent(AT_ONCE, async |stored| {
                self.sweep_volume(stored, &here).await;
            })
            .await;
        for group in self.groups_on(ds).await? {
            self.sweep_leftovers(ds, group).await?;
            self.repair_ledger(ds, group).await?;
        }
        // A configuration that moved leaves a trace where it was, which is not to be needed for long.
        self.point_one(ds).await.map(drop)
    }

    /// The records that say that anybody has or does anything to a volume. Of all others the index is enough.
    async fn records_in_use(&self, ds: &DatastoreName) -> Result<Vec<Stored>, Error> {
        let in_use = |record: &VolumeRecord| {
            let free = record.operation.is_none() && record.ownership == Ownership::Free;
            if free {
                self.watched.unwatch(record.id);
            }
            !free || record.moving.is_some()
        };
        self.records_where(ds, in_use).await
    }

    async fn sweep_volume(self: &Arc<Self>, stored: &Stored, here: &Here) {
        let record = &stored.record;
        let owner = record.ownership.owner();
        let vm = owner.and_then(|o| here.get(&o.vm.id));
        self.watch_if(vm.is_some(), stored);
        if let Err(why) = self.sweep_volume_move(stored).await {
            self.said
                .once(Self::subject(&stored.name()), &why.to_string());
        }
        let done = match (&record.operation, owner, vm) {
            // Another host's business, which ends with it: with proof, whoever wants the volume may take it.
            (Some(_), Some(_), None) => return,
            (Some(_), ..) => self.resolve_one(stored).await,
            (None, Some(_), Some(vm)) => self.check_attached_disk(stored, vm).await,
            (None, None, _) if self.is_read(stored) => self.end_stale_read(stored).await.map(drop),
            _ => return,
        };
        let subject = Self::subject(&stored.name());
        match done {
            Ok(()) => self.said.well(&subject),
            // Somebody else changed it meanwhile: nothing to report.
            Err(Error::Contended { .. } | Error::VolumeNotFound { .. }) => {}
            Err(why) => self.said.once(subject, &why.to_string()),
        }
    }

    /// Looks at what all VMs have in their configurations.
    pub(crate) async fn power_pass(self: &Arc<Self>) {
        if let Some(vms) = self.vms_or_say().await {
            self.look_at_vms(vms).await;
        }
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
            let Ok(volumes) = self.answering(&ds.name, self.indexed_on(&ds.name)).await else {
                continue;
            };
            for volume in volumes {
                if let Some(owner) = volume.record.ownership.owner()
                    && seen.insert(volume.record.id)
                {
                    held.entry(owner.vm.id.clone())
                        .or_default()
                        .push(full_name(&volume.record.name, &ds.name).to_string());
                }
            }
        }
        for names in held.values_mut() {
            names.sort();
        }
        Ok(held)
    }
}
