//! Options of every list.

use clap::Args;

use crate::arrange::Arrangement;
use crate::failure::Failure;

/// Which rows of a list, and in which order.
#[derive(Debug, Clone, Default, Args)]
pub struct Listing {
    /// Only rows whose column fits, for example datastore=vsan* or state=attached; several: all must fit
    #[arg(long, value_name = "COLUMN=PATTERN")]
    pub filter: Vec<String>,
    /// Sort by these columns; -COLUMN sorts downwards, as in --sort=-used,name
    #[arg(
        long,
        value_name = "COLUMN,..",
        value_delimiter = ',',
        allow_hyphen_values = true
    )]
    pub sort: Vec<String>,
}

impl Listing {
    /// As the lists take it.
    ///
    /// # Errors
    /// [`Failure`]: a filter that is none.
    pub fn arrangement(&self) -> Result<Arrangement, Failure> {
        Arrangement::parse(&self.filter, &self.sort)
    }
}
