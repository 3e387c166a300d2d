//! Which names and options a guest may use.

use anyhow::{Context, Result, ensure};

use crate::bare::team::{must_say, said};
use crate::world;

#[test]
fn valid_name() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    let long = "n".repeat(100);
    let names = [
        long.as_str(),
        "Volume-0000000-****-###",
        "five-00000",
        "seven-0000000",
        "abc..@vmfs1",
        "abc..@@@@nfs1",
        "卷一",
        "with blank",
    ];
    for name in names {
        bare.create("vm1", name, &["size=20mb"])?;
    }
    let listed = bare.listed("vm1")?;
    for name in names {
        let found = listed
            .iter()
            .any(|known| known == name || known.strip_suffix("@vsan1") == Some(name));
        ensure!(found, "{name} is not in {listed:?}");
        bare.write("vm1", name, "text")?;
        bare.remove("vm1", name)?;
    }
    ensure!(bare.listed("vm1")?.is_empty());
    bare.assert_quiet()
}

#[test]
fn invalid_name() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    let long = "n".repeat(101);
    for name in [
        long.as_str(),
        "six-000000",
        "volume/abc",
        "v@nowhere",
        "a-flat",
        "a-delta",
        "a-ctk",
        "a-digest",
        "../../x",
        "..",
    ] {
        must_say(bare.create("vm1", name, &["size=20mb"]), "Create: ")?;
    }
    // What would be a pattern elsewhere is a name here.
    bare.create("vm1", "victim", &["size=20mb"])?;
    for name in ["*", "victi?", "[v]ictim"] {
        must_say(bare.status_of("vm1", name), "")?;
        must_say(bare.remove("vm1", name), "")?;
    }
    ensure!(bare.listed("vm1")? == ["victim@vsan1"]);
    bare.assert_quiet()
}

#[test]
fn valid_options() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    let sets: [&[&str]; 9] = [
        &["size=10gb"],
        &["size=20mb", "diskformat=zeroedthick"],
        &["size=20mb", "diskformat=thin"],
        &["size=20mb", "diskformat=eagerzeroedthick"],
        &["size=20mb", "attach-as=independent_persistent"],
        &["size=20mb", "attach-as=persistent"],
        &["size=20mb", "fstype=ext4"],
        &["size=20mb", "access=read-write"],
        &["size=20mb", "access=read-only"],
    ];
    for (number, options) in sets.iter().enumerate() {
        bare.create("vm1", &format!("v{number}"), options)?;
    }
    bare.create("vm1", "clone", &["clone-from=v1"])?;
    bare.create("vm1", "clone-of-clone", &["clone-from=clone"])?;
    ensure!(bare.listed("vm1")?.len() == sets.len() + 2);
    bare.remove("vm1", "clone")?;
    bare.remove("vm1", "v1")?;
    bare.write("vm1", "clone-of-clone", "text")?;
    bare.assert_quiet()
}

#[test]
fn invalid_options() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "source", &["size=20mb"])?;
    let sets: [&[&str]; 11] = [
        &["diskformat=zeroedthickk"],
        &["diskformat=zeroedthick,thin"],
        &["size=100mbb"],
        &["size=100gbEE"],
        &["sizes=100mb"],
        &["fstype=xfs_ext"],
        &["access=write-only"],
        &["access=read-write-both"],
        &["clone-from=nobody"],
        &["clone-from=source", "size=40mb"],
        &["clone-from=source", "fstype=xfs"],
    ];
    for options in sets {
        let why =
            said(bare.create("vm1", "no", options)).with_context(|| format!("{options:?}"))?;
        ensure!(why.starts_with("Create: "), "{options:?}: {why}");
    }
    ensure!(bare.listed("vm1")? == ["source@vsan1"]);
    bare.assert_quiet()
}
