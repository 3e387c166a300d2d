//! The views that are compared, each looked at once. What fails is a finding, and does not hide the rest.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use vdvs_domain::error::full_name;
use vdvs_domain::{DatastoreName, VmId, VolumeId};

use super::{Found, Kind, Subject};
use crate::hosts::{HostFile, Others, ToldVm};
use crate::index::Indexed;
use crate::inner::Inner;
use crate::layout::Place;
use crate::ports::{DatastoreInfo, DiskPath, HostError, Vm, VmDisk};

/// A VM of this host with the disks in its configuration.
#[derive(Debug)]
pub(super) struct HereVm {
    pub(super) vm: Vm,
    /// `None`: the host could not say.
    pub(super) disks: Option<Vec<VmDisk>>,
}

impl HereVm {
    /// Whether a disk is in its configuration; `None`: the host could not say.
    pub(super) fn has(&self, disk: &DiskPath) -> Option<bool> {
        let disks = self.disks.as_ref()?;
        Some(disks.iter().any(|d| d.disk == *disk))
    }
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Views {
    pub(super) datastores: Vec<DatastoreInfo>,
    /// Those whose records were read.
    pub(super) read: Vec<DatastoreName>,
    pub(super) volumes: Vec<Indexed>,
    pub(super) vms: Vec<HereVm>,
    /// Whether the VMs of this host are known at all.
    pub(super) vms_known: bool,
    pub(super) others: Arc<Others>,
    titles: HashMap<VolumeId, String>,
    missing: Vec<(String, String)>,
}

impl Views {
    /// What could not be looked at.
    pub(super) fn missing(&self) -> Vec<Found> {
        let found = |(what, why): &(String, String)| Found::new(Kind::NotLookedAt, what, why);
        self.missing.iter().map(found).collect()
    }

    /// A VM of this host.
    pub(super) fn here(&self, vm: &VmId) -> Option<&HereVm> {
        self.vms.iter().find(|here| here.vm.id == *vm)
    }

    /// What other hosts tell of a VM; of several, the one that told last.
    pub(super) fn told(&self, vm: &VmId) -> Option<(&HostFile, &ToldVm)> {
        let files = self.others.files.iter().map(Arc::as_ref);
        let told = files.filter_map(|f| Some((f, f.vms.iter().find(|v| v.id == *vm)?)));
        told.max_by_key(|(file, _)| file.at)
    }

    /// The volume whose record lies there.
    pub(super) fn at(&self, place: &Place) -> Option<&Indexed> {
        self.volumes.iter().find(|v| *v.place == *place)
    }

    /// A volume's name for people; with its vmgroup where two bear it.
    pub(super) fn title(&self, volume: &Indexed) -> String {
        let title = self.titles.get(&volume.record.id).cloned();
        title.unwrap_or_else(|| full_name(&volume.record.name, &volume.place.ds).to_string())
    }

    /// A finding about a volume.
    pub(super) fn finding(&self, kind: Kind, volume: &Indexed, text: impl Into<String>) -> Found {
        let subject = Subject::Volume(Place::clone(&volume.place));
        Found::new(kind, self.title(volume), text).about(volume.record.id, subject)
    }
}

impl Inner {
    /// Looks.
    pub(super) fn look_around(&self) -> BoxFuture<'_, Views> {
        Box::pin(self.look_around_now())
    }

    async fn look_around_now(&self) -> Views {
        let mut missing = Vec::new();
        let datastores = self.datastores().await.unwrap_or_else(|why| {
            missing.push(("datastores".to_owned(), why.to_string()));
            Vec::new()
        });
        let (mut read, mut volumes) = (Vec::new(), Vec::new());
        let accessible: Vec<_> = datastores.iter().filter(|d| d.accessible).collect();
        let looks = accessible
            .iter()
            .map(|ds| self.answering(&ds.name, self.indexed_on(&ds.name)));
        for (ds, look) in accessible
            .iter()
            .zip(join_all(looks.collect::<Vec<_>>()).await)
        {
            match look {
                Ok(found) => {
                    volumes.extend(found);
                    read.push(ds.name.clone());
                }
                Err(why) => missing.push((format!("datastore {}", ds.name), why.to_string())),
            }
        }
        // After the records: what was attached since is not in them, and is not called vanished.
        let (vms, vms_known) = self.vms_here(&mut missing).await;
        let others = self.others().await;
        for ds in &others.unread {
            let why = "what other hosts tell there cannot be read".to_owned();
            missing.push((format!("hosts on datastore {ds}"), why));
        }
        Views {
            titles: self.titles(&volumes).await,
            datastores,
            read,
            volumes,
            vms,
            vms_known,
            others,
            missing,
        }
    }

    /// The names of volumes that share theirs on a datastore with another vmgroup's.
    async fn titles(&self, volumes: &[Indexed]) -> HashMap<VolumeId, String> {
        let mut named: HashMap<_, Vec<&Indexed>> = HashMap::new();
        for volume in volumes {
            let name = (&volume.place.ds, &volume.record.name);
            named.entry(name).or_default().push(volume);
        }
        let mut titles = HashMap::new();
        let shared = named.into_values().filter(|n| n.len() > 1).flatten();
        let shared: Vec<&Indexed> = shared.collect();
        for volume in shared {
            let ds = &volume.place.ds;
            let group = self.group_shown(ds, volume.record.group).await;
            let name = full_name(&volume.record.name, ds);
            titles.insert(volume.record.id, format!("{group}/{name}"));
        }
        titles
    }

    async fn vms_here(&self, missing: &mut Vec<(String, String)>) -> (Vec<HereVm>, bool) {
        let vms = match self.ports.host.vms().await {
            Ok(vms) => vms,
            Err(why) => {
                missing.push(("VMs of this host".to_owned(), why.to_string()));
                return (Vec::new(), false);
            }
        };
        let mut here = Vec::with_capacity(vms.len());
        for vm in vms {
            let disks = match self.ports.host.disks(&vm.id).await {
                Ok(disks) => Some(disks),
                // Unregistered meanwhile.
                Err(HostError::NoSuchVm { .. }) => continue,
                Err(why) => {
                    missing.push((format!("disks of VM {}", vm.name), why.to_string()));
                    None
                }
            };
            here.push(HereVm { vm, disks });
        }
        (here, true)
    }

    /// Whether a volume's record still says what the views have: nothing is reported of what just changed.
    pub(super) async fn still(&self, volume: &Indexed) -> bool {
        let now = self.read_record(&volume.place).await;
        now.ok().flatten().is_some_and(|now| {
            let (now, then) = (&now.record, &volume.record);
            now.epoch == then.epoch
                && now.ownership == then.ownership
                && now.operation == then.operation
        })
    }
}
