//! Which edges of the domain's ownership table the records took, read off the records' files.
//!
//! Not asked of anybody: every whole record that a host writes is compared with the version before it, and the event
//! that leads from the one to the other is looked for in the table. A pair that no event explains is an edge the table
//! forbids. Where two events lead from one state to the same, it is told by what they leave: a detach its request's result;
//! an attach is undone only by the host where its VM is. All else that ends in *free* is a release.

use std::collections::BTreeMap;
use std::fmt;

use uuid::Uuid;
use vdvs_domain::ownership::{Event, Owner};
use vdvs_domain::{
    HostId, OperationKind, Ownership, Timestamp, VmId, VmRef, VolumeId, VolumeRecord,
};

/// An edge of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// State before.
    pub from: &'static str,
    /// What happened.
    pub event: &'static str,
    /// State after.
    pub to: &'static str,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9} {:<14} {}", self.from, self.event, self.to)
    }
}

/// The edges taken, and how often.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    newest: BTreeMap<String, (u64, VolumeRecord)>,
    /// Where VMs are that moved.
    moved: BTreeMap<VmId, HostId>,
    taken: BTreeMap<Edge, u64>,
    forbidden: Vec<String>,
}

impl Coverage {
    /// A VM moved to a host.
    pub fn moved(&mut self, vm: &VmId, to: HostId) {
        self.moved.insert(vm.clone(), to);
    }

    /// A host wrote a small file.
    pub fn filed(&mut self, host: HostId, path: &str, bytes: &[u8]) {
        let Some((stem, seq)) = record_slot(path) else {
            return;
        };
        let Some(record) = whole_record(bytes) else {
            return;
        };
        if let Some((before_seq, before)) = self.newest.get(stem)
            && before_seq.checked_add(1) == Some(seq)
            && before.ownership != record.ownership
        {
            match edge(before, &record, self.is_owners(host, before)) {
                Some(edge) => *self.taken.entry(edge).or_default() += 1,
                None => self.forbidden.push(format!(
                    "{stem} {seq}: {} while {}",
                    record.ownership, before.ownership
                )),
            }
        }
        if self
            .newest
            .get(stem)
            .is_none_or(|(newest, _)| *newest < seq)
        {
            self.newest.insert(stem.to_owned(), (seq, record));
        }
    }

    fn is_owners(&self, host: HostId, record: &VolumeRecord) -> bool {
        let lives = |owner: &Owner| *self.moved.get(&owner.vm.id).unwrap_or(&owner.host);
        record.ownership.owner().map(lives) == Some(host)
    }

    /// Adds what another run saw.
    pub fn add(&mut self, other: &Self) {
        for (edge, count) in &other.taken {
            *self.taken.entry(*edge).or_default() += count;
        }
        self.forbidden.extend(other.forbidden.iter().cloned());
    }

    /// Changes that no event of the table explains.
    #[must_use]
    pub fn forbidden(&self) -> &[String] {
        &self.forbidden
    }

    /// Every edge of the table, with how often it was taken.
    #[must_use]
    pub fn edges(&self) -> Vec<(Edge, u64)> {
        let (allowed, _) = table();
        let count = |edge: &Edge| self.taken.get(edge).copied().unwrap_or_default();
        allowed.iter().map(|edge| (*edge, count(edge))).collect()
    }

    /// How many pairs of state and event the table refuses.
    #[must_use]
    pub fn refused() -> usize {
        table().1
    }
}

/// `dockvols/…/name.id8.vdvs.<seq>`: the path without the number, and the number.
fn record_slot(path: &str) -> Option<(&str, u64)> {
    let (stem, seq) = path.rsplit_once('.')?;
    let name = stem.strip_suffix(".vdvs")?;
    let (_, id8) = name.rsplit_once('.')?;
    (id8.len() == 8).then_some(())?;
    Some((stem, seq.parse().ok()?))
}

/// A record as it lies on a datastore: a header line with length and checksum, then JSON.
fn whole_record(bytes: &[u8]) -> Option<VolumeRecord> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let header = str::from_utf8(bytes.get(..end)?).ok()?;
    let body = bytes.get(end.checked_add(1)?..)?;
    let mut words = header.split(' ');
    let kind = (words.next()?, words.next()?);
    let length = words.nth(1)?.parse::<usize>().ok()?;
    if kind != ("vdvs", "record") || length != body.len() {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// The event that leads from one version of a record to the next; `by_owners`: the owner's host wrote it.
fn edge(before: &VolumeRecord, after: &VolumeRecord, by_owners: bool) -> Option<Edge> {
    let candidates = events(&after.ownership);
    let mut fits = candidates
        .into_iter()
        .filter(|event| before.ownership.apply(event.clone()).as_ref() == Ok(&after.ownership));
    let first = fits.next()?;
    let operation = before.operation.as_ref();
    let taken_away = operation.is_some_and(|o| match o.kind {
        OperationKind::Release | OperationKind::Fence => true,
        OperationKind::Detach => after.recall(o.request).is_none(),
        _ => !by_owners,
    });
    let event = match fits.next() {
        // Both ends are free; nothing but who did it differs.
        Some(second) if taken_away => second,
        _ => first,
    };
    Some(Edge {
        from: before.ownership.name(),
        event: event.name(),
        to: after.ownership.name(),
    })
}

/// What may have led to a state; *released* comes after what else ends in free.
fn events(after: &Ownership) -> Vec<Event> {
    match after {
        Ownership::Free => vec![
            Event::AttachUndone,
            Event::Detached,
            Event::EndRead,
            Event::Released,
        ],
        Ownership::Attaching { owner } => vec![Event::BeginAttach(owner.clone())],
        Ownership::Attached { owner } => vec![
            Event::Attached(owner.locator.clone()),
            Event::DetachRefused,
            Event::Moved(owner.host, owner.host_name.clone()),
        ],
        Ownership::Detaching { .. } => vec![Event::BeginDetach],
        Ownership::Reading { target, host } => vec![Event::BeginRead(*target, *host)],
    }
}

/// The table itself, asked edge by edge: what it allows, and how many pairs it refuses.
fn table() -> (Vec<Edge>, usize) {
    let owner = |n: u128| Owner {
        vm: VmRef {
            id: VmId {
                instance_uuid: Uuid::from_u128(n),
                config_path: String::new(),
            },
            name: String::new(),
        },
        host: HostId::new(Uuid::from_u128(1)),
        host_name: String::new(),
        since: Timestamp::from_millis(0),
        read_only: false,
        locator: None,
    };
    let (host, target) = (owner(1).host, VolumeId::new(Uuid::from_u128(9)));
    let states = [
        Ownership::Free,
        Ownership::Attaching { owner: owner(1) },
        Ownership::Attached { owner: owner(1) },
        Ownership::Detaching { owner: owner(1) },
        Ownership::Reading { target, host },
    ];
    let events = [
        Event::BeginAttach(owner(1)),
        Event::BeginAttach(owner(2)),
        Event::Attached(None),
        Event::AttachUndone,
        Event::BeginDetach,
        Event::Detached,
        Event::DetachRefused,
        Event::Released,
        Event::Moved(HostId::new(Uuid::from_u128(2)), String::new()),
        Event::BeginRead(target, host),
        Event::EndRead,
    ];
    let (mut allowed, mut refused) = (Vec::new(), 0);
    for state in &states {
        for event in &events {
            match state.apply(event.clone()) {
                Ok(next) => allowed.push(Edge {
                    from: state.name(),
                    event: event.name(),
                    to: next.name(),
                }),
                Err(_) => refused += 1,
            }
        }
    }
    allowed.sort_unstable();
    allowed.dedup();
    (allowed, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_thirteen_edges_and_refuses_the_rest() {
        let (allowed, refused) = table();
        assert_eq!(allowed.len(), 13, "{allowed:#?}");
        assert_eq!(refused, 41);
    }

    #[test]
    fn only_versions_of_records_count() {
        assert_eq!(
            record_slot("dockvols/g/db.00000001.vdvs.12"),
            Some(("dockvols/g/db.00000001.vdvs", 12))
        );
        assert_eq!(record_slot("dockvols/g/db.vdvs"), None);
        assert_eq!(record_slot("dockvols/.vdvs/ledger.x.3"), None);
    }
}
