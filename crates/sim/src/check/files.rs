//! Reads what lies on a datastore, with a reader of its own: a frame's header line, its checksum, JSON by field names.

use std::collections::BTreeMap;

use serde_json::Value;
use vdvs_domain::DatastoreName;
use vdvs_host_sim::World;

/// A record as it lies there.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// The volume's name.
    pub(crate) name: String,
    /// Its id.
    pub(crate) id: String,
    /// The vmgroup it belongs to.
    pub(crate) group: String,
    /// Path of its disk's descriptor.
    pub(crate) disk: String,
    /// Everything.
    pub(crate) all: Value,
}

/// A vmgroup's ledger: bytes by volume id.
pub(crate) type Ledger = BTreeMap<String, u64>;

/// What lies below `dockvols` on a datastore.
#[derive(Debug, Clone, Default)]
pub(crate) struct Folder {
    /// Records, by path without slot.
    pub(crate) records: BTreeMap<String, Record>,
    /// Files that look like records and hold none.
    pub(crate) torn: Vec<String>,
    /// Name claims: path, volume id.
    pub(crate) claims: BTreeMap<String, String>,
    /// Ledgers by vmgroup.
    pub(crate) ledgers: BTreeMap<String, Ledger>,
}

impl Folder {
    /// Reads a datastore.
    pub(crate) fn of(world: &World, ds: &DatastoreName) -> Self {
        let mut folder = Self::default();
        let mut slots: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
        for path in world.files(ds) {
            let Some(below) = path.strip_prefix("dockvols/") else {
                continue;
            };
            if let Some((stem, seq)) = slot(&path) {
                slots.entry(stem).or_default().insert(seq, path.clone());
            } else if !below.starts_with('.') && path.ends_with(".vdvs") {
                let claim = value(world, ds, &path, "claim");
                let id = claim.as_ref().and_then(|c| text(c, "id"));
                folder.claims.insert(path, id.unwrap_or_default());
            }
        }
        for (stem, versions) in slots {
            folder.shared(world, ds, stem, &versions);
        }
        folder
    }

    fn shared(
        &mut self,
        world: &World,
        ds: &DatastoreName,
        stem: String,
        versions: &BTreeMap<u64, String>,
    ) {
        let newest = |kind| {
            versions
                .values()
                .rev()
                .find_map(|p| value(world, ds, p, kind))
        };
        if let Some(group) = stem.strip_prefix("dockvols/.vdvs/ledger.") {
            let entries = newest("ledger").and_then(|l| l.get("entries").cloned());
            let entries = entries.as_ref().and_then(Value::as_object);
            let bytes = entries.into_iter().flatten();
            let bytes = bytes.map(|(id, b)| (id.clone(), b.as_u64().unwrap_or(0)));
            self.ledgers.insert(group.to_owned(), bytes.collect());
        } else if stem.ends_with(".vdvs") {
            match newest("record").and_then(|all| Record::of(&stem, all)) {
                Some(record) => drop(self.records.insert(stem, record)),
                None => self.torn.push(stem),
            }
        }
    }
}

impl Record {
    fn of(stem: &str, all: Value) -> Option<Self> {
        Some(Self {
            name: text(&all, "name")?,
            id: text(&all, "id")?,
            group: text(&all, "group")?,
            disk: format!("{}.vmdk", stem.strip_suffix(".vdvs")?),
            all,
        })
    }

    /// A field that is there and not null.
    pub(crate) fn field(&self, name: &str) -> Option<&Value> {
        self.all.get(name).filter(|v| !v.is_null())
    }

    /// The state of its ownership.
    pub(crate) fn state(&self) -> &str {
        let state = self.all.get("ownership").and_then(|o| o.get("state"));
        state.and_then(Value::as_str).unwrap_or("unreadable")
    }

    /// The configuration file of the VM it belongs to.
    pub(crate) fn owner(&self) -> Option<&str> {
        let at = ["ownership", "owner", "vm", "id", "config_path"];
        at.iter()
            .try_fold(&self.all, |v, field| v.get(field))?
            .as_str()
    }

    /// What it takes of a total.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.all.get("capacity").and_then(Value::as_u64)
    }
}

fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field).and_then(Value::as_str).map(str::to_owned)
}

/// `path.<seq>` in two.
fn slot(path: &str) -> Option<(String, u64)> {
    let (stem, seq) = path.rsplit_once('.')?;
    Some((stem.to_owned(), seq.parse().ok()?))
}

/// The JSON of a whole frame of this kind; none if it is torn or another.
fn value(world: &World, ds: &DatastoreName, path: &str, kind: &str) -> Option<Value> {
    json(&world.file(ds, path)?, kind)
}

/// A record that is written to this path; none: it is something else, or torn.
pub(crate) fn record(path: &str, bytes: &[u8]) -> Option<Record> {
    let (stem, _) = slot(path)?;
    Record::of(&stem, json(bytes, "record")?)
}

fn json(bytes: &[u8], kind: &str) -> Option<Value> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (header, body) = (bytes.get(..end)?, bytes.get(end + 1..)?);
    let mut words = str::from_utf8(header).ok()?.split(' ');
    let whole = words.next()? == "vdvs"
        && words.next()? == kind
        && words.next()?.parse::<u32>().is_ok()
        && words.next()?.parse() == Ok(body.len())
        && u32::from_str_radix(words.next()?, 16) == Ok(crc32fast::hash(body));
    whole.then(|| serde_json::from_slice(body).ok()).flatten()
}
