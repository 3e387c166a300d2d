//! A format that is cut off when `mkfs` has ended and nobody has been told yet: the next one finds a file system that no
//! record calls ready, with the very UUID that was stored, and nothing on it that anybody was promised.

use std::fs;
use std::thread;

use anyhow::{Result, anyhow, ensure};
use vdvs_testkit::lab::NOTES;
use vdvs_testkit::wait::until_true;
use vdvs_tests::rig::run_in;

use super::stage::{ONE, PATIENCE, Stage, TWO};

const MKFS: &str = "/usr/sbin/mkfs.ext4";

/// Takes the place of `mkfs.ext4` in a node: makes the file system and does not come back while it is held.
const SLOW: &str = r#"#!/bin/sh
/var/lib/notes/mkfs/mkfs.ext4 "$@" || exit $?
touch /var/lib/notes/mkfs/done
while [ -e /var/lib/notes/mkfs/hold ]; do sleep 0.05; done
"#;

/// First the plugin dies there and its own engine asks again; then the machine, and the other host formats anew or takes
/// what is there.
pub(crate) fn the_plugin_dies_between_mkfs_and_ready(stage: &Stage) -> Result<()> {
    let dies = |stage: &Stage| stage.rig.kill_plugin(ONE);
    formatted_and_cut(stage, "plugin-dies", ONE, dies)?;
    stage.rig.node(ONE)?.sh(&format!(
        "rm -f {NOTES}/mkfs/hold {NOTES}/mkfs/done; umount -l {MKFS}"
    ))?;
    stage.rig.wait_plugin(ONE)?;
    writes(stage, ONE, "plugin-dies")?;

    let dies = |stage: &Stage| stage.rig.power_cut(TWO);
    formatted_and_cut(stage, "machine-dies", TWO, dies)?;
    writes(stage, ONE, "machine-dies")?;
    stage.back(TWO)?;
    for volume in ["plugin-dies", "machine-dies"] {
        stage.remove(volume)?;
    }
    Ok(())
}

/// The first container of a volume is started, and something dies when `mkfs` has ended.
fn formatted_and_cut(
    stage: &Stage,
    volume: &str,
    node: &str,
    dies: impl FnOnce(&Stage) -> Result<()>,
) -> Result<()> {
    let on = stage.rig.node(node)?;
    stage.create(volume, &[])?;
    let slow = stage.rig.scratch("mkfs", SLOW)?;
    let folder = on.notes_dir().join("mkfs");
    fs::create_dir_all(&folder)?;
    fs::copy(slow, folder.join("slow"))?;
    fs::remove_file(folder.join("done")).ok();
    on.sh(&format!(
        "set -e; cd {NOTES}/mkfs; cp {MKFS} mkfs.ext4; chmod 755 slow; touch hold; \
         mount --bind slow {MKFS}"
    ))?;
    let run = run_in(volume, "echo never > /data/f; sync; echo written");
    thread::scope(|scope| {
        let runs = scope.spawn(|| stage.docker(node).run(&run));
        until_true(PATIENCE, "mkfs has ended", || {
            Ok(folder.join("done").exists())
        })?;
        let filesystem = stage.rig.volume(volume)?;
        let state = filesystem.pointer("/filesystem/state").cloned();
        ensure!(state == Some("formatting".into()), "{volume} is {state:?}");
        dies(stage)?;
        let said = runs.join().map_err(|_| anyhow!("a thread panicked"))?;
        // The engine sends what was cut off again without a body, and gives up.
        stage
            .rig
            .note(volume, &format!("its first container: {said:?}"));
        ensure!(!said.is_ok_and(|said| said != "written"));
        Ok(())
    })
}

fn writes(stage: &Stage, node: &str, volume: &str) -> Result<()> {
    let run = run_in(volume, "echo kept > /data/f; sync; cat /data/f");
    let said = stage.docker(node).run(&run)?;
    ensure!(said == "kept", "{volume} on {node}: {said}");
    stage.rig.wait_detached(volume)?;
    let said = stage
        .docker(node)
        .run(&run_in(volume, "cat /data/f; ls -A /data"))?;
    ensure!(said == "kept\nf", "{volume} on {node}: {said}");
    Ok(())
}
