//! Telling the other hosts.
//!
//! At most one change of the file per datastore in [`Settings::status_every`](crate::api::Settings), and only when it
//! says something new, or nothing was said for [`Settings::status_heartbeat`](crate::api::Settings). A datastore that
//! is full, or does not answer, is tried once and left alone until the next heartbeat. Nothing waits for it, and
//! nobody is told of a failure: who looks from another host sees how old the file is.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;
use vdvs_domain::{DatastoreName, VolumeRecord};

use super::file::{
    self, HostFile, MAX_ROWS, MAX_VOLUMES, ToldConfig, ToldDatastore, ToldRow, ToldVm, ToldVolume,
    ToldWait, cut,
};
use crate::governance::Governed;
use crate::inner::{Inner, locked};
use crate::ports::{AuditQuery, DatastoreInfo};
use crate::swap::{Seen, Swapped};

/// Changes often come in groups; they are told together.
const TOGETHER: Duration = Duration::from_secs(1);
/// One attempt takes no longer.
const ATTEMPT: Duration = Duration::from_secs(5);
/// A datastore's rules are waited for so long.
const ANSWER: Duration = Duration::from_secs(2);
/// Rows looked through for those that name a volume.
const ROWS_LOOKED_AT: usize = 200;

/// The last attempt on one datastore.
#[derive(Debug, Clone)]
pub(super) struct Written {
    at: Instant,
    /// What was written, and what the next change starts from; none: it failed.
    last: Option<(HostFile, Seen)>,
}

impl Inner {
    /// Tells until dropped.
    pub(crate) async fn tell_others(&self) {
        loop {
            // Also at the start: the host comes up in groups of changes.
            sleep(TOGETHER).await;
            self.tell_round().await;
            let wait = sleep(self.settings.status_every);
            tokio::select! {
                biased;
                () = wait => {}
                () = self.hosts.news.notified() => {}
            }
        }
    }

    /// One look at what is to be told, and telling it where that is due.
    pub(crate) async fn tell_round(&self) {
        let (file, governed) = self.to_tell().await;
        let due = governed.into_iter().filter(|ds| self.is_due(ds, &file));
        let attempts = due.map(|ds| self.tell_on(ds, &file)).collect::<Vec<_>>();
        join_all(attempts).await;
    }

    fn is_due(&self, ds: &DatastoreName, file: &HostFile) -> bool {
        let written = locked(&self.hosts.written);
        let Some(written) = written.get(ds) else {
            return true;
        };
        let age = self.instant().saturating_duration_since(written.at);
        let news = written
            .last
            .as_ref()
            .map(|(last, _)| !last.says_the_same(file));
        age >= self.settings.status_heartbeat
            || (age >= self.settings.status_every && news == Some(true))
    }

    async fn tell_on(&self, ds: DatastoreName, file: &HostFile) {
        let known = locked(&self.hosts.written)
            .get(&ds)
            .and_then(|w| w.last.as_ref())
            .map(|(_, seen)| seen.clone());
        let attempt = timeout(ATTEMPT, self.swap_status(&ds, file, known));
        let last = match attempt.await {
            Ok(Ok(seen)) => Some((file.clone(), seen)),
            Ok(Err(why)) => {
                tracing::debug!(datastore = %ds, why, "the other hosts are not told there");
                None
            }
            Err(_) => {
                tracing::debug!(datastore = %ds, "no answer: the other hosts are not told there");
                None
            }
        };
        let at = self.instant();
        locked(&self.hosts.written).insert(ds, Written { at, last });
    }

    async fn swap_status(
        &self,
        ds: &DatastoreName,
        file: &HostFile,
        known: Option<Seen>,
    ) -> Result<Seen, String> {
        let (place, store) = (file::place(ds, self.host), &*self.ports.datastores);
        let bytes = file.clone().bytes().map_err(|why| why.to_string())?;
        let seen = match known {
            Some(seen) => seen,
            None => place.read(store).await.map_err(|why| why.to_string())?,
        };
        match place.swap(store, &seen, bytes).await {
            Ok(Swapped::Done(seen)) => Ok(seen),
            // Nobody else writes it: it was our own earlier attempt, and the next one looks anew.
            Ok(Swapped::Unknown(Some(why))) => Err(why.to_string()),
            Ok(Swapped::Conflict | Swapped::Unknown(None)) => {
                Err("an earlier attempt came late".to_owned())
            }
            Err(why) => Err(why.to_string()),
        }
    }

    /// What is to be told, and the datastores that are governed and can be written.
    pub(super) async fn to_tell(&self) -> (HostFile, Vec<DatastoreName>) {
        let identity = self.ports.host.identity();
        let mut warnings = self.said.standing();
        let infos = self.datastores().await.unwrap_or_default();
        let looks = infos.into_iter().map(|info| self.datastore_to_tell(info));
        let (mut datastores, mut configs, mut governed) = (Vec::new(), BTreeSet::new(), Vec::new());
        for (datastore, config) in join_all(looks.collect::<Vec<_>>()).await {
            if let Some(config) = config {
                configs.insert(config);
                governed.push(datastore.name.clone());
            }
            datastores.push(datastore);
        }
        let vms = match self.ports.host.vms().await {
            Ok(vms) => vms,
            Err(why) => {
                warnings.push(format!("list of VMs: {why}"));
                Vec::new()
            }
        };
        let mut vms: Vec<_> = vms
            .into_iter()
            .map(|vm| {
                let (connected, plugin) = self.hosts.guest(&vm.id);
                ToldVm {
                    connected,
                    plugin: cut(&plugin),
                    name: vm.name,
                    power: vm.power.into(),
                    home: vm.home,
                    id: vm.id,
                }
            })
            .collect();
        vms.sort_by(|a, b| (&a.name, &a.id.config_path).cmp(&(&b.name, &b.id.config_path)));
        let file = HostFile {
            host: identity.id,
            name: identity.name,
            kind: identity.kind.to_owned(),
            program: self.hosts.program(),
            at: self.now(),
            vms,
            volumes: self.seen_by_nobody_else(&datastores).await,
            datastores,
            configs: configs.into_iter().collect(),
            warnings: warnings.iter().map(|w| cut(w)).collect(),
            waits: self.waits_to_tell(),
            rows: self.rows_to_tell().await,
            left_out: 0,
        };
        (file, governed)
    }

    async fn datastore_to_tell(&self, info: DatastoreInfo) -> (ToldDatastore, Option<ToldConfig>) {
        let mut told = ToldDatastore {
            name: info.name,
            id: None,
            capacity: info.capacity_bytes,
            free: info.free_bytes,
            problem: String::new(),
        };
        if !info.accessible {
            told.problem = "not accessible".to_owned();
            return (told, None);
        }
        let mut config = None;
        match timeout(ANSWER, self.governed(&told.name)).await {
            Ok(Ok(Governed::By(rules))) => {
                told.id = Some(rules.datastore);
                config = Some(ToldConfig {
                    id: rules.config,
                    version: rules.version,
                });
            }
            Ok(Ok(Governed::Fresh(_))) => {}
            Ok(Ok(Governed::Not(why))) => told.problem = cut(&why),
            Ok(Err(why)) => told.problem = cut(&why.to_string()),
            Err(_) => told.problem = "no answer".to_owned(),
        }
        // Its home may be what does not answer: the others are told here all the same.
        if config.is_none()
            && let Some(rules) = self.last_rules(&told.name)
        {
            told.id = Some(rules.datastore).filter(|id| !id.is_nil());
            config = told.id.map(|_| ToldConfig {
                id: rules.config,
                version: rules.version,
            });
        }
        (told, config)
    }

    fn waits_to_tell(&self) -> Vec<ToldWait> {
        let wants = self.notices.all_wants();
        let mut waits: Vec<_> = wants
            .into_iter()
            .map(|(volume, want)| ToldWait {
                volume,
                by: want.by.name,
                since: want.since,
            })
            .collect();
        waits.sort_by_key(|w| (w.since, w.volume));
        waits
    }

    async fn rows_to_tell(&self) -> Vec<ToldRow> {
        let query = AuditQuery {
            limit: ROWS_LOOKED_AT,
            ..AuditQuery::default()
        };
        let page = self.ports.store.audit_page(query).await.unwrap_or_default();
        let named = page.rows.into_iter();
        let named = named.filter(|row| row.volume.is_some() || row.is_denial());
        named.take(MAX_ROWS).map(ToldRow::from).collect()
    }

    /// The volumes on datastores that no other host tells of. Without other hosts nobody would read of them.
    async fn seen_by_nobody_else(&self, mine: &[ToldDatastore]) -> Vec<ToldVolume> {
        let others = self.others().await;
        if others.files.is_empty() {
            return Vec::new();
        }
        let theirs: BTreeSet<Uuid> = others
            .files
            .iter()
            .flat_map(|file| file.datastores.iter().filter_map(|d| d.id))
            .collect();
        let mut told = Vec::new();
        for (ds, id) in mine.iter().filter_map(|d| Some((&d.name, d.id?))) {
            if theirs.contains(&id) {
                continue;
            }
            let Ok(volumes) = self.answering(ds, self.indexed_on(ds)).await else {
                continue;
            };
            let room = MAX_VOLUMES.saturating_sub(told.len());
            for volume in volumes.iter().filter(|v| v.record.exists()).take(room) {
                let record = VolumeRecord {
                    claim: None,
                    results: Vec::new(),
                    history: Vec::new(),
                    ..VolumeRecord::clone(&volume.record)
                };
                told.push(ToldVolume {
                    datastore: ds.clone(),
                    datastore_id: id,
                    group: self.group_name(ds, record.group).await.to_string(),
                    disk_path: volume.place.disk().path.to_string(),
                    record,
                });
            }
        }
        told
    }
}
