//! What a group may do on a datastore, and how much.

use anyhow::{Result, ensure};

use crate::bare::Bare;
use crate::bare::team::must_say;
use crate::world;

const TOO_LARGE: &str = "Volume size exceeds the max volume size limit";
const TOO_MUCH: &str = "The total volume size exceeds the usage quota";

/// A world in which `vm1` is alone in a group.
fn team() -> Result<Option<Bare>> {
    let Some(bare) = world()? else {
        return Ok(None);
    };
    bare.create("vm2", "other", &["size=20mb"])?;
    bare.vdvs("vmgroup create --name=team --default-datastore=ds1 --vm-list=vm1")?;
    Ok(Some(bare))
}

#[test]
fn ds_access_privilege_for_user_vg() -> Result<()> {
    let Some(bare) = team()? else { return Ok(()) };
    must_say(
        bare.create("vm1", "v1@ds2", &["size=20mb"]),
        "No access privilege exists",
    )?;
    bare.vdvs("vmgroup access add --name=team --datastore=ds2 --allow-create")?;
    bare.create("vm1", "v1@ds2", &["size=20mb"])?;
    bare.vdvs("vmgroup access set --name=team --datastore=ds2 --allow-create=False")?;
    must_say(
        bare.create("vm1", "v2@ds2", &["size=20mb"]),
        "No create privilege",
    )?;
    bare.create("vm2", "v3@ds2", &["size=20mb"])?;
    bare.vdvs("vmgroup access rm --name=team --datastore=ds2")?;
    must_say(
        bare.mount("vm1", "v1@ds2", "c1"),
        "No access privilege exists",
    )?;
    let said = bare.refused("vmgroup access rm --name=team --datastore=ds1")?;
    let text = "Removing of access privilege to 'default_datastore' is not supported";
    ensure!(said.contains(text), "{said}");
    bare.assert_quiet()
}

#[test]
fn vm_group_create_access_privilege() -> Result<()> {
    let Some(bare) = team()? else { return Ok(()) };
    bare.create("vm1", "first", &["size=20mb"])?;
    for value in ["False", "fAlSe"] {
        bare.vdvs(&format!(
            "vmgroup access set --name=team --datastore=ds1 --allow-create={value}"
        ))?;
        must_say(
            bare.create("vm1", "second", &["size=20mb"]),
            "No create privilege",
        )?;
        must_say(bare.remove("vm1", "first"), "No delete privilege")?;
        bare.write("vm1", "first", "usable")?;
    }
    for value in ["maybe", "''", "1"] {
        let said = bare.refused(&format!(
            "vmgroup access set --name=team --datastore=ds1 --allow-create {value}"
        ))?;
        ensure!(said.contains("Invalid value"), "{value}: {said}");
    }
    bare.vdvs("vmgroup access set --name=team --datastore=ds1 --allow-create=TRUE")?;
    bare.create("vm1", "second", &["size=20mb"])?;
    bare.remove("vm1", "first")?;
    bare.assert_quiet()
}

#[test]
fn vm_group_verify_max_file_size_on_vg() -> Result<()> {
    let Some(bare) = team()? else { return Ok(()) };
    let set = "vmgroup access set --name=team --datastore=ds1";
    bare.vdvs(&format!(
        "{set} --volume-maxsize=1gb --volume-totalsize=1gb"
    ))?;
    bare.create("vm1", "first", &["size=1gb"])?;
    must_say(bare.create("vm1", "second", &["size=1gb"]), TOO_MUCH)?;
    must_say(bare.create("vm1", "second", &["size=1023mb"]), TOO_MUCH)?;
    bare.vdvs(&format!("{set} --volume-totalsize=2gb"))?;
    must_say(bare.create("vm1", "second", &["size=1025mb"]), TOO_LARGE)?;
    bare.create("vm1", "second", &["size=1024mb"])?;
    let said = bare.refused(&format!("{set} --volume-maxsize=3gb"))?;
    ensure!(said.contains("exceeds the total size"), "{said}");
    let said = bare.refused(&format!("{set} --volume-maxsize=much"))?;
    ensure!(said.contains("much"), "{said}");
    bare.vdvs(&format!(
        "{set} --volume-maxsize=unlimited --volume-totalsize=unlimited"
    ))?;
    bare.create("vm1", "third", &["size=5gb"])?;
    bare.assert_quiet()
}

#[test]
fn vm_group_verify_file_size_for_vm_ds() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "other", &["size=20mb"])?;
    bare.vdvs("vmgroup create --name=team --default-datastore=_VM_DS --vm-list=vm1")?;
    let set = "vmgroup access set --name=team --datastore=_VM_DS";
    bare.vdvs(&format!(
        "{set} --volume-maxsize=500MB --volume-totalsize=1gb"
    ))?;
    must_say(bare.create("vm1", "big", &["size=600mb"]), TOO_LARGE)?;
    bare.create("vm1", "one", &["size=500mb"])?;
    bare.create("vm1", "two@ds1", &["size=500mb"])?;
    must_say(bare.create("vm1", "three", &["size=500mb"]), TOO_MUCH)?;
    must_say(bare.create("vm1", "three@ds1", &["size=500mb"]), TOO_MUCH)?;
    must_say(
        bare.create("vm1", "three@ds2", &["size=20mb"]),
        "No access privilege exists",
    )?;
    bare.vdvs(&format!(
        "{set} --volume-maxsize=1gb --volume-totalsize=3gb"
    ))?;
    bare.create("vm1", "three", &["size=1024mb"])?;
    bare.assert_quiet()
}

#[test]
fn vm_group_verify_file_size_for_all_ds() -> Result<()> {
    let Some(bare) = team()? else { return Ok(()) };
    bare.vdvs("vmgroup access add --name=team --datastore=_ALL_DS --allow-create --volume-maxsize=100MB --volume-totalsize=150MB")?;
    bare.vdvs("vmgroup access set --name=team --datastore=ds1 --volume-maxsize=500MB --volume-totalsize=600MB")?;
    // The row that names the datastore wins, whichever way the volume is named.
    bare.create("vm1", "one", &["size=500mb"])?;
    bare.create("vm1", "two@ds1", &["size=100mb"])?;
    must_say(bare.create("vm1", "three", &["size=20mb"]), TOO_MUCH)?;
    must_say(bare.create("vm1", "four@ds2", &["size=200mb"]), TOO_LARGE)?;
    bare.create("vm1", "four@ds2", &["size=100mb"])?;
    must_say(bare.create("vm1", "five@ds2", &["size=100mb"]), TOO_MUCH)?;
    bare.create("vm1", "five@ds2", &["size=50mb"])?;
    // A clone counts too, and at its exact size.
    must_say(
        bare.create("vm1", "six@ds2", &["clone-from=five@ds2"]),
        TOO_MUCH,
    )?;
    let used = bare.vdvs("vmgroup show team")?;
    ensure!(used.contains("600") && used.contains("150"), "{used}");
    bare.assert_quiet()
}

#[test]
fn volumes_already_present_count_when_a_limit_appears() -> Result<()> {
    let Some(bare) = team()? else { return Ok(()) };
    bare.create("vm1", "one", &["size=300mb"])?;
    bare.create("vm1", "two", &["clone-from=one"])?;
    bare.vdvs("vmgroup access set --name=team --datastore=ds1 --volume-totalsize=700mb")?;
    must_say(bare.create("vm1", "three", &["size=101mb"]), TOO_MUCH)?;
    bare.create("vm1", "three", &["size=100mb"])?;
    bare.remove("vm1", "one")?;
    bare.create("vm1", "four", &["size=300mb"])?;
    must_say(bare.create("vm1", "five", &["size=20mb"]), TOO_MUCH)?;
    bare.assert_quiet()
}

#[test]
fn moving_the_default_datastore_moves_new_volumes_only() -> Result<()> {
    let Some(bare) = team()? else { return Ok(()) };
    bare.create("vm1", "one", &["size=20mb"])?;
    bare.vdvs("vmgroup update --name=team --default-datastore=ds2 --default-size=50MB")?;
    bare.create("vm1", "two", &[])?;
    ensure!(bare.listed("vm1")? == ["one@ds1", "two@ds2"]);
    ensure!(bare.status_of("vm1", "two")?["capacity"]["size"] == "50MB");
    bare.write("vm1", "one", "still here")?;
    let said = bare.refused("vmgroup update --name=team --default-datastore=_ALL_DS")?;
    ensure!(
        said.contains("Cannot use _ALL_DS as default datastore"),
        "{said}"
    );
    let said = bare.refused("vmgroup update --name=team --default-datastore=nowhere")?;
    ensure!(said.contains("Datastore nowhere does not exist"), "{said}");
    bare.assert_quiet()
}
