//! What else the original's own tests pinned down, with our real programs: names, options, attaching, access modes,
//! policies, power events, and the command line. An administrator at the command line, guests whose plugins mount real
//! disks. Tests that the original had bear its names.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

#[path = "process_admin/access_modes.rs"]
mod access_modes;
#[path = "process_admin/attaching.rs"]
mod attaching;
mod bare;
#[path = "process_admin/cli.rs"]
mod cli;
#[path = "process_admin/doctor.rs"]
mod doctor;
#[path = "process_admin/fsck.rs"]
mod fsck;
#[path = "process_admin/names_and_options.rs"]
mod names_and_options;
#[path = "process_admin/policies.rs"]
mod policies;

use anyhow::Result;

use bare::Bare;

/// A host with a vSAN, a VMFS and an NFS datastore and two VMs that live on the vSAN one, a plugin inside each.
fn world() -> Result<Option<Bare>> {
    let datastores = [("vsan1", "vsan"), ("vmfs1", "vmfs"), ("nfs1", "nfs")];
    let Some(mut bare) = Bare::lab_of(&datastores, &["vm1", "vm2"])? else {
        return Ok(None);
    };
    bare.start_inside("vm1")?;
    bare.start_inside("vm2")?;
    Ok(Some(bare))
}
