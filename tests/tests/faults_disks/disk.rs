//! A volume's own disk fails: its reads, its writes, under `mkfs`, under a container.

use anyhow::{Result, ensure};
use serde_json::json;

use super::tools::{Fails, FaultyDisk};
use super::{DATASTORE, VM, all_gone, must_fail, volume, wait_free, world};
use crate::bare::Bare;

/// What the kernel says, and what we say of a disk that is gone.
const EIO: &[&str] = &["input/output error", "i/o error"];

/// A line that is flushed, in a container that runs.
fn line(bare: &Bare, at: &str, said: &str) -> Result<String> {
    bare.inside(
        VM,
        &format!("echo {said} | dd of={at}/lines oflag=append conv=notrunc,fsync 2>&1"),
    )
}

#[test]
fn a_disk_that_fails_writes_under_a_container_keeps_what_was_flushed_and_works_again() -> Result<()>
{
    let Some(bare) = world()? else { return Ok(()) };
    bare.create(VM, "busy", &["size=20mb"])?;
    bare.write(VM, "busy", "first")?;
    wait_free(&bare, "busy")?;
    let disk = FaultyDisk::under(&bare, DATASTORE, "busy")?;
    let at = bare.mount(VM, "busy", "c1")?.display().to_string();
    line(&bare, &at, "second")?;

    disk.set(Fails::Writes, true)?;
    must_fail(line(&bare, &at, "third"), EIO)?;
    // The disk is the container's until the container ends, whatever it answers.
    ensure!(volume(&bare, "busy")?["state"] == "attached");
    let unmounted = bare.unmount(VM, "busy", "c1");
    eprintln!("unmounted while writes fail: {unmounted:?}");
    disk.set(Fails::Writes, false)?;

    wait_free(&bare, "busy")?;
    let read = bare.read(VM, "busy")?;
    ensure!(read.starts_with("first\nsecond"), "{read}");
    bare.write(VM, "busy", "fourth")?;
    let read = bare.read(VM, "busy")?;
    ensure!(
        read.starts_with("first\nsecond") && read.ends_with("fourth"),
        "{read}"
    );
    wait_free(&bare, "busy")?;
    disk.away()?;
    let read = bare.read(VM, "busy")?;
    ensure!(read.ends_with("fourth"), "{read}");
    all_gone(&bare, &["busy"])?;
    bare.assert_quiet_but(&["is lost to this guest", "unmount"])
}

#[test]
fn a_disk_that_cannot_be_read_is_neither_formatted_nor_given_up() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    for name in ["full", "blank"] {
        bare.create(VM, name, &["size=20mb"])?;
    }
    bare.write(VM, "full", "first")?;
    wait_free(&bare, "full")?;
    for (name, state) in [("full", "ready"), ("blank", "never")] {
        let disk = FaultyDisk::under(&bare, DATASTORE, name)?;
        let before = disk.bytes()?;
        disk.set(Fails::Reads, true)?;
        let said = must_fail(bare.mount(VM, name, "c1"), EIO)?;
        ensure!(said.contains(name), "which volume? {said}");
        ensure!(disk.bytes()? == before, "{name} was written to");
        let seen = volume(&bare, name)?;
        ensure!(seen["filesystem"]["state"] == state, "{name}: {seen}");
        // It is there, and nobody is told otherwise.
        bare.ask(VM, "Get", &json!({"Name": name}))?;
        disk.set(Fails::Reads, false)?;
        bare.write(VM, name, "second")?;
        let read = bare.read(VM, name)?;
        ensure!(read.ends_with("second"), "{name}: {read}");
        ensure!(
            read.starts_with("first") == (name == "full"),
            "{name}: {read}"
        );
        wait_free(&bare, name)?;
        disk.away()?;
    }
    all_gone(&bare, &["full", "blank"])?;
    bare.assert_quiet_but(&["mount failed", "is lost to this guest"])
}

#[test]
fn a_format_that_fails_is_said_to_fail_and_is_done_again_when_the_disk_works() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    for (name, fstype) in [("ext", "ext4"), ("xfs", "xfs")] {
        let size = if fstype == "xfs" {
            "size=400mb"
        } else {
            "size=20mb"
        };
        bare.create(VM, name, &[size, &format!("fstype={fstype}")])?;
        let disk = FaultyDisk::under(&bare, DATASTORE, name)?;
        disk.set(Fails::Writes, true)?;
        for _ in 0..2 {
            must_fail(bare.mount(VM, name, "c1"), EIO)?;
            let seen = volume(&bare, name)?;
            ensure!(seen["filesystem"]["state"] != "ready", "{name}: {seen}");
        }
        disk.set(Fails::Writes, false)?;
        bare.write(VM, name, "first")?;
        ensure!(bare.read(VM, name)? == "first");
        ensure!(volume(&bare, name)?["filesystem"]["state"] == "ready");
        wait_free(&bare, name)?;
        disk.away()?;
        ensure!(bare.read(VM, name)? == "first");
    }
    all_gone(&bare, &["ext", "xfs"])?;
    bare.assert_quiet_but(&["mount failed", "is lost to this guest"])
}
