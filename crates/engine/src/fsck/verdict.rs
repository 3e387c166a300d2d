//! What is wrong in a look at a datastore. Pure.
//!
//! Two looks are compared with `==`, so nothing here depends on the moment except the age of claims.

use std::collections::{BTreeMap, BTreeSet};

use vdvs_domain::error::full_name;
use vdvs_domain::record::NameClaim;
use vdvs_domain::{Capacity, GroupId, Timestamp, VolumeId, VolumeName, VolumeRecord};

use super::catalog::{Catalog, Read};
use super::findings::FsckKind;
use crate::layout::{self, Place};

/// A claim whose volume is nowhere is its maker's for so long: no create takes as long before its record stands.
const CLAIM_MILLIS: u64 = 10 * 60 * 1000;

/// What would repair something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fix {
    /// Nothing of ours; the text says what to do.
    Nobody(String),
    /// A record made anew.
    Record,
    /// The claim made anew for the record, in the folder of its vmgroup.
    Claim(GroupId, VolumeName, Box<VolumeRecord>),
    /// The record's size becomes the disk's.
    Size(Capacity),
    /// The record's bytes are kept elsewhere, and it is removed.
    Away,
}

/// Something that is wrong in one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspicion {
    pub(super) kind: FsckKind,
    /// The volume's place; of a claim that leads nowhere, where its volume would be.
    pub(super) place: Option<Place>,
    /// The file it is about, below the datastore.
    pub(super) path: String,
    /// Full name of the volume.
    pub(super) volume: String,
    pub(super) what: String,
    pub(super) fix: Fix,
}

impl Suspicion {
    /// The place whose record is to be made anew.
    pub(super) fn rebuilds(&self) -> Option<&Place> {
        (self.fix == Fix::Record)
            .then_some(self.place.as_ref())
            .flatten()
    }
}

fn about(place: &Place, kind: FsckKind, path: String, what: String, fix: Fix) -> Suspicion {
    Suspicion {
        kind,
        place: Some(place.clone()),
        path,
        volume: full_name(&place.name, &place.ds).to_string(),
        what,
        fix,
    }
}

fn record_path(place: &Place) -> String {
    let file = place.record();
    format!("{}/{}", file.dir, file.stem)
}

/// What is wrong.
pub(super) fn of(catalog: &Catalog, now: Timestamp) -> Vec<Suspicion> {
    let mut found = Vec::new();
    for (place, read) in &catalog.records {
        match read {
            Read::Newer(why) => found.push(about(
                place,
                FsckKind::NewerFormat,
                record_path(place),
                why.clone(),
                Fix::Nobody("nothing of this volume was touched; upgrade this host".to_owned()),
            )),
            Read::Is(record) => whole(catalog, place, record, now, &mut found),
            Read::Torn | Read::Damaged(_) => found.extend(broken(catalog, place, read)),
        }
    }
    for place in catalog.disks.iter().filter(|p| !p.is_adopted()) {
        if !catalog.records.contains_key(place) {
            found.push(about(
                place,
                FsckKind::LostRecord,
                place.disk().path.to_string(),
                "the disk has no record".to_owned(),
                Fix::Record,
            ));
        }
    }
    let covered: BTreeSet<(GroupId, VolumeName)> = covered(catalog);
    for ((group, name), read) in &catalog.claims {
        if !covered.contains(&(*group, name.clone())) {
            found.push(claim_alone(catalog, *group, name, read));
        }
    }
    found
}

/// Claims that a record or a disk explains.
fn covered(catalog: &Catalog) -> BTreeSet<(GroupId, VolumeName)> {
    let mut covered = BTreeSet::new();
    for (place, read) in &catalog.records {
        let group = read.is().map_or(place.folder, |r| r.group);
        covered.insert((group, place.name.clone()));
        if let Some(moving) = read.is().and_then(|r| r.moving.as_ref()) {
            covered.insert((moving.from, place.name.clone()));
            covered.insert((moving.to, place.name.clone()));
        }
    }
    for ((group, name), read) in &catalog.claims {
        let place = read.is().map(|c| Place::of_claim(&catalog.ds, *group, c));
        let explained = place.is_some_and(|place| {
            let recorded = catalog.records.contains_key(&place);
            // A volume that was moved away keeps its old name for a while; the reconciler ends that.
            recorded || catalog.disks.contains(&place)
        });
        if explained {
            covered.insert((*group, name.clone()));
        }
    }
    for place in &catalog.disks {
        covered.insert((place.folder, place.name.clone()));
    }
    covered
}

fn claim_alone(
    catalog: &Catalog,
    group: GroupId,
    name: &VolumeName,
    read: &Read<NameClaim>,
) -> Suspicion {
    let path = layout::claim(group, name).to_string();
    let (mut kind, mut todo) = (
        FsckKind::LeftoverClaim,
        "a create began there and did not end; the agent removes it when it stays so",
    );
    let what = match read.fault() {
        Some(why) if read.is_newer() => {
            (kind, todo) = (
                FsckKind::NewerFormat,
                "it was not touched; upgrade this host",
            );
            why.to_owned()
        }
        Some(why) => format!("{why}, and no volume bears the name"),
        None => "no volume bears the name".to_owned(),
    };
    Suspicion {
        kind,
        place: read.is().map(|c| Place::of_claim(&catalog.ds, group, c)),
        path,
        volume: full_name(name, &catalog.ds).to_string(),
        what,
        fix: Fix::Nobody(todo.to_owned()),
    }
}

/// A record that cannot be understood.
fn broken(catalog: &Catalog, place: &Place, read: &Read<VolumeRecord>) -> Option<Suspicion> {
    let why = read.fault().unwrap_or_default();
    let path = record_path(place);
    if catalog.disks.contains(place) {
        let (kind, what) = (FsckKind::DamagedRecord, why.to_owned());
        return Some(about(place, kind, path, what, Fix::Record));
    }
    let kind = FsckKind::RecordWithoutDisk;
    let (what, fix) = match read {
        _ if catalog.extents.contains(place) => (
            format!("{why}, and of its disk only the extent is there"),
            Fix::Nobody(LONE_EXTENT.to_owned()),
        ),
        Read::Torn => (
            format!("{why}, and there is no disk"),
            Fix::Nobody(
                "a create began there and did not end; the agent removes it when it stays so"
                    .to_owned(),
            ),
        ),
        _ => (format!("{why}, and there is no disk"), Fix::Away),
    };
    Some(about(place, kind, path, what, fix))
}

const LONE_EXTENT: &str = "its data is there and its descriptor is not: make a descriptor for the extent (VMware's knowledge base: recreating a missing virtual machine disk descriptor file), or restore the disk, then run fsck again";

/// A record that is whole.
fn whole(
    catalog: &Catalog,
    place: &Place,
    record: &VolumeRecord,
    now: Timestamp,
    found: &mut Vec<Suspicion>,
) {
    if !record.exists() {
        // Being made or removed: whoever is at it, or the reconciler, ends it.
        return;
    }
    if !catalog.disks.contains(place) {
        let (what, todo) = match catalog.extents.contains(place) {
            true => (
                "of its disk only the extent is there",
                LONE_EXTENT.to_owned(),
            ),
            false => (
                "its disk is not there",
                format!(
                    "restore the disk from a backup, or remove the volume: vdvs volume rm {}",
                    full_name(&place.name, &place.ds)
                ),
            ),
        };
        let path = place.disk().path.to_string();
        let fix = Fix::Nobody(todo);
        found.push(about(
            place,
            FsckKind::MissingDisk,
            path,
            what.to_owned(),
            fix,
        ));
    }
    match catalog.sizes.get(place) {
        Some(Err(why)) => found.push(about(
            place,
            FsckKind::UnreadableDisk,
            place.disk().path.to_string(),
            why.clone(),
            Fix::Nobody(
                "its bytes are not touched; look at the datastore, or restore it".to_owned(),
            ),
        )),
        Some(Ok(size)) if *size != record.capacity && record.operation.is_none() => {
            let what = format!("the record says {}, the disk has {size}", record.capacity);
            let (kind, path) = (FsckKind::SizeDiffers, record_path(place));
            found.push(about(place, kind, path, what, Fix::Size(*size)));
        }
        Some(Ok(_)) | None => {}
    }
    if record.operation.is_none() && record.moving.is_none() {
        found.extend(claim_of(catalog, place, record, now));
    }
}

/// The claim of a whole record.
fn claim_of(
    catalog: &Catalog,
    place: &Place,
    record: &VolumeRecord,
    now: Timestamp,
) -> Option<Suspicion> {
    let at = (record.group, place.name.clone());
    let path = layout::claim(at.0, &at.1).to_string();
    let anew = || Fix::Claim(at.0, at.1.clone(), Box::new(record.clone()));
    let claim = match catalog.claims.get(&at) {
        None => {
            let what = "the name has no claim".to_owned();
            return Some(about(place, FsckKind::LostClaim, path, what, anew()));
        }
        Some(Read::Newer(why)) => {
            let fix = Fix::Nobody("it was not touched; upgrade this host".to_owned());
            return Some(about(place, FsckKind::NewerFormat, path, why.clone(), fix));
        }
        Some(Read::Is(claim)) => claim,
        Some(broken) => {
            let what = broken.fault().unwrap_or_default().to_owned();
            return Some(about(place, FsckKind::DamagedClaim, path, what, anew()));
        }
    };
    let led = Place::of_claim(&catalog.ds, at.0, claim);
    if claim.id == record.id && led == *place {
        return None;
    }
    if claim.id == record.id {
        let what = "it leads to another folder than the record's".to_owned();
        return Some(about(place, FsckKind::DamagedClaim, path, what, anew()));
    }
    let other = catalog.records.get(&led);
    let is_there = other.is_some() || catalog.disks.contains(&led);
    let young = now.millis().saturating_sub(claim.at.millis()) < CLAIM_MILLIS;
    if is_there || young {
        let what = format!("the name is claimed for volume {}", claim.id);
        let fix = Fix::Nobody(format!(
            "two volumes bear one name; decide which keeps it, and remove or move the other. This one is {}",
            record.id
        ));
        return Some(about(place, FsckKind::NameTwice, path, what, fix));
    }
    let what = format!("it names volume {}, which is nowhere", claim.id);
    Some(about(place, FsckKind::DamagedClaim, path, what, anew()))
}

/// The ids that something whole says a disk at a place has, the most trustworthy first.
pub(super) fn ids_of(catalog: &Catalog, place: &Place) -> Vec<VolumeId> {
    let mut ids = Vec::new();
    let fits = |id: &VolumeId| id.id8() == place.id8;
    for ((group, _), read) in &catalog.claims {
        if let Read::Is(claim) = read
            && Place::of_claim(&catalog.ds, *group, claim) == *place
        {
            ids.push(claim.id);
        }
    }
    let ledgers = catalog.ledgers.values().filter_map(Read::is);
    ids.extend(ledgers.flat_map(|l| l.entries.keys()).filter(|id| fits(id)));
    ids.dedup();
    ids
}

/// The vmgroups that have a claim for a place.
pub(super) fn groups_of(catalog: &Catalog, place: &Place) -> Vec<GroupId> {
    let mut groups: BTreeMap<GroupId, ()> = BTreeMap::new();
    for ((group, _), read) in &catalog.claims {
        if let Read::Is(claim) = read
            && Place::of_claim(&catalog.ds, *group, claim) == *place
        {
            groups.insert(*group, ());
        }
    }
    groups.into_keys().collect()
}
