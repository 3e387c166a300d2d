//! `access` as an administrator changes it: it counts from the next container on, in every VM.

use anyhow::{Result, ensure};

use crate::bare::Bare;
use crate::bare::team::said;
use crate::world;

fn set(bare: &Bare, access: &str) -> Result<()> {
    let line =
        format!("volume set --volume=data@vsan1 --vmgroup=_DEFAULT --options=access={access}");
    let done = bare.vdvs(&line)?;
    ensure!(
        done.contains("Successfully updated settings for data"),
        "{done}"
    );
    Ok(())
}

fn cannot_write(bare: &Bare, vm: &str) -> Result<()> {
    let why = said(bare.write(vm, "data", "no"))?;
    ensure!(why.contains("Read-only file system"), "{why}");
    Ok(())
}

#[test]
fn access_update() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "data", &["size=20mb"])?;
    let mut expected = Vec::new();
    for round in ["first", "second"] {
        for vm in ["vm1", "vm2"] {
            bare.write(vm, "data", &format!("{round}-{vm}"))?;
            expected.push(format!("{round}-{vm}"));
        }
        ensure!(bare.read("vm1", "data")? == expected.join("\n"));
        set(&bare, "read-only")?;
        for vm in ["vm1", "vm2"] {
            cannot_write(&bare, vm)?;
            ensure!(bare.read(vm, "data")? == expected.join("\n"));
        }
        set(&bare, "read-write")?;
    }
    bare.write("vm2", "data", "last")?;
    bare.assert_quiet()
}

#[test]
fn access_update_r_rw() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "data", &["size=20mb", "access=read-only"])?;
    cannot_write(&bare, "vm1")?;
    cannot_write(&bare, "vm2")?;
    set(&bare, "read-write")?;
    bare.write("vm1", "data", "text")?;
    ensure!(bare.read("vm2", "data")? == "text");
    bare.assert_quiet()
}

#[test]
fn volume_set_refuses_what_it_cannot_set_and_changes_nothing() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "data", &["size=20mb"])?;
    let line = "volume set --volume=data@vsan1 --vmgroup=_DEFAULT";
    for options in [
        "size=40mb",
        "access=write-only",
        "access",
        "access=read-only,size=1gb",
    ] {
        let why = bare.refused(&format!("{line} --options={options}"))?;
        ensure!(
            why.contains(&format!("Failed to update {options} for data")),
            "{why}"
        );
    }
    bare.refused("volume set --volume=data@vsan1 --vmgroup=nobody --options=access=read-only")?;
    bare.refused("volume set --volume=other@vsan1 --vmgroup=_DEFAULT --options=access=read-only")?;
    bare.write("vm1", "data", "text")?;
    bare.assert_quiet()
}
