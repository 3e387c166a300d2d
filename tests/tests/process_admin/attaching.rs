//! Attaching, detaching, and what power events do to it.

use std::time::Duration;

use anyhow::{Result, ensure};
use vdvs_testkit::wait::until_true;

use crate::bare::Bare;
use crate::bare::team::said;
use crate::world;

/// The original allowed five seconds; the machine of a suite is busy.
const SECONDS: Duration = Duration::from_secs(30);

/// Whose the volume is, as the original's listing says it.
fn attached_to(bare: &Bare, volume: &str) -> Result<String> {
    let line = format!(
        "volume ls -c volume,attached-to --output csv --vmgroup=* --filter volume={volume}"
    );
    let listed = bare.vdvs(&line)?;
    let row = listed.lines().nth(1).unwrap_or_default();
    Ok(row.rsplit(',').next().unwrap_or_default().to_owned())
}

fn wait_attached_to(bare: &Bare, volume: &str, expected: &str) -> Result<()> {
    let what = format!("{volume} is {expected}");
    until_true(
        SECONDS,
        &what,
        || Ok(attached_to(bare, volume)? == expected),
    )
}

#[test]
fn volume_lifecycle() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    for vm in ["vm1", "vm2"] {
        bare.create(vm, "life", &["size=20mb"])?;
        bare.create(vm, "life", &["size=20mb"])?;
        bare.mount(vm, "life", "c1")?;
        ensure!(attached_to(&bare, "life")? == vm);
        ensure!(bare.remove(vm, "life").is_err(), "it is in use");
        ensure!(bare.vdvs("volume inspect life")?.contains(vm));
        bare.unmount(vm, "life", "c1")?;
        ensure!(attached_to(&bare, "life")? == "detached");
        bare.remove(vm, "life")?;
        ensure!(bare.listed(vm)?.is_empty());
    }
    bare.assert_quiet()
}

#[test]
fn volume_properties() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    for format in ["thin", "zeroedthick", "eagerzeroedthick"] {
        let option = format!("diskformat={format}");
        bare.create("vm1", format, &["size=100mb", &option])?;
        let status = bare.status_of("vm1", format)?;
        ensure!(status["diskformat"] == *format, "{status}");
        ensure!(status["capacity"]["size"] == "100MB", "{status}");
        let line = format!(
            "volume ls -c volume,capacity,disk-format,attached-to --filter volume={format}"
        );
        let table = bare.vdvs(&line)?;
        let row = table.lines().last().unwrap_or_default();
        let row: Vec<_> = row.split_whitespace().collect();
        ensure!(row == [format, "100MB", format, "detached"], "{table}");
    }
    bare.mount("vm1", "thin", "c1")?;
    ensure!(attached_to(&bare, "thin")? == "vm1");
    ensure!(bare.status_of("vm1", "thin")?["attached to VM"] == "vm1");
    bare.unmount("vm1", "thin", "c1")?;
    bare.assert_quiet()
}

#[test]
fn basic_failover_and_failover_across_vms() -> Result<()> {
    let Some(mut bare) = world()? else {
        return Ok(());
    };
    bare.create("vm1", "moved", &["size=20mb"])?;
    bare.write("vm1", "moved", "one")?;
    bare.mount("vm1", "moved", "c1")?;
    wait_attached_to(&bare, "moved", "vm1")?;
    bare.power_off("vm1")?;
    wait_attached_to(&bare, "moved", "detached")?;
    ensure!(bare.read("vm2", "moved")? == "one");
    bare.boot("vm1")?;
    wait_attached_to(&bare, "moved", "detached")?;
    bare.remove("vm1", "moved")?;
    bare.assert_quiet()
}

#[test]
fn service_restart_does_not_change_what_is_attached() -> Result<()> {
    let Some(mut bare) = world()? else {
        return Ok(());
    };
    bare.create("vm1", "kept", &["size=20mb"])?;
    let at = bare.mount("vm1", "kept", "c1")?;
    bare.kill_agent()?;
    bare.inside("vm1", &format!("echo meanwhile > {}/lines", at.display()))?;
    bare.start_agent()?;
    wait_attached_to(&bare, "kept", "vm1")?;
    bare.unmount("vm1", "kept", "c1")?;
    ensure!(bare.read("vm2", "kept")? == "meanwhile");
    bare.remove("vm2", "kept")?;
    bare.assert_quiet_but(&["no agent; the journal answers"])
}

#[test]
fn detach_by_force_says_what_it_did_and_the_guest_goes_on_without_it() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "taken", &["size=20mb"])?;
    bare.write("vm1", "taken", "flushed")?;
    bare.mount("vm1", "taken", "c1")?;
    bare.vdvs("volume detach taken --force --yes")?;
    ensure!(attached_to(&bare, "taken")? == "detached");
    ensure!(bare.read("vm2", "taken")? == "flushed");
    let audit = bare.vdvs("audit ls --output csv")?;
    ensure!(audit.contains("taken"), "{audit}");
    bare.unmount("vm1", "taken", "c1")?;
    bare.remove("vm2", "taken")?;
    bare.assert_quiet_but(&["taken", "fenced", "lost", "Superseded", "SUPERSEDED"])
}

#[test]
fn a_protected_volume_is_removed_by_nobody() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "dear", &["size=20mb"])?;
    bare.vdvs("volume protect dear")?;
    let why = said(bare.remove("vm1", "dear"))?;
    ensure!(why.contains("protected"), "{why}");
    let why = bare.refused("volume rm dear --yes")?;
    ensure!(why.contains("volume unprotect"), "{why}");
    bare.vdvs("volume unprotect dear")?;
    bare.remove("vm1", "dear")?;
    bare.assert_quiet()
}
