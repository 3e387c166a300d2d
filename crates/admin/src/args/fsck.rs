//! `vdvs fsck`

use clap::Args;

use super::listing::Listing;

/// Which datastores, and whether to repair.
#[derive(Debug, Args)]
pub struct Fsck {
    /// Only this datastore; otherwise all of this host
    #[arg(value_name = "DATASTORE")]
    pub datastore: Option<String>,
    /// Repair what can be repaired; without this nothing is changed
    #[arg(long)]
    pub repair: bool,
    /// No VM of any host, running, off or suspended, has this volume (NAME@DATASTORE): its record may be made anew as
    /// nobody's
    #[arg(long, value_name = "VOLUME")]
    pub nobody_has: Vec<String>,
    /// Which rows
    #[command(flatten)]
    pub listing: Listing,
}
