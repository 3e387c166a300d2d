//! What lies on the datastores, read without our programs: claims, records, ledgers, disks, and whether they agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::bare::Bare;

/// Where a disk bears its mark: past what a file system's first blocks would be.
const MARK_AT: u64 = 1 << 20;

/// Volumes by full name, with their extents.
#[derive(Debug, Default)]
pub(crate) struct Books(BTreeMap<String, PathBuf>);

impl Books {
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// The number on a volume's disk; none: there is no such volume.
    pub(crate) fn mark(&self, name: &str) -> Result<Option<u64>> {
        let Some(extent) = self.0.get(name) else {
            return Ok(None);
        };
        let mut file = File::open(extent).with_context(|| format!("open {}", extent.display()))?;
        file.seek(SeekFrom::Start(MARK_AT))?;
        let mut bytes = [0; 8];
        file.read_exact(&mut bytes)?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    pub(crate) fn set_mark(&self, name: &str, mark: u64) -> Result<()> {
        let extent = self
            .0
            .get(name)
            .with_context(|| format!("{name} is lost"))?;
        let mut file = OpenOptions::new().write(true).open(extent)?;
        file.seek(SeekFrom::Start(MARK_AT))?;
        file.write_all(&mark.to_le_bytes())?;
        Ok(())
    }
}

/// Reads everything; says also what does not agree.
pub(crate) fn read(bare: &Bare, datastores: &[&str]) -> Result<(Books, Vec<String>)> {
    let (mut books, mut wrong) = (Books::default(), Vec::new());
    for datastore in datastores {
        let dockvols = bare.datastore(datastore).join("dockvols");
        let mut sizes = BTreeMap::new();
        for group in list(&dockvols)?.into_iter().filter(|name| name != ".vdvs") {
            volumes(
                datastore,
                &dockvols.join(group),
                &mut books,
                &mut sizes,
                &mut wrong,
            )?;
        }
        let ledger = ledger(&dockvols.join(".vdvs"))?;
        if ledger != sizes {
            wrong.push(format!("{datastore}: ledger {ledger:?}, records {sizes:?}"));
        }
    }
    Ok((books, wrong))
}

/// One vmgroup's folder: each record with its claim, its disk and its extent, and not a file more.
fn volumes(
    datastore: &str,
    folder: &Path,
    books: &mut Books,
    sizes: &mut BTreeMap<String, u64>,
    wrong: &mut Vec<String>,
) -> Result<()> {
    let files: BTreeSet<String> = list(folder)?.into_iter().collect();
    let mut slots: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for file in &files {
        if let Some((stem, slot)) = file.rsplit_once(".vdvs.")
            && let Ok(slot) = slot.parse()
        {
            slots.entry(stem.to_owned()).or_default().insert(slot);
        }
    }
    let mut expected = BTreeSet::new();
    for (stem, slots) in slots {
        let slots = slots.iter().rev();
        let path = |slot: &u64| folder.join(format!("{stem}.vdvs.{slot}"));
        let Some(record) = newest(slots.map(path))? else {
            wrong.push(format!("{datastore}: {stem} has no whole version"));
            continue;
        };
        if let Some(operation) = record.get("operation").filter(|value| !value.is_null()) {
            wrong.push(format!("{datastore}: {stem} is unfinished: {operation}"));
        }
        if let Some(making) = record.get("making").filter(|value| !value.is_null()) {
            wrong.push(format!("{datastore}: {stem} is being made: {making}"));
        }
        let text = |key: &str| record.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = text("name").to_owned();
        let capacity = record.get("capacity").and_then(Value::as_u64);
        sizes.insert(text("id").to_owned(), capacity.unwrap_or_default());
        expected.extend([
            format!("{name}.vdvs"),
            format!("{stem}.vmdk"),
            format!("{stem}-flat.vmdk"),
        ]);
        let extent = folder.join(format!("{stem}-flat.vmdk"));
        let length = fs::metadata(&extent).map_or(0, |data| data.len());
        if Some(length) != capacity {
            wrong.push(format!(
                "{datastore}: {stem}'s extent has {length} bytes of {capacity:?}"
            ));
        }
        books.0.insert(format!("{name}@{datastore}"), extent);
    }
    let found: BTreeSet<String> = files
        .into_iter()
        .filter(|file| !file.contains(".vdvs."))
        .collect();
    for file in found.symmetric_difference(&expected) {
        let which = if found.contains(file) {
            "is left over"
        } else {
            "is missing"
        };
        wrong.push(format!("{datastore}: {file} {which}"));
    }
    Ok(())
}

fn ledger(own: &Path) -> Result<BTreeMap<String, u64>> {
    let mut slots: Vec<(u64, String)> = list(own)?
        .into_iter()
        .filter(|name| name.starts_with("ledger."))
        .filter_map(|name| Some((name.rsplit_once('.')?.1.parse().ok()?, name)))
        .collect();
    slots.sort();
    let slots = slots.into_iter().rev().map(|(_, name)| own.join(name));
    let ledger = newest(slots)?.unwrap_or_default();
    let entries = ledger.get("entries").and_then(Value::as_object);
    Ok(entries
        .into_iter()
        .flatten()
        .map(|(id, bytes)| (id.clone(), bytes.as_u64().unwrap_or_default()))
        .collect())
}

/// The first whole one: what an agent that was killed had begun to write is passed over.
fn newest(mut slots: impl Iterator<Item = PathBuf>) -> Result<Option<Value>> {
    slots.find_map(|slot| frame(&slot).transpose()).transpose()
}

/// The content of a small shared file; none: torn, or gone.
fn frame(path: &Path) -> Result<Option<Value>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let body = text.split_once('\n').map(|(_, body)| body);
    Ok(body.and_then(|body| serde_json::from_str(body).ok()))
}

fn list(folder: &Path) -> Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("list {}", folder.display())),
    }
}
