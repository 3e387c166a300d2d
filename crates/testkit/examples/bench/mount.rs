//! Mounts: of a formatted volume beside what a person would type, and after a power cut.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use vdvs_testkit::process::{Cmd, tool};

use crate::figures::{median, ms, timed};
use crate::http::Http;
use crate::world::{FIRST, SECOND, World};

const ROUNDS: usize = 20;
const TAKEOVERS: usize = 4;

/// What a person would do with the disk, in a mount namespace of its own; prints microseconds until it is mounted.
const BARE: &str = "set -eu; begin=${EPOCHREALTIME/./}; device=$(losetup --find --show \"$1\"); \
    mount -t ext4 \"$device\" \"$2\"; end=${EPOCHREALTIME/./}; \
    umount \"$2\"; losetup --detach \"$device\"; echo $((end - begin))";

/// A formatted volume's Mount, and losetup and mount of the same disk, in turn.
pub(crate) fn beside_bare(world: &World) -> Result<()> {
    let name = "b-mount";
    let mut plugin = world.plugin(FIRST)?;
    plugin.plugin("Create", &json!({"Name": name}))?;
    let (first, _) = timed(|| mount(&mut plugin, name))?;
    unmount(&mut plugin, name)?;
    let extent = extent_of(&world.datastore(), name)?;
    let (mut ours, mut bare, mut away) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(ms(timed(|| mount(&mut plugin, name))?.0));
        away.push(ms(timed(|| unmount(&mut plugin, name))?.0));
        bare.push(bare_mount(world, &extent)?);
    }
    plugin.plugin("Remove", &json!({"Name": name}))?;
    let (ours, bare) = (median(&ours)?, median(&bare)?);
    let note = format!("{ours:.1} ms over {bare:.1} ms, {ROUNDS} rounds");
    world.figure("mount.ratio", ours / bare, &note)?;
    world.figure("mount.extra", ours - bare, "")?;
    world.figure("mount.unmount", median(&away)?, "unmount, detach")?;
    world.figure("mount.first", ms(first), "attach, mkfs, mount; once")?;
    Ok(())
}

/// The volume is mounted on one node, its power is cut, and the other node asks at once.
pub(crate) fn takeover(world: &World) -> Result<()> {
    let name = "b-takeover";
    let (mut from, mut to) = (FIRST, SECOND);
    world
        .plugin(from)?
        .plugin("Create", &json!({"Name": name}))?;
    mount(&mut world.plugin(from)?, name)?;
    let mut times = Vec::new();
    for _ in 0..TAKEOVERS {
        let mut plugin = world.plugin(to)?;
        let took = world
            .without_power(from, || timed(|| mount(&mut plugin, name)))?
            .0;
        times.push(ms(took));
        (from, to) = (to, from);
    }
    let mut plugin = world.plugin(from)?;
    unmount(&mut plugin, name)?;
    plugin.plugin("Remove", &json!({"Name": name}))?;
    world.figure(
        "takeover",
        median(&times)?,
        &format!("{TAKEOVERS} power cuts"),
    )?;
    Ok(())
}

pub(crate) fn mount(plugin: &mut Http, name: &str) -> Result<String> {
    let answer = plugin.plugin("Mount", &json!({"Name": name, "ID": "bench"}))?;
    let at = answer.get("Mountpoint").and_then(Value::as_str);
    Ok(at.context("a Mount without a mount point")?.to_owned())
}

pub(crate) fn unmount(plugin: &mut Http, name: &str) -> Result<()> {
    plugin
        .plugin("Unmount", &json!({"Name": name, "ID": "bench"}))
        .map(drop)
}

fn bare_mount(world: &World, extent: &Path) -> Result<f64> {
    let at = world.lab().layout().root().join("bare");
    fs::create_dir_all(&at)?;
    let said = Cmd::new(tool::UNSHARE)
        .clean_env()
        .args([
            "--mount",
            "--propagation",
            "private",
            tool::BASH,
            "-c",
            BARE,
            "bare",
        ])
        .arg(extent)
        .arg(&at)
        .run()?;
    let micros: f64 = said
        .trim()
        .parse()
        .with_context(|| format!("it printed {said:?}"))?;
    Ok(micros / 1e3)
}

/// The file that holds a volume's bytes.
pub(crate) fn extent_of(datastore: &Path, volume: &str) -> Result<PathBuf> {
    for group in fs::read_dir(datastore.join("dockvols"))? {
        let group = group?;
        if !group.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(group.path())? {
            let file = file?;
            let name = file.file_name().into_string().unwrap_or_default();
            if name.starts_with(&format!("{volume}.")) && name.ends_with("-flat.vmdk") {
                return Ok(file.path());
            }
        }
    }
    bail!("{volume} has no extent below {}", datastore.display())
}
