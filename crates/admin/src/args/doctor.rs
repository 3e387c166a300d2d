//! `vdvs doctor`

use clap::Args;

use super::listing::Listing;

/// What to look for, and whether to repair it.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Only what is found of this object, named as the findings name it
    #[arg(value_name = "OBJECT")]
    pub object: Option<String>,
    /// Repair the findings of this name, as far as that is safe now; docs/doctor.md has all names
    #[arg(long, value_name = "NAME")]
    pub fix: Option<String>,
    /// Only say what would be repaired, and how
    #[arg(long, requires = "fix")]
    pub dry_run: bool,
    /// Which rows
    #[command(flatten)]
    pub listing: Listing,
}
