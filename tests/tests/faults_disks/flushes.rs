//! Flushes fail: under the agent's records, and under the plugin's journal. What could not be made durable is not
//! acknowledged; what is in doubt is looked at again; nobody has to restart anything.

use anyhow::{Context, Result, ensure};
use vdvs_testkit::process::ProcId;

use super::tools::NoFlush;
use super::{VM, all_gone, must_fail, settled, volume, wait_free, world};
use crate::bare::Bare;

const EIO: &[&str] = &["input/output error", "i/o error"];
/// What a guest is told while nothing can be written down: that it is so, and to try again.
const UNAVAILABLE: &[&str] = &["datastore ds1", "try again"];

#[test]
fn an_agent_that_cannot_flush_acknowledges_nothing_and_goes_on_when_it_can() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    for name in ["held", "idle"] {
        bare.create(VM, name, &["size=20mb"])?;
        bare.write(VM, name, "first")?;
        wait_free(&bare, name)?;
    }
    let at = bare.mount(VM, "held", "c1")?;

    let fault = NoFlush::of(bare.agent()?, &bare.path().join("tracer.log"))?;
    must_fail(bare.create(VM, "new", &["size=20mb"]), UNAVAILABLE)?;
    must_fail(bare.mount(VM, "idle", "c2"), UNAVAILABLE)?;
    must_fail(bare.remove(VM, "idle"), UNAVAILABLE)?;
    // What runs, runs; its end can be told, and is done when it can be written down.
    bare.inside(
        VM,
        &format!("echo second >> {0}/lines; sync -f {0}", at.display()),
    )?;
    let ended = bare.unmount(VM, "held", "c1");
    eprintln!("unmounted while the agent cannot flush: {ended:?}");
    fault.away()?;

    wait_free(&bare, "held")?;
    ensure!(bare.read(VM, "held")? == "first\nsecond");
    // The removal was refused, and may have been begun: then it is ended. Either way nothing is half there.
    settled(&bare)?;
    let mut there = vec!["held", "new"];
    if bare
        .listed(VM)?
        .iter()
        .any(|name| name.starts_with("idle@"))
    {
        wait_free(&bare, "idle")?;
        ensure!(bare.read(VM, "idle")? == "first");
        there.push("idle");
    }
    bare.create(VM, "new", &["size=20mb"])?;
    bare.write(VM, "new", "first")?;
    all_gone(&bare, &there)?;
    bare.assert_quiet_but(&[
        "mount failed",
        "os error 5",
        "the host did not detach the disk",
    ])
}

/// The plugin inside the VM.
fn plugin_of(bare: &Bare) -> Result<ProcId> {
    bare.plugin_inside(VM).context("no plugin runs")
}

#[test]
fn a_plugin_that_cannot_flush_its_journal_acknowledges_no_mount_and_goes_on_when_it_can()
-> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    for name in ["held", "idle"] {
        bare.create(VM, name, &["size=20mb"])?;
        bare.write(VM, name, "first")?;
        wait_free(&bare, name)?;
    }
    let at = bare.mount(VM, "held", "c1")?;

    let fault = NoFlush::of(plugin_of(&bare)?, &bare.path().join("tracer.log"))?;
    must_fail(bare.mount(VM, "idle", "c2"), EIO)?;
    bare.inside(
        VM,
        &format!("echo second >> {0}/lines; sync -f {0}", at.display()),
    )?;
    let ended = bare.unmount(VM, "held", "c1");
    eprintln!("unmounted while the journal cannot be flushed: {ended:?}");
    fault.away()?;

    wait_free(&bare, "held")?;
    wait_free(&bare, "idle")?;
    ensure!(volume(&bare, "idle")?["filesystem"]["state"] == "ready");
    ensure!(bare.read(VM, "held")? == "first\nsecond");
    ensure!(bare.read(VM, "idle")? == "first");
    all_gone(&bare, &["held", "idle"])?;
    bare.assert_quiet_but(&[
        "mount failed",
        "in memory only",
        "was not shortened",
        "dockerd lost the Unmount",
    ])
}
