//! The hosts, their VMs and volumes, as an administrator sees them from one of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use vdvs_domain::{DatastoreName, Error, GroupName, HostId, Ownership, Timestamp, VmId};

use super::file::{HostFile, ToldVolume};
use super::read::Others;
use crate::api::AdminVolume;
use crate::inner::Inner;
use crate::layout::Place;
use crate::ports::{Power, Vm};

/// Without a word for so long a host counts as gone for good: it is shown, and warned of no more.
const GONE_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
/// A heartbeat may be late by so much before anybody worries.
const LATE: Duration = Duration::from_secs(60);

/// A host whose agent serves datastores that this one sees, or this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminHost {
    /// Its name; its id where its file cannot be understood.
    pub name: String,
    /// Its id.
    pub id: HostId,
    /// `esxi`, `lab` or `sim`.
    pub kind: String,
    /// Name and version of its agent.
    pub program: String,
    /// It is this one.
    pub local: bool,
    /// When it said so, by its clock; now, for this one.
    pub told_at: Timestamp,
    /// VMs registered there.
    pub vms: u32,
    /// Those of them whose plugin is connected.
    pub guests_connected: u32,
    /// Volumes that belong to VMs there, as far as this host sees them.
    pub volumes_held: u32,
    /// The datastores it can use, by the names it gives them.
    pub datastores: Vec<String>,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// The configurations it follows with their versions; the first is shown.
    pub configs: Vec<(Uuid, u64)>,
}

/// A VM that some host knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownVm {
    /// Identity.
    pub id: VmId,
    /// Its name there.
    pub name: String,
    /// Whether it runs.
    pub power: Power,
    /// Name of the host.
    pub host: String,
    /// The datastore its configuration file lies on.
    pub home: Option<DatastoreName>,
    /// When another host told so; none: it is registered here.
    pub told_at: Option<Timestamp>,
    /// Its plugin is connected, and what that called itself last.
    pub guest: (bool, String),
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// An age as people say it.
pub(crate) fn age_in_words(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86400),
    }
}

/// The identities of the datastores that a host can use.
fn usable(file: &HostFile) -> impl Iterator<Item = Uuid> {
    let usable = file.datastores.iter().filter(|d| d.problem.is_empty());
    usable.filter_map(|d| d.id)
}

impl Inner {
    fn age(&self, at: Timestamp) -> Duration {
        Duration::from_millis(self.now().millis().saturating_sub(at.millis()))
    }

    /// How long a host is silent, if longer than usual.
    pub(crate) fn silent_ms(&self, file: &HostFile) -> Option<u64> {
        let age = self.age(file.at);
        let usual = self.settings.status_heartbeat + self.settings.status_every + LATE;
        (age > usual).then(|| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }

    /// What stands against believing a host, if it was silent for long.
    pub(crate) fn silence(&self, file: &HostFile) -> Option<String> {
        let words = age_in_words(self.silent_ms(file)?);
        Some(match self.age(file.at) > GONE_AFTER {
            true => format!("silent for {words}: it counts as gone"),
            false => format!(
                "silent for {words}: is its agent running, and does it reach a datastore that is seen here?"
            ),
        })
    }

    /// Whether a host told anything for less than a week.
    pub(crate) fn is_present(&self, file: &HostFile) -> bool {
        self.age(file.at) <= GONE_AFTER
    }

    /// What stands against believing a host that is not gone for good.
    pub(crate) fn recent_silence(&self, file: &HostFile) -> Option<String> {
        self.silence(file).filter(|_| self.is_present(file))
    }

    /// All hosts, this one first.
    pub(crate) async fn hosts(&self) -> Result<Vec<AdminHost>, Error> {
        let others = self.others().await;
        let held = self.volumes_by_host().await;
        let volumes_held = |host| held.get(&host).copied().unwrap_or(0);
        let mut hosts = vec![self.this_host().await];
        for file in &others.files {
            hosts.push(AdminHost {
                name: file.name.clone(),
                id: file.host,
                kind: file.kind.clone(),
                program: file.program.clone(),
                local: false,
                told_at: file.at,
                vms: count(file.vms.len()),
                guests_connected: count(file.vms.iter().filter(|v| v.connected).count()),
                volumes_held: 0,
                datastores: file
                    .datastores
                    .iter()
                    .filter(|d| d.problem.is_empty())
                    .map(|d| d.name.to_string())
                    .collect(),
                warnings: self
                    .silence(file)
                    .into_iter()
                    .chain(file.warnings.clone())
                    .collect(),
                configs: file.configs.iter().map(|c| (c.id, c.version)).collect(),
            });
        }
        for (host, why) in &others.strange {
            hosts.push(AdminHost {
                name: host.to_string(),
                id: *host,
                kind: String::new(),
                program: String::new(),
                local: false,
                told_at: Timestamp::default(),
                vms: 0,
                guests_connected: 0,
                volumes_held: 0,
                datastores: Vec::new(),
                warnings: vec![why.clone()],
                configs: Vec::new(),
            });
        }
        for host in &mut hosts {
            host.volumes_held = volumes_held(host.id);
        }
        Ok(hosts)
    }

    async fn this_host(&self) -> AdminHost {
        let (file, _) = self.to_tell().await;
        AdminHost {
            name: file.name.clone(),
            id: file.host,
            kind: file.kind.clone(),
            program: file.program.clone(),
            local: true,
            told_at: file.at,
            vms: count(file.vms.len()),
            guests_connected: count(file.vms.iter().filter(|v| v.connected).count()),
            volumes_held: 0,
            datastores: file
                .datastores
                .iter()
                .filter(|d| d.problem.is_empty())
                .map(|d| d.name.to_string())
                .collect(),
            warnings: file.warnings,
            configs: file.configs.iter().map(|c| (c.id, c.version)).collect(),
        }
    }

    /// How many volumes belong to VMs of each host.
    async fn volumes_by_host(&self) -> BTreeMap<HostId, u32> {
        let mut held = BTreeMap::new();
        if let Ok((volumes, _)) = self.all_volumes().await {
            let mut seen = HashSet::new();
            for volume in volumes.iter().filter(|v| seen.insert(v.record.id)) {
                if let Some(owner) = volume.record.ownership.owner() {
                    *held.entry(owner.host).or_insert(0) += 1;
                }
            }
        }
        held
    }

    /// All VMs that any host knows: those registered here first. One that two others tell of is with the one that told
    /// last: VMs move.
    pub(crate) async fn vms_known(&self) -> Result<Vec<KnownVm>, Error> {
        let vms = self
            .ports
            .host
            .vms()
            .await
            .map_err(|why| Error::HostFailed {
                verb: "list its VMs",
                why: why.to_string(),
            })?;
        let here = self.ports.host.identity().name;
        let mut known: Vec<_> = vms
            .into_iter()
            .map(|vm| self.known_here(vm, &here))
            .collect();
        let mut seen: HashSet<VmId> = known.iter().map(|vm| vm.id.clone()).collect();
        let others = self.others().await;
        let mut files: Vec<_> = others.files.iter().collect();
        files.sort_by_key(|f| Reverse(f.at));
        for file in files {
            for vm in file.vms.iter().filter(|vm| seen.insert(vm.id.clone())) {
                known.push(KnownVm {
                    id: vm.id.clone(),
                    name: vm.name.clone(),
                    power: vm.power.into(),
                    host: file.name.clone(),
                    home: vm.home.clone(),
                    told_at: Some(file.at),
                    guest: (vm.connected, vm.plugin.clone()),
                });
            }
        }
        Ok(known)
    }

    fn known_here(&self, vm: Vm, host: &str) -> KnownVm {
        KnownVm {
            guest: self.hosts.guest(&vm.id),
            id: vm.id,
            name: vm.name,
            power: vm.power,
            host: host.to_owned(),
            home: vm.home,
            told_at: None,
        }
    }

    /// The volumes on datastores that only other hosts see.
    pub(crate) async fn volumes_told(&self) -> Vec<AdminVolume> {
        let others = self.others().await;
        if others.files.iter().all(|f| f.volumes.is_empty()) {
            return Vec::new();
        }
        let mut mine = BTreeSet::new();
        for ds in self.datastores().await.unwrap_or_default() {
            if ds.accessible
                && let Ok(Some(id)) = self.answering(&ds.name, self.datastore_id(&ds.name)).await
            {
                mine.insert(id);
            }
        }
        let told = others.files.iter().flat_map(|file| {
            let told = file
                .volumes
                .iter()
                .filter(|v| !mine.contains(&v.datastore_id));
            told.map(|volume| self.volume_told(file, volume))
        });
        told.collect()
    }

    fn volume_told(&self, file: &Arc<HostFile>, told: &ToldVolume) -> AdminVolume {
        let record = &told.record;
        let place = Place::of(&told.datastore, record.group, &record.name, record.id);
        let group = GroupName::new(&told.group).unwrap_or_else(|_| GroupName::default_group());
        let operation = record.operation.as_ref();
        AdminVolume {
            view: self.view_of(record, &place, group, 0),
            operation: operation.map(|o| (o.kind, o.started)),
            attention: None,
            disk_path: told.disk_path.clone(),
            policy: record
                .options
                .policy
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            protected: record.protected,
            orphan: false,
            told: Some((file.name.clone(), file.at)),
        }
    }

    /// What a person should know of the hosts: those silent for less than a week, those that cannot be understood, and
    /// datastores whose volumes only one host sees.
    pub(crate) async fn warnings_of_hosts(&self) -> Vec<String> {
        let others = self.others().await;
        let mut warnings = Vec::new();
        for file in &others.files {
            if let Some(silence) = self.recent_silence(file) {
                warnings.push(format!("host {}: {silence}", file.name));
            }
        }
        for (host, why) in &others.strange {
            warnings.push(format!("host {host}: {why}"));
        }
        for ds in &others.unread {
            warnings.push(format!(
                "datastore {ds}: what other hosts tell there cannot be read"
            ));
        }
        warnings.extend(self.lonely_datastores(&others).await);
        warnings
    }

    async fn lonely_datastores(&self, others: &Others) -> Vec<String> {
        let lonely = self.lonely(others).await;
        let text = |(ds, volumes, used): (DatastoreName, usize, usize)| {
            format!(
                "datastore {ds}: only this host sees it; its volumes ({volumes}, {used} attached) cannot follow their VMs to \
                 another host: share the datastore, or move them"
            )
        };
        lonely.into_iter().map(text).collect()
    }

    /// Datastores that no other host sees, with how many volumes they have, and how many of these are attached. None,
    /// while no other host is known.
    pub(crate) async fn lonely(&self, others: &Others) -> Vec<(DatastoreName, usize, usize)> {
        let present = |file: &&Arc<HostFile>| self.is_present(file);
        let theirs: BTreeSet<Uuid> = others
            .files
            .iter()
            .filter(present)
            .flat_map(|file| usable(file))
            .collect();
        if !others.files.iter().any(|file| present(&file)) {
            return Vec::new();
        }
        let mut lonely = Vec::new();
        for ds in self.datastores().await.unwrap_or_default() {
            if !ds.accessible {
                continue;
            }
            let ds = ds.name;
            let id = self.answering(&ds, self.datastore_id(&ds)).await;
            let Some(id) = id.ok().flatten() else {
                continue;
            };
            let volumes = match theirs.contains(&id) {
                true => continue,
                false => self
                    .answering(&ds, self.indexed_on(&ds))
                    .await
                    .unwrap_or_default(),
            };
            let held = |o: &Ownership| matches!(o, Ownership::Attached { .. });
            let volumes: Vec<_> = volumes.iter().filter(|v| v.record.exists()).collect();
            let used = volumes.iter().filter(|v| held(&v.record.ownership)).count();
            if !volumes.is_empty() {
                lonely.push((ds, volumes.len(), used));
            }
        }
        lonely
    }
}
