//! Many volumes at once: one is created, and its files are copied under new names and ids while the agent is away.
//!
//! The frames are written as the engine writes them (`vdvs <kind> 1 <length> <crc>`, then JSON). One that is not right
//! is torn to the engine and its volume missing from the list, which whoever measures the list notices.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::world::{FIRST, World};

const TEMPLATE: &str = "b-template";

/// The volume that is copied.
struct Template {
    dir: PathBuf,
    /// What follows the volume's name in the names of its files, with the file's bytes; none for the extent.
    files: Vec<(String, Option<String>)>,
    id: String,
    extent: u64,
}

/// Plants the volumes of these numbers, called `p-00000` and so on; the agent is new afterwards.
pub(crate) fn volumes(world: &World, numbers: Range<usize>) -> Result<()> {
    eprintln!("planting volumes {numbers:?}");
    if numbers.start == 0 {
        let mut plugin = world.plugin(FIRST)?;
        plugin.plugin("Create", &json!({"Name": TEMPLATE}))?;
    }
    let dockvols = world.datastore().join("dockvols");
    world.restart_agent(|| {
        let template = Template::read(&dockvols)?;
        let mut entries = Map::new();
        for n in numbers {
            let id = template.copy(&format!("p-{n:05}"))?;
            entries.insert(id, json!(template.extent));
        }
        enter(&dockvols.join(".vdvs"), entries)
    })
}

/// A volume as another host would have made it: its files appear while the agent runs.
pub(crate) fn beside_the_agent(world: &World, name: &str) -> Result<()> {
    let template = Template::read(&world.datastore().join("dockvols"))?;
    template.copy(name).map(drop)
}

impl Template {
    fn read(dockvols: &Path) -> Result<Self> {
        let claim = format!("{TEMPLATE}.vdvs");
        let groups = entries(dockvols)?.into_iter();
        let dir = groups
            .map(|name| dockvols.join(name))
            .find(|dir| dir.join(&claim).is_file())
            .context("the template has no claim")?;
        let (_, json) = frame_of(&fs::read_to_string(dir.join(&claim))?)?;
        let id = json.get("id").and_then(Value::as_str);
        let mut template = Self {
            id: id.context("a claim without an id")?.to_owned(),
            dir,
            files: Vec::new(),
            extent: 0,
        };
        for name in entries(&template.dir)? {
            let Some(rest) = name.strip_prefix(TEMPLATE) else {
                continue;
            };
            let path = template.dir.join(&name);
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

    /// Writes the files of a volume of this name; says its id.
    fn copy(&self, name: &str) -> Result<String> {
        let id = Uuid::now_v7().to_string();
        let digits = |id: &str| id.get(id.len().saturating_sub(8)..).map(str::to_owned);
        let (old8, new8) = digits(&self.id).zip(digits(&id)).context("an id is long")?;
        let anew = |text: &str| {
            text.replace(TEMPLATE, name)
                .replace(&self.id, &id)
                .replace(&old8, &new8)
        };
        for (rest, text) in &self.files {
            let path = self.dir.join(format!("{name}{}", anew(rest)));
            match text {
                None => fs::File::create(path)?.set_len(self.extent)?,
                Some(text) if text.starts_with("vdvs ") => {
                    let (kind, json) = frame_of(text)?;
                    fs::write(path, frame(&kind, &anew(&json.to_string())))?;
                }
                Some(text) => fs::write(path, anew(text))?,
            }
        }
        Ok(id)
    }
}

/// The next version of the ledger that holds the template.
fn enter(own: &Path, entries_anew: Map<String, Value>) -> Result<()> {
    let newest =
        |name: &String| Some((name.rsplit_once('.')?.1.parse::<u64>().ok()?, name.clone()));
    let ledgers = entries(own)?
        .into_iter()
        .filter(|n| n.starts_with("ledger."));
    let (seq, name) = ledgers
        .filter_map(|name| newest(&name))
        .max()
        .context("there is no ledger")?;
    let (kind, mut ledger) = frame_of(&fs::read_to_string(own.join(&name))?)?;
    ledger
        .get_mut("entries")
        .and_then(Value::as_object_mut)
        .context("a ledger without entries")?
        .extend(entries_anew);
    let stem = name.rsplit_once('.').context("a slot has a number")?.0;
    let next = own.join(format!("{stem}.{}", seq + 1));
    fs::write(next, frame(&kind, &ledger.to_string()))?;
    Ok(())
}

/// Kind and content of a small shared file.
fn frame_of(text: &str) -> Result<(String, Value)> {
    let (header, body) = text.split_once('\n').context("a frame has a header")?;
    let kind = header.split(' ').nth(1).context("a frame has a kind")?;
    Ok((kind.to_owned(), serde_json::from_str(body)?))
}

fn frame(kind: &str, body: &str) -> String {
    let crc = crc32fast::hash(body.as_bytes());
    format!("vdvs {kind} 1 {} {crc:08x}\n{body}", body.len())
}

fn entries(dir: &Path) -> Result<Vec<String>> {
    let listing = fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))?;
    listing
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
