//! Which VMs belong to a group, and what a change of that does to volumes.

use anyhow::{Result, ensure};

use crate::bare::Bare;
use crate::bare::team::must_say;
use crate::world;

/// A group `team` on the first datastore, and the names in its list of VMs.
fn members(bare: &Bare, group: &str) -> Result<String> {
    bare.vdvs(&format!("vmgroup vm ls --name={group} --output csv"))
}

#[test]
fn move_vm_between_vmgroup_1() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "busy", &["size=20mb"])?;
    bare.mount("vm1", "busy", "c1")?;
    let line = "vmgroup create --name=team --default-datastore=ds1 --vm-list=vm1";
    let said = bare.refused(line)?;
    let text = "Cannot add VM to vmgroup VM 'vm1' has volumes mounted.";
    ensure!(said.contains(text), "{said}");
    bare.unmount("vm1", "busy", "c1")?;
    let said = bare.vdvs(&format!("{line} --leave-volumes"))?;
    ensure!(said.contains("vmgroup 'team' is created."), "{said}");
    ensure!(members(&bare, "team")?.contains("vm1"));
    bare.vdvs("vmgroup vm rm --name=team --vm-list=vm1")?;
    ensure!(!members(&bare, "team")?.contains("vm1"));
    bare.assert_quiet()
}

#[test]
fn move_vm_between_vmgroup_2() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "busy", &["size=20mb"])?;
    bare.vdvs("vmgroup create --name=team --default-datastore=ds1")?;
    bare.mount("vm1", "busy", "c1")?;
    let line = "vmgroup vm add --name=team --vm-list=vm1 --leave-volumes";
    let said = bare.refused(line)?;
    ensure!(said.contains("VM 'vm1' has volumes mounted."), "{said}");
    bare.unmount("vm1", "busy", "c1")?;
    ensure!(bare.vdvs(line)?.contains("vmgroup vm add succeeded"));
    must_say(bare.status_of("vm1", "busy"), "")?;
    bare.assert_quiet()
}

#[test]
fn a_vm_comes_into_a_group_with_its_database_running_and_no_empty_twin() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "database", &["size=20mb"])?;
    let at = bare.mount("vm1", "database", "c1")?;
    bare.inside("vm1", &format!("echo before > {}/lines", at.display()))?;
    bare.vdvs("vmgroup create --name=team --default-datastore=ds1")?;
    let said = bare.refused("vmgroup vm add --name=team --vm-list=vm1")?;
    for part in [
        "VM 'vm1' has volumes mounted.",
        "database@ds1",
        "--move-volumes",
    ] {
        ensure!(said.contains(part), "no {part} in {said}");
    }
    bare.vdvs("vmgroup vm add --name=team --vm-list=vm1 --move-volumes")?;
    bare.inside("vm1", &format!("echo after >> {}/lines", at.display()))?;
    ensure!(bare.admin_field("database", "ds1", "group")? == "team");
    // Create of what exists succeeds and makes nothing.
    bare.create("vm1", "database", &[])?;
    ensure!(bare.listed("vm1")? == ["database@ds1"]);
    ensure!(bare.listed("vm2")?.is_empty());
    bare.unmount("vm1", "database", "c1")?;
    ensure!(bare.read("vm1", "database")? == "before\nafter");
    // Leaving a group is what it always was, with a word about what stays behind.
    let said = bare.cli(&["vmgroup", "vm", "rm", "team", "vm1"].map(str::to_owned))?;
    ensure!(
        said.success() && said.stdout.contains("database@ds1"),
        "{}{}",
        said.stdout,
        said.stderr
    );
    bare.vdvs("volume move team/database --to-group=_DEFAULT")?;
    ensure!(bare.read("vm2", "database")? == "before\nafter");
    bare.assert_quiet()
}

#[test]
fn delete_vm_from_vmgroup() -> Result<()> {
    let Some(mut bare) = world()? else {
        return Ok(());
    };
    bare.create("vm2", "first", &["size=20mb"])?;
    bare.remove("vm2", "first")?;
    bare.vdvs("vmgroup create --name=team --default-datastore=ds1 --vm-list=vm1,vm2")?;
    bare.power_off("vm2")?;
    bare.destroy("vm2")?;
    ensure!(
        members(&bare, "team")?.contains("vm2"),
        "gone, and still known by name"
    );
    bare.vdvs("vmgroup vm rm --name=team --vm-list=vm2")?;
    ensure!(!members(&bare, "team")?.contains("vm2"));
    bare.vdvs("vmgroup vm rm --name=team --vm-list=vm1")?;
    bare.vdvs("vmgroup rm --name=team --yes")?;
    // Its folder went before the host noticed.
    bare.assert_quiet_but(&["cannot listen for this VM"])
}

#[test]
fn vg_create_with_non_existent_vm_and_empty_vm_name() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "first", &["size=20mb"])?;
    let line = "vmgroup create --name=team --default-datastore=ds1";
    let said = bare.refused(&format!("{line} --vm-list=nobody"))?;
    ensure!(said.contains("Cannot find vm nobody"), "{said}");
    bare.refused(&format!("{line} --vm-list=' '"))?;
    let said = bare.refused(&format!("{line} --vm-list=vm1,vm1"))?;
    ensure!(
        said.contains("contain duplicates, they should be unique"),
        "{said}"
    );
    ensure!(!bare.vdvs("vmgroup ls")?.contains("team"));
    bare.assert_quiet()
}

#[test]
fn rename_vmgroup_empty_and_with_members() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "first", &["size=20mb"])?;
    bare.vdvs("vmgroup create --name=empty --default-datastore=ds1")?;
    bare.vdvs("vmgroup update --name=empty --new-name=hollow")?;
    bare.vdvs("vmgroup rm --name=hollow --yes")?;

    bare.vdvs("vmgroup create --name=added --default-datastore=ds1")?;
    bare.vdvs("vmgroup vm add --name=added --vm-list=vm1")?;
    bare.create("vm1", "inside", &["size=20mb"])?;
    bare.write("vm1", "inside", "kept")?;
    ensure!(
        bare.vdvs("vmgroup update --name=added --new-name=renamed")?
            .contains("vmgroup modify succeeded")
    );
    ensure!(bare.read("vm1", "inside")? == "kept");
    ensure!(members(&bare, "renamed")?.contains("vm1"));
    let said = bare.refused("vmgroup update --name=renamed --new-name=../../x")?;
    ensure!(said.contains("Vmgroup name ../../x is invalid"), "{said}");
    bare.remove("vm1", "inside")?;
    bare.vdvs("vmgroup vm rm --name=renamed --vm-list=vm1")?;
    bare.vdvs("vmgroup rm --name=renamed --yes")?;

    bare.vdvs("vmgroup create --name=born --default-datastore=ds1 --vm-list=vm1")?;
    bare.vdvs("vmgroup update --name=born --new-name=grown")?;
    bare.vdvs("vmgroup vm rm --name=grown --vm-list=vm1")?;
    ensure!(bare.vdvs("vmgroup ls")?.contains("grown"));
    bare.assert_quiet()
}

#[test]
fn vm_group_volume_mobility() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "first", &["size=20mb"])?;
    bare.vdvs("vmgroup create --name=team --default-datastore=ds1 --vm-list=vm1")?;
    bare.create("vm1", "own", &["size=20mb"])?;
    bare.mount("vm1", "own", "c1")?;
    let said = bare.refused("vmgroup vm rm --name=team --vm-list=vm1")?;
    ensure!(said.contains("Cannot complete vmgroup vm rm"), "{said}");
    let said = bare.refused("vmgroup vm replace --name=team --vm-list=vm2")?;
    ensure!(
        said.contains("Cannot complete vmgroup vm replace"),
        "{said}"
    );
    bare.unmount("vm1", "own", "c1")?;
    let said = bare.vdvs("vmgroup vm rm --name=team --vm-list=vm1 --leave-volumes")?;
    ensure!(said.contains("vmgroup vm rm succeeded"), "{said}");
    bare.assert_quiet()
}

#[test]
fn a_vm_of_another_group_is_not_taken_and_a_member_is_not_added_twice() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "first", &["size=20mb"])?;
    bare.vdvs("vmgroup create --name=one --default-datastore=ds1 --vm-list=vm1")?;
    bare.vdvs("vmgroup create --name=two --default-datastore=ds1")?;
    let said = bare.refused("vmgroup vm add --name=two --vm-list=vm1")?;
    ensure!(
        said.contains("VM 'vm1' has already been associated with tenant 'one', can't add it"),
        "{said}"
    );
    let said = bare.refused("vmgroup vm add --name=one --vm-list=vm1")?;
    ensure!(
        said.contains(
            "VM 'vm1' has already been associated with tenant 'one', cannot add it again"
        ),
        "{said}"
    );
    let said = bare.refused("vmgroup vm rm --name=two --vm-list=vm1")?;
    ensure!(
        said.contains("VM 'vm1' has not been associated with tenant 'two', cannot remove it"),
        "{said}"
    );
    let said = bare.vdvs("vmgroup vm replace --name=one --vm-list=vm1,vm2 --leave-volumes")?;
    ensure!(said.contains("vmgroup vm replace succeeded"), "{said}");
    let listed = members(&bare, "one")?;
    ensure!(listed.contains("vm1") && listed.contains("vm2"), "{listed}");
    bare.assert_quiet()
}
