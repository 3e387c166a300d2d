//! Many volumes at once: one is created properly on a datastore, and its files are copied under new names and ids, with
//! their entries in the ledger while no agent runs, or without, as a volume that another host is just making.
//!
//! The frames are written as they lie on a datastore (`vdvs <kind> 1 <length> <crc>`, then JSON). One that is not right
//! is torn to the agent and its volume missing from every list, which whoever counts them notices.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// The volume that is copied.
#[derive(Debug)]
struct Template {
    name: String,
    dir: PathBuf,
    id: String,
    extent: u64,
    /// What follows the name in its files' names, with their text; none for the extent.
    files: Vec<(String, Option<String>)>,
}

/// Copies the volume `template` under each of these names. No agent may run.
///
/// # Errors
/// The template is not there, or a file cannot be written.
pub fn copies(datastore: &Path, template: &str, names: impl Iterator<Item = String>) -> Result<()> {
    let dockvols = datastore.join("dockvols");
    let template = Template::read(&dockvols, template)?;
    let mut entries = Map::new();
    for name in names {
        entries.insert(template.copy(&name)?, json!(template.extent));
    }
    enter(&dockvols.join(".vdvs"), entries)
}

/// One more volume as another host would have made it: its files appear while the agent runs.
///
/// # Errors
/// As [`copies`].
pub fn beside_the_agent(datastore: &Path, template: &str, name: &str) -> Result<()> {
    let template = Template::read(&datastore.join("dockvols"), template)?;
    template.copy(name).map(drop)
}

impl Template {
    fn read(dockvols: &Path, name: &str) -> Result<Self> {
        let claim = format!("{name}.vdvs");
        let dir = list(dockvols)?
            .into_iter()
            .map(|group| dockvols.join(group))
            .find(|dir| dir.join(&claim).is_file())
            .context("the template has no claim")?;
        let (_, claim) = parse(&fs::read_to_string(dir.join(&claim))?)?;
        let id = claim
            .get("id")
            .and_then(Value::as_str)
            .context("a claim has an id")?;
        let mut template = Self {
            name: name.to_owned(),
            id: id.to_owned(),
            extent: 0,
            files: Vec::new(),
            dir,
        };
        for file in list(&template.dir)? {
            let Some(rest) = file.strip_prefix(name) else {
                continue;
            };
            let path = template.dir.join(&file);
            if rest.ends_with("-flat.vmdk") {
                template.extent = fs::metadata(&path)?.len();
                template.files.push((rest.to_owned(), None));
            } else {
                let text = fs::read_to_string(&path)?;
                template.files.push((rest.to_owned(), Some(text)));
            }
        }
        ensure!(template.extent > 0, "the template has no extent");
        Ok(template)
    }

    fn copy(&self, name: &str) -> Result<String> {
        let id = Uuid::now_v7().to_string();
        let digits = |id: &str| id.get(id.len().saturating_sub(8)..).map(str::to_owned);
        let (old, new) = digits(&self.id).zip(digits(&id)).context("an id is long")?;
        let anew = |text: &str| {
            let text = text.replace(&self.name, name).replace(&self.id, &id);
            text.replace(&old, &new)
        };
        for (rest, text) in &self.files {
            let path = self.dir.join(format!("{name}{}", anew(rest)));
            match text {
                None => File::create(path)?.set_len(self.extent)?,
                Some(text) if text.starts_with("vdvs ") => {
                    let (kind, content) = parse(text)?;
                    fs::write(path, frame(&kind, &anew(&content.to_string())))?;
                }
                Some(text) => fs::write(path, anew(text))?,
            }
        }
        Ok(id)
    }
}

/// The next version of the ledger that holds the template.
fn enter(own: &Path, more: Map<String, Value>) -> Result<()> {
    let newest = list(own)?
        .into_iter()
        .filter_map(|name| {
            let (stem, slot) = name.rsplit_once('.')?;
            stem.starts_with("ledger.").then_some(())?;
            Some((slot.parse::<u64>().ok()?, stem.to_owned()))
        })
        .max();
    let (slot, stem) = newest.context("there is no ledger")?;
    let (kind, mut ledger) = parse(&fs::read_to_string(own.join(format!("{stem}.{slot}")))?)?;
    let entries = ledger.get_mut("entries").and_then(Value::as_object_mut);
    entries.context("a ledger without entries")?.extend(more);
    let next = own.join(format!("{stem}.{}", slot + 1));
    fs::write(next, frame(&kind, &ledger.to_string()))?;
    Ok(())
}

fn parse(text: &str) -> Result<(String, Value)> {
    let (header, body) = text.split_once('\n').context("a frame has a header")?;
    let kind = header.split(' ').nth(1).context("a frame has a kind")?;
    Ok((kind.to_owned(), serde_json::from_str(body)?))
}

fn frame(kind: &str, body: &str) -> String {
    let crc = crc32fast::hash(body.as_bytes());
    format!("vdvs {kind} 1 {} {crc:08x}\n{body}", body.len())
}

fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
