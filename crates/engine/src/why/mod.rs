//! Why a volume is where it is, and what happened to it: the story over all hosts.
//!
//! Looks, and changes nothing. The sentence about a volume that somebody waits for is the one that its status shows
//! everywhere; what it costs (a look at the lock, at a configuration file) is paid only then.

mod explain;
mod timeline;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;
use vdvs_domain::access::DatastoreScope;
use vdvs_domain::error::full_name;
use vdvs_domain::{DatastoreName, Error, GroupId, HostId, Timestamp, VolumeId, VolumeName};

use crate::api::AdminVolume;
use crate::governance::Rules;
use crate::hosts::{HostFile, Others, age_in_words};
use crate::inner::Inner;
use crate::plan::OwnerState;
use crate::ports::{AuditQuery, DiskLock};
use crate::proof::UNREADABLE;
use crate::records::Stored;

use self::explain::{Denial, Explained, Sight, Situation, Waits, explain};
pub use self::timeline::VolumeEvent;
use self::timeline::{Row, timeline};

/// Rows of this host's audit that are looked through.
const MAX_ROWS: usize = 200;
/// A host that does not answer about one lock or VM within this time is not waited for.
const ANSWER: Duration = Duration::from_secs(3);

/// A volume's story.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Why {
    /// The volume; none: it cannot be read, or is there no more.
    pub volume: Option<AdminVolume>,
    /// In one sentence.
    pub headline: String,
    /// What happened, oldest first.
    pub events: Vec<VolumeEvent>,
    /// The proof that the holder cannot write: found, missing, or not needed.
    pub proof: String,
    /// When it resolves by itself.
    pub resolves: String,
    /// The one command to act; empty: nothing to do.
    pub command: String,
    /// Hosts and datastores whose part of the story could not be read, or is old.
    pub missing: Vec<String>,
}

/// A host's name, by what the others tell.
fn name_in(others: &Others, host: HostId) -> Option<&Arc<HostFile>> {
    others.files.iter().find(|f| f.host == host)
}

impl Inner {
    /// The sentence about a volume that somebody waits for, or that is being changed; none: nobody waits.
    pub(crate) async fn waiting_now(&self, stored: &Stored) -> Option<String> {
        let record = &stored.record;
        let idle = record.operation.is_none()
            && record.moving.is_none()
            && self.wanted_by(record).is_none()
            && self.reader_in_words(&record.ownership).is_none()
            && self.transfer_of(stored).is_none();
        if idle {
            return None;
        }
        let explained = self.explained(stored, None).await;
        explained.waiting.then_some(explained.headline)
    }

    /// The names of the vmgroups that a volume is between, by its record or by a transfer of its VMs.
    fn transfer_of(&self, stored: &Stored) -> Option<(GroupId, GroupId, Timestamp)> {
        let record = &stored.record;
        if let Some(moving) = &record.moving {
            return Some((moving.from, moving.to, moving.started));
        }
        let rules = self.last_rules(&stored.place.ds)?;
        let mut transfers = rules.access.transfers.iter();
        let transfer = transfers.find(|t| t.volumes.iter().any(|v| v.id == record.id))?;
        Some((transfer.from, transfer.to, transfer.began))
    }

    /// Name of a host.
    fn host_called(&self, others: &Others, host: HostId) -> String {
        match name_in(others, host) {
            Some(file) => file.name.clone(),
            None => self.host_name(host),
        }
    }

    async fn sight(&self, stored: &Stored, others: &Others) -> Option<Sight> {
        let owner = stored.record.ownership.owner()?;
        let state = timeout(ANSWER, self.owner_state_of(stored)).await;
        let state = state.ok().and_then(Result::ok);
        let state = state.unwrap_or(OwnerState::NotHere);
        let (mut lock, mut against) = (None, "");
        if state == OwnerState::NotHere {
            let disk = stored.place.disk();
            let look = timeout(ANSWER, self.ports.host.lock(&disk)).await;
            let seen = look.unwrap_or_else(|_| DiskLock::Unknown {
                why: "the host does not answer".to_owned(),
            });
            if seen == DiskLock::Free {
                against = timeout(ANSWER, self.saved_state(&owner.vm.id))
                    .await
                    .unwrap_or(UNREADABLE);
            }
            lock = Some(seen);
        }
        let told = name_in(others, owner.host);
        let host = match state {
            OwnerState::Here(_) => self.host_name(self.host),
            _ if !owner.host_name.is_empty() => owner.host_name.clone(),
            _ => self.host_called(others, owner.host),
        };
        Some(Sight {
            state,
            lock,
            against,
            host,
            silent_ms: told.and_then(|file| self.silent_ms(file)),
        })
    }

    async fn explained(&self, stored: &Stored, denial: Option<Denial>) -> Explained {
        let (record, ds) = (&stored.record, &stored.place.ds);
        let others = self.others().await;
        let group = self.group_name(ds, record.group).await;
        let moving = match self.transfer_of(stored) {
            Some((from, to, began)) => Some((
                self.group_name(ds, from).await.to_string(),
                self.group_name(ds, to).await.to_string(),
                began,
            )),
            None => None,
        };
        let operating = record.operation.as_ref();
        let waits = self.wanted_by(record).map(|(vm, host, since)| Waits {
            vm: vm.name,
            host,
            since,
        });
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        explain(&Situation {
            ds,
            record,
            now: self.now(),
            group: group.as_str(),
            orphan: self.is_orphan(ds, record.group).await,
            making: self.making_in_words(record),
            reader: self.reader_in_words(&record.ownership),
            operating_host: operating
                .map_or_else(String::new, |o| self.host_called(&others, o.host)),
            moving,
            waits,
            sight: self.sight(stored, &others).await,
            denial,
            free_proof_s: self.settings.free_proof.as_secs(),
            usual_ms: millis(self.settings.host_call),
        })
    }

    /// The story of the volume that an administrator names.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`] when nobody knows anything of it; [`Error::SeveralFit`].
    pub(crate) async fn why(&self, address: &str) -> Result<Why, Error> {
        match self.admin_find(address).await {
            Ok(stored) => Ok(self.why_of(&stored).await),
            Err(why @ (Error::DatastoreUnavailable { .. } | Error::VolumeNotFound { .. })) => {
                self.why_gone(address, why).await
            }
            Err(why) => Err(why),
        }
    }

    async fn why_of(&self, stored: &Stored) -> Why {
        let others = self.others().await;
        let record = &stored.record;
        let (name, ds) = (&record.name, &stored.place.ds);
        let rows = self.rows_about(record.id, name, ds, &others).await;
        let waits = self.waits_for(stored, &others);
        let maker = self.host_called(&others, record.created.host);
        let events = timeline(Some((record, maker)), &rows, waits);
        let denial = self.last_denial(stored, &rows).await;
        let explained = self.explained(stored, denial).await;
        Why {
            volume: Some(self.admin_volume(stored).await),
            headline: explained.headline,
            events,
            proof: explained.proof,
            resolves: explained.resolves,
            command: explained.command,
            missing: self.not_known(&others),
        }
    }

    /// The rows about a volume in all audits that are known, oldest first.
    async fn rows_about(
        &self,
        id: VolumeId,
        name: &VolumeName,
        ds: &DatastoreName,
        others: &Others,
    ) -> Vec<Row> {
        let names = vec![name.to_string(), full_name(name, ds).to_string()];
        let query = AuditQuery {
            volume: Some((id, names)),
            limit: MAX_ROWS,
            ..AuditQuery::default()
        };
        self.rows_for(&query, others).await
    }

    async fn rows_for(&self, query: &AuditQuery, others: &Others) -> Vec<Row> {
        let page = self.ports.store.audit_page(query.clone()).await;
        let here = self.host_name(self.host);
        let mine = page.unwrap_or_default().rows.into_iter().map(|row| Row {
            host: here.clone(),
            row,
        });
        let theirs = others.files.iter().flat_map(|file| {
            let rows = file.rows.iter().map(|row| Row::told(&file.name, row));
            rows.filter(|r| query.fits(&r.row))
        });
        // Both come newest first.
        let mut rows: Vec<_> = mine.chain(theirs).collect();
        rows.reverse();
        rows.sort_by_key(|r| r.row.last);
        rows
    }

    fn waits_for(&self, stored: &Stored, others: &Others) -> Vec<VolumeEvent> {
        let record = &stored.record;
        let here = self.host_name(self.host);
        let mut waits = Vec::new();
        for (volume, want) in self.notices.all_wants() {
            if volume == record.id {
                waits.push(VolumeEvent::waiting(&want.by.name, &here, want.since));
            }
        }
        let mut add = |vm: &str, host: &str, since| {
            let event = VolumeEvent::waiting(vm, host, since);
            if !waits
                .iter()
                .any(|w| w.who == event.who && w.host == event.host)
            {
                waits.push(event);
            }
        };
        if let Some(claim) = record.claim.as_ref().filter(|c| c.deadline >= self.now()) {
            add(&claim.vm.name, &claim.host_name, claim.since);
        }
        // What a silent host told may be over.
        for file in others.files.iter().filter(|f| self.silent_ms(f).is_none()) {
            for wait in file.waits.iter().filter(|w| w.volume == record.id) {
                add(&wait.by, &file.name, wait.since);
            }
        }
        waits
    }

    /// The newest denial, if nothing that was done to the volume came after it.
    async fn last_denial(&self, stored: &Stored, rows: &[Row]) -> Option<Denial> {
        let newest = rows.iter().max_by_key(|r| r.row.last)?;
        let since = stored.record.history.last().map(|h| h.at);
        if !newest.row.is_denial() || since.is_some_and(|at| at > newest.row.last) {
            return None;
        }
        let ds = &stored.place.ds;
        let rules = self.governed(ds).await.ok();
        let rules: Option<Arc<Rules>> = rules.and_then(|g| g.rules().cloned());
        let vm = newest.row.who.split(' ').next();
        let vm = vm.and_then(|uuid| Uuid::try_parse(uuid).ok());
        let group = rules
            .as_ref()
            .zip(vm)
            .and_then(|(rules, vm)| rules.access.group_of_vm(vm));
        let here = DatastoreScope::Named(ds.clone());
        Some(Denial {
            row: newest.row.clone(),
            group_of_vm: group.map(|g| g.name.to_string()),
            has_privilege: group.is_some_and(|g| g.privilege(&here).is_some()),
        })
    }

    /// What is not known, and why.
    fn not_known(&self, others: &Others) -> Vec<String> {
        let mut missing: Vec<_> = others
            .files
            .iter()
            .filter_map(|f| Some(format!("host {}: {}", f.name, self.silence(f)?)))
            .collect();
        let strange = others.strange.iter();
        missing.extend(strange.map(|(host, why)| format!("host {host}: {why}")));
        let unread = others.unread.iter();
        missing.extend(
            unread.map(|ds| format!("datastore {ds}: what hosts tell there cannot be read")),
        );
        missing
    }

    /// What is known of a volume that cannot be read, or is there no more.
    async fn why_gone(&self, address: &str, why: Error) -> Result<Why, Error> {
        let others = self.others().await;
        let (name, ds) = match address.rsplit_once('@') {
            Some((name, ds)) => (name, Some(ds)),
            None => (address, None),
        };
        let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
        let full = |ds: &str| format!("{name}@{ds}");
        let query = AuditQuery {
            object: ds.map_or_else(|| name.to_owned(), full),
            limit: MAX_ROWS,
            ..AuditQuery::default()
        };
        let is_it = |object: &str| {
            let (bare, on) = object.rsplit_once('@').unwrap_or((object, ""));
            bare == name && ds.is_none_or(|ds| on.is_empty() || ds == on)
        };
        let mut rows = self.rows_for(&query, &others).await;
        rows.retain(|r| is_it(&r.row.object));
        let told = self.volumes_told().await.into_iter();
        let told = told
            .filter(|v| is_it(&full_name(&v.view.name, &v.view.datastore).to_string()))
            .collect::<Vec<_>>();
        if let Error::DatastoreUnavailable { datastore, why } = &why {
            return Ok(self.why_unreadable(
                datastore,
                why,
                &rows,
                told.into_iter().next(),
                &others,
            ));
        }
        if let Some(volume) = told.into_iter().next() {
            return Ok(self.why_told(volume, &rows, &others));
        }
        let newest = rows
            .iter()
            .filter(|r| !r.row.is_denial())
            .max_by_key(|r| r.row.last);
        let Some(newest) = newest else {
            return Err(why);
        };
        let ago = age_in_words(self.now().millis().saturating_sub(newest.row.last.millis()));
        let (verb, who) = (&newest.row.verb, &newest.row.who);
        Ok(Why {
            headline: format!(
                "there is no volume {}; the last that is known of it: {verb}, {ago} ago, by {who}",
                newest.row.object
            ),
            events: timeline(None, &rows, Vec::new()),
            proof: "not needed".to_owned(),
            missing: self.not_known(&others),
            ..Why::default()
        })
    }

    fn why_unreadable(
        &self,
        ds: &DatastoreName,
        why: &str,
        rows: &[Row],
        told: Option<AdminVolume>,
        others: &Others,
    ) -> Why {
        Why {
            volume: told,
            headline: format!(
                "datastore {ds} cannot be read on this host, and the volume may lie there: {why}"
            ),
            events: timeline(None, rows, Vec::new()),
            proof: "missing: neither the record nor the lock on the disk can be looked at"
                .to_owned(),
            resolves: format!("when datastore {ds} can be read again"),
            command: "vdvs datastore ls".to_owned(),
            missing: self.not_known(others),
        }
    }

    /// Of a volume on a datastore that only another host sees.
    fn why_told(&self, volume: AdminVolume, rows: &[Row], others: &Others) -> Why {
        let host = volume
            .told
            .as_ref()
            .map_or_else(String::new, |(host, _)| host.clone());
        let name = full_name(&volume.view.name, &volume.view.datastore);
        Why {
            headline: format!(
                "only host {host} sees datastore {}; {name} is told of by it: ask there",
                volume.view.datastore
            ),
            events: timeline(None, rows, Vec::new()),
            proof: "missing: this host can look at neither the record nor the lock on the disk"
                .to_owned(),
            resolves: String::new(),
            command: format!(
                "on host {host}: vdvs volume why {}",
                explain::quoted(&name.to_string())
            ),
            missing: self.not_known(others),
            volume: Some(volume),
        }
    }
}
