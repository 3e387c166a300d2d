//! `_DEFAULT`: the group of every VM that no other group names.

use anyhow::{Result, ensure};

use crate::bare::team::must_say;
use crate::world;

const NO_MEMBERS: &str = "This feature is not supported for vmgroup _DEFAULT.";

#[test]
fn add_vm_to_default_tenant() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "first", &["size=20mb"])?;
    for verb in ["add", "rm", "replace"] {
        let said = bare.refused(&format!("vmgroup vm {verb} --name=_DEFAULT --vm-list=vm1"))?;
        ensure!(said.contains(NO_MEMBERS), "{verb}: {said}");
    }
    bare.assert_quiet()
}

#[test]
fn remove_and_replace_default_tenant_vms() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "first", &["size=20mb"])?;
    for verb in ["rm", "replace"] {
        let said = bare.refused(&format!("vmgroup vm {verb} --name=_DEFAULT --vm-list=vm2"))?;
        ensure!(said.contains(NO_MEMBERS), "{verb}: {said}");
    }
    let said = bare.refused("vmgroup vm ls --name=_DEFAULT")?;
    let text = "_DEFAULT tenant contains all VMs which were not added to other tenants";
    ensure!(said.contains(text), "{said}");
    bare.assert_quiet()
}

#[test]
fn delete_default_vmgroup() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "kept", &["size=20mb"])?;
    let said = bare.refused("vmgroup rm --name=_DEFAULT --yes")?;
    ensure!(said.contains("The vmgroup has volumes in it"), "{said}");
    bare.remove("vm1", "kept")?;
    bare.vdvs("vmgroup rm --name=_DEFAULT --yes")?;
    for vm in ["vm1", "vm2"] {
        let refused = bare.create(vm, "late", &["size=20mb"]);
        must_say(refused, &format!("VM {vm} does not belong to any vmgroup"))?;
        ensure!(bare.listed(vm)?.is_empty());
    }
    bare.vdvs("vmgroup create --name=_DEFAULT --default-datastore=_VM_DS")?;
    bare.vdvs("vmgroup access add --name=_DEFAULT --datastore=_ALL_DS --allow-create")?;
    bare.create("vm1", "late", &["size=20mb"])?;
    bare.create("vm1", "late@ds2", &["size=20mb"])?;
    ensure!(bare.admin_field("late", "ds2", "group")? == "_DEFAULT");
    let groups = bare.vdvs("vmgroup ls --output json")?;
    ensure!(
        groups.contains("11111111-1111-1111-1111-111111111111"),
        "{groups}"
    );
    bare.assert_quiet()
}

#[test]
fn vm_list_for_default_group() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "first", &["size=20mb"])?;
    bare.remove("vm1", "first")?;
    bare.vdvs("vmgroup rm --name=_DEFAULT --yes")?;
    let line = "vmgroup create --name=_DEFAULT --default-datastore=_VM_DS";
    bare.refused(&format!("{line} --vm-list=vm1"))?;
    bare.vdvs(line)?;
    bare.create("vm1", "first", &["size=20mb"])?;
    bare.assert_quiet()
}

#[test]
fn default_group_cannot_be_renamed_and_a_fresh_one_lets_everybody_do_everything() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm1", "first", &["size=20mb"])?;
    bare.refused("vmgroup update --name=_DEFAULT --new-name=other")?;
    let rights = bare.vdvs("vmgroup access ls --name=_DEFAULT --output csv")?;
    for scope in ["_ALL_DS", "_VM_DS"] {
        ensure!(rights.contains(&format!("{scope},true,,")), "{rights}");
    }
    bare.assert_quiet()
}
