//! `vdvs doctor` at the command line: what it finds, its exit codes, a repair and its row in the audit.
//!
//! The machine may have findings of its own (a disk that is nearly full), so each look is at one object.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bare::Bare;
use crate::world;

/// A command, its exit code and what it printed as JSON.
pub(crate) fn asked(bare: &Bare, args: &[&str]) -> Result<(Option<i32>, Value)> {
    let args: Vec<String> = args
        .iter()
        .chain(&["--output", "json"])
        .map(|&a| a.to_owned())
        .collect();
    let done = bare.cli(&args)?;
    let json = serde_json::from_str(&done.stdout)
        .with_context(|| format!("{args:?}: {}{}", done.stdout, done.stderr))?;
    Ok((done.status.code(), json))
}

/// The files of a vmgroup's folder, or of our own, that begin so.
pub(crate) fn files(bare: &Bare, datastore: &str, start: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in fs::read_dir(bare.datastore(datastore).join("dockvols"))? {
        let folder = folder?.path();
        if !folder.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder)? {
            let file = file?;
            if file.file_name().to_string_lossy().starts_with(start) {
                found.push(file.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn a_disk_that_is_gone_is_data_at_risk_until_it_is_back() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "data", &["size=20mb"])?;
    let look = || asked(&bare, &["doctor", "data@vsan1"]);
    let (code, clean) = look()?;
    ensure!(
        code == Some(0) && clean["findings"] == Value::Array(Vec::new()),
        "{clean}"
    );
    let disks = files(&bare, "vsan1", "data.")?;
    let descriptor = disks
        .iter()
        .find(|f| f.to_string_lossy().ends_with(".vmdk") && !f.to_string_lossy().contains("-flat"))
        .context("a descriptor")?;
    let kept = fs::read(descriptor)?;
    fs::remove_file(descriptor)?;
    let (code, found) = look()?;
    ensure!(code == Some(2), "{found}");
    let finding = &found["findings"][0];
    ensure!(
        finding["name"] == "record-without-disk" && finding["risk"] == "data",
        "{found}"
    );
    ensure!(
        finding["since"].is_string() && finding["repair"].is_null(),
        "{found}"
    );
    let refused = bare.refused("doctor --fix=record-without-disk")?;
    ensure!(refused.contains("put the disk back"), "{refused}");
    let unknown = bare.refused("doctor --fix=nonsense")?;
    ensure!(unknown.contains("powered-off-owner"), "{unknown}");
    fs::write(descriptor, kept)?;
    ensure!(look()?.0 == Some(0));
    bare.mount("vm1", "data", "c1")?;
    ensure!(look()?.0 == Some(0), "attached");
    bare.unmount("vm1", "data", "c1")?;
    bare.remove("vm1", "data")?;
    bare.assert_quiet()
}

#[test]
fn a_ledger_that_lost_a_volume_is_repaired_and_the_audit_says_by_whom() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "data", &["size=20mb"])?;
    let name = "missing-ledger-entry";
    // The agent repairs it by itself when its sweep comes to it, which may be between two of these lines.
    for _ in 0..5 {
        let slots = files(&bare, "vsan1", "ledger.")?;
        let slot = |file: &PathBuf| {
            let file = file.to_string_lossy().into_owned();
            let (stem, seq) = file.rsplit_once('.')?;
            Some((seq.parse::<u64>().ok()?, stem.to_owned()))
        };
        let (seq, stem) = slots.iter().filter_map(slot).max().context("a ledger")?;
        // A whole ledger without entries: kind, format, length, checksum, body.
        let framed = "vdvs ledger 1 30 e1b8c15e\n{\"entries\":{},\"complete\":true}";
        fs::write(format!("{stem}.{}", seq + 1), framed)?;
        let (_, dry) = asked(&bare, &["doctor", "--fix", name, "data@vsan1", "--dry-run"])?;
        let (code, done) = asked(&bare, &["doctor", "--fix", name, "data@vsan1"])?;
        if dry["repaired"][0]["outcome"] != "would" || done["repaired"][0]["outcome"] != "repaired"
        {
            continue;
        }
        ensure!(code == Some(0), "{done}");
        let (code, clean) = asked(&bare, &["doctor", "data@vsan1"])?;
        ensure!(code == Some(0), "{clean}");
        let audit = bare.vdvs("audit ls --verb repair")?;
        ensure!(audit.contains(name) && audit.contains("root"), "{audit}");
        bare.remove("vm1", "data")?;
        return bare.assert_quiet();
    }
    ensure!(false, "the sweep was first five times");
    Ok(())
}
