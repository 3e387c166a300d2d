//! What a group's VMs see of other groups' volumes: nothing.

use anyhow::{Result, ensure};

use crate::bare::team::must_say;
use crate::world;

#[test]
fn vm_group_volume_isolation() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "before", &["size=20mb"])?;
    for vm in ["vm1", "vm2"] {
        ensure!(bare.listed(vm)? == ["before@ds1"]);
    }
    bare.vdvs("vmgroup create --name=T1 --default-datastore=ds1 --vm-list=vm1 --leave-volumes")?;
    ensure!(bare.listed("vm1")?.is_empty());
    ensure!(bare.listed("vm2")? == ["before@ds1"]);
    bare.create("vm1", "after", &["size=20mb"])?;
    ensure!(bare.listed("vm1")? == ["after@ds1"]);
    ensure!(bare.listed("vm2")? == ["before@ds1"]);
    // The same name in two groups is two volumes.
    bare.create("vm1", "before", &["size=20mb"])?;
    bare.write("vm1", "before", "one")?;
    bare.write("vm2", "before", "two")?;
    ensure!(bare.read("vm1", "before")? == "one");
    ensure!(bare.read("vm2", "before")? == "two");
    bare.assert_quiet()
}

#[test]
fn vm_group_volume_create_and_access_across_vm_groups() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "first", &["size=20mb"])?;
    bare.remove("vm1", "first")?;
    bare.vdvs("vmgroup create --name=one --default-datastore=ds1 --vm-list=vm1,vm2")?;
    bare.vdvs("vmgroup create --name=two --default-datastore=ds2")?;
    bare.create("vm1", "shared", &["size=20mb"])?;
    bare.write("vm1", "shared", "text")?;
    bare.vdvs("vmgroup vm rm --name=one --vm-list=vm1 --leave-volumes")?;
    bare.vdvs("vmgroup vm add --name=two --vm-list=vm1")?;
    must_say(bare.status_of("vm1", "shared"), "")?;
    must_say(bare.status_of("vm1", "shared@ds1"), "")?;
    must_say(bare.remove("vm1", "shared@ds1"), "")?;
    must_say(bare.mount("vm1", "shared@ds1", "c1"), "")?;
    ensure!(bare.read("vm2", "shared")? == "text");
    bare.remove("vm2", "shared")?;
    // A full cycle in the second group, on its own default datastore.
    bare.create("vm1", "own", &["size=20mb"])?;
    bare.write("vm1", "own", "mine")?;
    ensure!(bare.admin_field("own", "ds2", "group")? == "two");
    bare.remove("vm1", "own")?;
    bare.assert_quiet()
}

#[test]
fn vm_group_volume_clone() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "foreign", &["size=20mb"])?;
    bare.vdvs("vmgroup create --name=one --default-datastore=ds1 --vm-list=vm1")?;
    bare.create("vm1", "source", &["size=20mb"])?;
    bare.write("vm1", "source", "text")?;
    bare.create("vm1", "copy", &["clone-from=source"])?;
    ensure!(bare.read("vm1", "copy")? == "text");
    must_say(bare.create("vm1", "stolen", &["clone-from=foreign"]), "")?;
    must_say(
        bare.create("vm1", "stolen", &["clone-from=foreign@ds1"]),
        "",
    )?;
    bare.remove("vm1", "source")?;
    bare.remove("vm1", "copy")?;
    bare.assert_quiet()
}

#[test]
fn vmgroup_remove_with_remove_vol() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "other", &["size=20mb"])?;
    bare.vdvs("vmgroup create --name=gone --default-datastore=ds1 --vm-list=vm1")?;
    bare.vdvs("vmgroup access add --name=gone --datastore=ds2 --allow-create")?;
    for volume in ["kept", "kept@ds2"] {
        bare.create("vm1", volume, &["size=20mb"])?;
        bare.write("vm1", volume, "text")?;
    }
    let said = bare.refused("vmgroup rm --name=gone --yes")?;
    ensure!(
        said.contains("Cannot delete non-empty vmgroup gone"),
        "{said}"
    );
    bare.vdvs("vmgroup vm rm --name=gone --vm-list=vm1 --leave-volumes")?;
    let said = bare.refused("vmgroup rm --name=gone --yes")?;
    ensure!(said.contains("The vmgroup has volumes in it"), "{said}");
    let said = bare.vdvs("vmgroup rm --name=gone --remove-volumes --yes")?;
    ensure!(said.contains("vmgroup rm succeeded"), "{said}");
    let listed = bare.vdvs("volume ls --output csv")?;
    ensure!(
        !listed.contains("kept") && listed.contains("other"),
        "{listed}"
    );
    bare.assert_quiet()
}
