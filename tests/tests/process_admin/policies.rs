//! vSAN policies by name.

use anyhow::{Result, ensure};

use crate::bare::team::said;
use crate::world;

const CREATE: &str = "policy create --name=gold --content='((\"hostFailuresToTolerate\" i0))'";

#[test]
fn valid_policy() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "first", &["size=20mb"])?;
    let done = bare.vdvs(CREATE)?;
    ensure!(done.contains("Successfully created policy: gold"), "{done}");
    bare.create("vm1", "data", &["size=20mb", "vsan-policy-name=gold"])?;
    bare.write("vm1", "data", "text")?;
    ensure!(bare.read("vm2", "data")? == "text");
    bare.assert_quiet()
}

#[test]
fn invalid_policy() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "first", &["size=20mb"])?;
    let why = said(bare.create("vm1", "data", &["vsan-policy-name=nobody"]))?;
    ensure!(why.starts_with("Create: "), "{why}");
    bare.vdvs(CREATE)?;
    let why = said(bare.create("vm1", "data", &["vsan-policy-name=silver"]))?;
    ensure!(
        !why.contains("gold"),
        "a guest learns no other policy's name: {why}"
    );
    for content in ["'((\"hostFailuresToTolerate\" i0)'", "'x; reboot'", "''"] {
        bare.refused(&format!("policy create --name=bad --content={content}"))?;
    }
    for name in ["../../x", "'a;b'", "'$(x)'"] {
        bare.refused(&format!(
            "policy create --name={name} --content='((\"stripeWidth\" i1))'"
        ))?;
    }
    ensure!(bare.listed("vm1")? == ["first@vsan1"]);
    bare.assert_quiet()
}

#[test]
fn delete_vsan_policy_already_in_use() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "first", &["size=20mb"])?;
    bare.vdvs(CREATE)?;
    ensure!(bare.vdvs("policy ls")?.contains("Unused"));
    bare.create("vm1", "data", &["size=20mb", "vsan-policy-name=gold"])?;
    let listed = bare.vdvs("policy ls")?;
    ensure!(listed.contains("In use by 1 volumes"), "{listed}");
    ensure!(bare.status_of("vm1", "data")?["vsan-policy-name"] == "gold");
    let why = bare.refused("policy rm --name=gold --yes")?;
    ensure!(why.contains("Cannot remove"), "{why}");
    let why =
        bare.refused("policy update --name=gold --content='(( \"hostFailuresToTolerate\"  i0 ))'")?;
    ensure!(
        why.contains("New policy is identical to old policy"),
        "{why}"
    );
    let done = bare.vdvs("policy update --name=gold --content='((\"hostFailuresToTolerate\" i0) (\"stripeWidth\" i2))'")?;
    ensure!(done.contains("Successfully updated policy gold"), "{done}");
    bare.remove("vm1", "data")?;
    let done = bare.vdvs("policy rm --name=gold --yes")?;
    ensure!(done.contains("Successfully removed policy: gold"), "{done}");
    bare.assert_quiet()
}

#[test]
fn non_vsan_datastore() -> Result<()> {
    let Some(bare) = world()? else { return Ok(()) };
    bare.create("vm2", "first", &["size=20mb"])?;
    bare.vdvs(CREATE)?;
    for datastore in ["vmfs1", "nfs1"] {
        let name = format!("data@{datastore}");
        let why = said(bare.create("vm1", &name, &["vsan-policy-name=gold"]))?;
        ensure!(why.starts_with("Create: "), "{why}");
    }
    ensure!(bare.listed("vm1")? == ["first@vsan1"]);
    bare.assert_quiet()
}
