//! `vdvs fsck` at the command line, of a datastore whose volumes are used meanwhile: a record that is gone, one with a
//! flipped byte, one of a newer version.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::bare::Bare;
use crate::doctor::{asked, files};
use crate::world;

/// The versions of a volume's record, the newest last.
fn slots(bare: &Bare, volume: &str) -> Result<Vec<PathBuf>> {
    let slot = |file: &PathBuf| {
        let name = file.file_name()?.to_string_lossy().into_owned();
        let (stem, seq) = name.rsplit_once('.')?;
        let seq = seq.parse::<u64>().ok()?;
        stem.ends_with(".vdvs").then_some(seq)
    };
    let mut all = files(bare, "vsan1", &format!("{volume}."))?;
    all.retain(|file| slot(file).is_some());
    all.sort_by_key(slot);
    ensure!(!all.is_empty(), "{volume} has a record");
    Ok(all)
}

/// Each file of a volume with its bytes, but for its disk's content.
fn bytes(bare: &Bare, volume: &str) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let all = files(bare, "vsan1", &format!("{volume}."))?.into_iter();
    let small = all.filter(|file| !file.to_string_lossy().ends_with("-flat.vmdk"));
    small
        .map(|file| Ok((file.clone(), fs::read(file)?)))
        .collect()
}

/// What is found, by volume: its name and its state.
fn rows(found: &Value) -> Result<BTreeMap<String, String>> {
    let all = found["findings"].as_array().context("findings")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let row = |f: &Value| {
        let said = format!("{} {}", text(&f["name"]), text(&f["state"]));
        (text(&f["volume"]), said)
    };
    Ok(all.iter().map(row).collect())
}

fn expected(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(volume, said): &(&str, &str)| (format!("{volume}@vsan1"), (*said).to_owned());
    all.iter().map(owned).collect()
}

/// The names of the damaged files that were kept.
fn kept(bare: &Bare) -> Result<Vec<String>> {
    let mut kept = Vec::new();
    for folder in fs::read_dir(bare.datastore("vsan1").join("dockvols/.vdvs/damaged"))? {
        for file in fs::read_dir(folder?.path())? {
            kept.push(file?.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(kept)
}

#[test]
fn damage_is_named_repaired_and_what_is_newer_is_not_touched() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    for volume in ["gone", "flipped", "newer", "whole"] {
        bare.create("vm1", volume, &["size=20mb"])?;
        bare.write("vm1", volume, volume)?;
    }
    let look = || asked(&bare, &["fsck", "vsan1"]);
    let (code, clean) = look()?;
    ensure!(code == Some(0) && rows(&clean)?.is_empty(), "{clean}");
    let at = bare.mount("vm1", "gone", "c1")?;

    for slot in slots(&bare, "gone")? {
        fs::remove_file(slot)?;
    }
    for slot in slots(&bare, "flipped")? {
        let mut bytes = fs::read(&slot)?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&slot, bytes)?;
    }
    let newest = slots(&bare, "newer")?.pop().context("a record")?;
    let text = newest.to_string_lossy().into_owned();
    let (stem, seq) = text.rsplit_once('.').context("a slot")?;
    let ahead = PathBuf::from(format!("{stem}.{}", seq.parse::<u64>()? + 1));
    // `{}` and its checksum, of a format to come.
    fs::write(&ahead, "vdvs record 9 2 a3a6bf43\n{}")?;
    let newer = bytes(&bare, "newer")?;

    // Looking changes nothing.
    let before = [bytes(&bare, "gone")?, bytes(&bare, "flipped")?];
    let (code, found) = look()?;
    ensure!(code == Some(1), "{found}");
    let all = expected(&[
        ("gone", "lost-record repairable"),
        ("flipped", "damaged-record repairable"),
        ("newer", "newer-format left"),
    ]);
    ensure!(rows(&found)? == all, "{found:#}");
    ensure!([bytes(&bare, "gone")?, bytes(&bare, "flipped")?] == before);
    // Without somebody who answers, nothing is repaired either.
    let unasked = bare.refused("fsck vsan1 --repair")?;
    ensure!(unasked.contains("--yes"), "{unasked}");

    let (code, done) = asked(&bare, &["fsck", "vsan1", "--repair", "--yes"])?;
    let all = expected(&[
        ("gone", "lost-record repaired"),
        ("flipped", "damaged-record repaired"),
        ("newer", "newer-format left"),
    ]);
    ensure!(rows(&done)? == all, "{done:#}");
    ensure!(code == Some(1), "one is left: {done}");
    ensure!(
        bytes(&bare, "newer")? == newer,
        "the newer one is as it was"
    );
    let kept = kept(&bare)?;
    ensure!(
        kept.iter().any(|file| file.starts_with("flipped.")),
        "the damaged bytes are kept: {kept:?}"
    );
    let audit = bare.vdvs("audit ls --verb fsck")?;
    ensure!(
        audit.contains("gone@vsan1") && audit.contains("flipped@vsan1"),
        "{audit}"
    );

    // The newer program's work is gone again: everything is as it was before.
    fs::remove_file(ahead)?;
    let (code, clean) = look()?;
    ensure!(code == Some(0) && rows(&clean)?.is_empty(), "{clean}");
    let used = bare.status_of("vm2", "gone")?;
    ensure!(used["attached to VM"] == "vm1", "it goes on there: {used}");
    let line = format!("echo more >> {0}/lines && sync -f {0}", at.display());
    bare.inside("vm1", &line)?;
    for volume in ["flipped", "newer", "whole"] {
        let said = bare.read("vm2", volume)?;
        ensure!(said == volume, "{volume}: {said}");
        bare.remove("vm2", volume)?;
    }
    bare.assert_quiet_but(&["flipped", "gone", "newer", "damaged"])
}
