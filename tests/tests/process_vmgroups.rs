//! What the original's own suites asserted about vmgroups, access rights and limits, with our real programs: an
//! administrator at the command line, guests whose plugins mount real disks. Each test bears the name of the original's
//! test; where the original's behaviour was a defect, the test says what we do instead.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

mod bare;
#[path = "process_vmgroups/default_group.rs"]
mod default_group;
#[path = "process_vmgroups/isolation.rs"]
mod isolation;
#[path = "process_vmgroups/limits.rs"]
mod limits;
#[path = "process_vmgroups/membership.rs"]
mod membership;

use anyhow::Result;

use bare::Bare;

/// A host with two datastores and two VMs that live on the first, a plugin inside each.
fn world() -> Result<Option<Bare>> {
    let Some(mut bare) = Bare::lab_of(&[("ds1", "vmfs"), ("ds2", "nfs")], &["vm1", "vm2"])? else {
        return Ok(None);
    };
    bare.start_inside("vm1")?;
    bare.start_inside("vm2")?;
    Ok(Some(bare))
}
