//! What must hold whenever nothing is under way, whatever was asked: files, ledgers, records and devices say the same,
//! and both agents say what the files say. It reads the files by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use uuid::Uuid;
use vdvs_domain::{HostId, VolumeId};
use vdvs_engine::config::ConfigDatastore;
use vdvs_engine::ports::{Clock, DiskPath, DsPath};

use crate::arena::{Arena, DATASTORES, Side, ds};

/// A record as it lies on a datastore.
pub(crate) struct Lies {
    datastore: &'static str,
    /// The folder's vmgroup and the file name without its slot.
    folder: String,
    stem: String,
    content: Value,
}

impl Lies {
    fn text(&self, field: &str) -> String {
        self.content[field].as_str().unwrap_or_default().to_owned()
    }

    fn disk(&self) -> DiskPath {
        let stem = self.stem.strip_suffix(".vdvs").unwrap_or(&self.stem);
        // A disk of the original keeps its name.
        let stem = stem.strip_suffix(".00000000").unwrap_or(stem);
        DiskPath {
            datastore: ds(self.datastore),
            path: DsPath::new(&format!("dockvols/{}/{stem}.vmdk", self.folder)).unwrap(),
        }
    }

    /// Name of the VM that has it.
    fn owner(&self) -> Option<&Value> {
        let owner = &self.content["ownership"]["owner"];
        (!owner.is_null()).then_some(owner)
    }

    fn vmgroup(&self) -> String {
        self.text("group")
    }
}

/// A file of ours.
pub(crate) fn framed(kind: &str, value: &Value) -> Vec<u8> {
    let body = value.to_string();
    let crc = crc32fast::hash(body.as_bytes());
    format!("vdvs {kind} 1 {} {crc:08x}\n{body}", body.len()).into_bytes()
}

/// The content of a file of ours; none: it is torn or not there.
pub(crate) fn read(a: &Arena, datastore: &str, file: &str) -> Option<Value> {
    let bytes = a.world.file(&ds(datastore), file)?;
    let text = str::from_utf8(&bytes).ok()?;
    let (head, body) = text.split_once('\n')?;
    let sum = head.rsplit(' ').next()?;
    let whole = sum == format!("{:08x}", crc32fast::hash(body.as_bytes()));
    whole.then(|| serde_json::from_str(body).ok())?
}

fn slots(a: &Arena, datastore: &str, stem: &str) -> Vec<u64> {
    let files = a.world.files(&ds(datastore));
    let start = format!("{stem}.");
    let of = files.iter().filter_map(|f| f.strip_prefix(&start));
    let mut slots: Vec<u64> = of.filter_map(|s| s.parse().ok()).collect();
    slots.sort_unstable();
    slots
}

/// The newest slot that is whole.
pub(crate) fn newest_slot(a: &Arena, datastore: &str, stem: &str) -> Option<u64> {
    let whole = |seq: &u64| read(a, datastore, &format!("{stem}.{seq}")).is_some();
    slots(a, datastore, stem).into_iter().rev().find(whole)
}

/// The stems of the slotted files in a folder.
fn stems(a: &Arena, datastore: &str, filter: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let files = a.world.files(&ds(datastore));
    let stem = |f: &String| {
        let (stem, seq) = f.rsplit_once('.')?;
        (seq.parse::<u64>().is_ok() && filter(stem)).then(|| stem.to_owned())
    };
    files.iter().filter_map(stem).collect()
}

fn records(a: &Arena) -> Vec<Lies> {
    let mut found = Vec::new();
    for datastore in DATASTORES {
        for path in stems(a, datastore, |s| s.ends_with(".vdvs")) {
            let Some(seq) = newest_slot(a, datastore, &path) else {
                continue;
            };
            let content = read(a, datastore, &format!("{path}.{seq}")).unwrap();
            let (folder, stem) = path.rsplit_once('/').unwrap();
            let folder = folder.strip_prefix("dockvols/").unwrap().to_owned();
            found.push(Lies {
                datastore,
                folder,
                stem: stem.to_owned(),
                content,
            });
        }
    }
    found
}

/// The record of the volume of this name.
pub(crate) fn record(a: &Arena, name: &str) -> Option<Value> {
    let mut all = records(a).into_iter().map(|r| r.content);
    all.find(|r| r["name"] == name)
}

/// Name of the VM that has it.
pub(crate) fn owner_of(a: &Arena, name: &str) -> Option<String> {
    let owner = record(a, name)?["ownership"]["owner"].clone();
    let uuid = owner["vm"]["id"]["instance_uuid"].as_str()?.to_owned();
    let n = a
        .vms()
        .iter()
        .position(|v| v.instance_uuid.to_string() == uuid)?;
    Some(format!("vm{}", n + 1))
}

/// The host its owner is on.
pub(crate) fn host_of(a: &Arena, name: &str) -> Option<HostId> {
    let owner = record(a, name)?["ownership"]["owner"].clone();
    let host: Uuid = owner["host"].as_str()?.parse().ok()?;
    Some(HostId::new(host))
}

/// Waits until `is` holds, at most six simulated minutes: longer than a host leaves alone what it failed to tell.
pub(crate) async fn until(a: &Arena, what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(360);
    while !is() {
        let files = || a.world.files(&ds("ds"));
        assert!(
            Instant::now() < deadline,
            "{what} did not happen: {:#?}",
            files()
        );
        sleep(Duration::from_millis(100)).await;
    }
}

/// What was said to exist: names with identity, content, and the VM that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged(BTreeMap<String, (String, Option<u64>, Option<String>)>);

impl Acknowledged {
    pub(crate) fn of(a: &Arena) -> Self {
        let one = |r: &Lies| {
            let owner = owner_of(a, &r.text("name"));
            (
                r.text("name"),
                (r.text("id"), a.world.read_disk(&r.disk()), owner),
            )
        };
        Self(records(a).iter().map(one).collect())
    }

    /// Panics unless everything is as it was, apart from what the operation may touch; and that has its data as long
    /// as it exists.
    pub(crate) fn check(&self, a: &Arena, touches: &[&str], text: &str) {
        let now = Self::of(a).0;
        for (name, before) in &self.0 {
            let after = now.get(name);
            if touches.contains(&name.as_str()) {
                if let Some((id, content, _)) = after
                    && *id == before.0
                {
                    assert_eq!(*content, before.1, "{text}: the data of {name}");
                }
                continue;
            }
            assert_eq!(after, Some(before), "{text}: {name} is not as it was");
        }
    }
}

/// Panics, with `text`, unless everything agrees.
pub(crate) async fn check(a: &Arena, text: &str) {
    check_agents(a, &check_at_once(a, text), text).await;
}

/// Panics unless all that lies on the datastores agrees: as it must at the moment of an undisturbed answer. The records.
pub(crate) fn check_at_once(a: &Arena, text: &str) -> Vec<Lies> {
    let records = records(a);
    for record in &records {
        check_record(a, record, text);
    }
    let ids: BTreeSet<_> = records.iter().map(|r| r.text("id")).collect();
    assert_eq!(ids.len(), records.len(), "{text}: one record per volume");
    check_files(a, &records, text);
    check_ledgers(a, &records, text);
    check_devices(a, &records, text);
    records
}

fn check_record(a: &Arena, record: &Lies, text: &str) {
    let name = record.text("name");
    let content = &record.content;
    for field in ["operation", "moving", "making"] {
        assert!(
            content[field].is_null(),
            "{text}: {field} of {name}: {content:#}"
        );
    }
    let state = content["ownership"]["state"].as_str().unwrap();
    // A dead claimant's claim has lapsed: it binds nobody, and goes with the next change.
    let until = content["claim"]["deadline"].as_u64().unwrap_or_default();
    let now = a.session(Side::Near).now().millis();
    assert!(until < now, "{text}: claim of {name}: {content:#}");
    assert!(
        ["free", "attached"].contains(&state),
        "{text}: {name} is {state}"
    );
    let disk = record.disk();
    assert!(
        a.world.read_disk(&disk).is_some(),
        "{text}: {disk} is not whole"
    );
}

/// Every file below `dockvols` belongs to something.
fn check_files(a: &Arena, records: &[Lies], text: &str) {
    for datastore in DATASTORES {
        let mut expected: BTreeMap<String, &str> = BTreeMap::new();
        let here: Vec<&Lies> = records
            .iter()
            .filter(|r| r.datastore == datastore)
            .collect();
        for record in &here {
            let disk = record.disk().path.as_str().to_owned();
            expected.insert(disk.replace(".vmdk", "-flat.vmdk"), "extent");
            expected.insert(disk, "disk");
            let claim = format!("dockvols/{}/{}.vdvs", record.vmgroup(), record.text("name"));
            assert_eq!(
                read(a, datastore, &claim).map(|c| c["id"].clone()),
                Some(record.content["id"].clone()),
                "{text}: the claim {claim}"
            );
            expected.insert(claim, "claim");
        }
        let is_record = |f: &str| {
            here.iter()
                .any(|r| f.starts_with(&format!("dockvols/{}/{}.", r.folder, r.stem)))
        };
        for file in a.world.files(&ds(datastore)) {
            if !file.starts_with("dockvols/") {
                continue;
            }
            let own = file.starts_with("dockvols/.vdvs/");
            // What the original left stays, whoever uses its volume.
            let original = file.ends_with(".vmfd") || is_original_disk(&file);
            let known = own || original || is_record(&file) || expected.remove(&file).is_some();
            assert!(known, "{text}: {file} belongs to nothing");
        }
        expected.retain(|file, _| !is_original_disk(file));
        assert!(expected.is_empty(), "{text}: missing {expected:?}");
    }
}

fn is_original_disk(file: &str) -> bool {
    file.ends_with("/db.vmdk") || file.ends_with("/db-flat.vmdk")
}

/// Each vmgroup's ledger counts its volumes and nothing else.
fn check_ledgers(a: &Arena, records: &[Lies], text: &str) {
    for datastore in DATASTORES {
        let mut counted: BTreeMap<(String, String), u64> = BTreeMap::new();
        for stem in stems(a, datastore, |s| s.contains("/.vdvs/ledger.")) {
            let Some(seq) = newest_slot(a, datastore, &stem) else {
                continue;
            };
            let group = stem.rsplit_once('.').unwrap().1.to_owned();
            let ledger = read(a, datastore, &format!("{stem}.{seq}")).unwrap();
            let entries = ledger["entries"].as_object().cloned().unwrap_or_default();
            for (id, bytes) in entries {
                // The original's volumes count from the day they are seen; nobody has used this one.
                if id.ends_with("00000000") && !records.iter().any(|r| r.text("id") == id) {
                    continue;
                }
                counted.insert((group.clone(), id), bytes.as_u64().unwrap());
            }
        }
        let here = records.iter().filter(|r| r.datastore == datastore);
        let expected = here.map(|r| {
            let bytes = r.content["capacity"].as_u64().unwrap();
            ((r.vmgroup(), r.text("id")), bytes)
        });
        assert_eq!(
            counted,
            expected.collect(),
            "{text}: ledgers of {datastore}"
        );
    }
}

/// Who has a disk and who is said to have it are the same, and at most one writes.
fn check_devices(a: &Arena, records: &[Lies], text: &str) {
    let mut ours = BTreeSet::new();
    for record in records {
        let disk = record.disk();
        let has: Vec<String> = a
            .vms()
            .iter()
            .filter(|vm| a.world.devices(vm).iter().any(|d| d.disk == disk))
            .map(|vm| vm.instance_uuid.to_string())
            .collect();
        let owner = record.owner().map(|o| &o["vm"]["id"]["instance_uuid"]);
        let says: Vec<String> = owner
            .map(|uuid| uuid.as_str().unwrap().to_owned())
            .into_iter()
            .collect();
        assert_eq!(has, says, "{text}: who has {disk}");
        let writers = a.world.writers(&disk);
        assert!(
            writers.len() <= 1,
            "{text}: {disk} is written by {writers:?}"
        );
        ours.insert(disk);
    }
    for vm in a.vms() {
        for device in a.world.devices(vm) {
            assert!(
                ours.contains(&device.disk),
                "{text}: {} has no record",
                device.disk
            );
        }
    }
}

/// Both agents say what the files say, and the same of what governs them.
async fn check_agents(a: &Arena, records: &[Lies], text: &str) {
    let mut said = Vec::new();
    for side in [Side::Near, Side::Far] {
        let engine = a.engine(side);
        let listing = engine.admin_volumes().await.unwrap();
        assert_eq!(listing.unreadable, [], "{text}: {side:?}");
        let listed: BTreeSet<VolumeId> = listing.volumes.iter().map(|v| v.view.id).collect();
        for record in records {
            let id = VolumeId::new(record.text("id").parse().unwrap());
            let shown = listing.volumes.iter().find(|v| v.view.id == id);
            let shown = shown.unwrap_or_else(|| panic!("{text}: {side:?} does not list {id}"));
            assert_eq!(shown.operation, None, "{text}: {side:?}");
            assert_eq!(shown.attention, None, "{text}: {side:?}");
            let epoch = record.content["epoch"].as_u64();
            assert_eq!(Some(shown.view.epoch.number()), epoch, "{text}: {side:?}");
        }
        let shown = engine.config_show().await.unwrap();
        let state = |d: &ConfigDatastore| (d.datastore.clone(), d.config, d.home.clone(), d.state);
        let documents = shown
            .documents
            .iter()
            .map(|d| (d.id, d.home.clone(), d.version));
        let datastores: Vec<_> = shown.datastores.iter().map(state).collect();
        said.push((listed, datastores, documents.collect::<Vec<_>>()));
    }
    assert_eq!(said.first(), said.last(), "{text}: the agents disagree");
}
