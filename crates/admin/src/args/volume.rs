//! `vdvs volume`

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use super::listing::Listing;
use super::words::{fill, required};
use crate::failure::Failure;
use crate::view::{ORIGINAL_COLUMNS, VOLUME_COLUMNS};

/// What to do with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// List all volumes
    Ls(VolumeColumns),
    /// Show everything about one volume
    Inspect(VolumeName),
    /// Say what a volume waits for, its story over all hosts, and the one command to act
    Why(VolumeName),
    /// Change a volume's options; they count from the next attach
    Set {
        /// Which
        #[command(flatten)]
        volume: VolumeName,
        /// Options, for example access=read-only
        #[arg(value_name = "KEY=VALUE")]
        words: Vec<String>,
        /// Options, separated by commas
        #[arg(long, value_name = "KEY=VALUE,..")]
        options: Option<String>,
        /// Only if the volume is in this vmgroup
        #[arg(long, value_name = "VMGROUP")]
        vmgroup: Option<String>,
    },
    /// Remove a volume and its data
    Rm(VolumeName),
    /// Move a volume to another vmgroup; it may be attached
    Move(Move),
    /// Give an orphan, a volume whose vmgroup is gone, to a vmgroup
    Adopt(Move),
    /// Take a volume from the VM that has it
    Detach {
        /// Which
        #[command(flatten)]
        volume: VolumeName,
        /// Also while the VM uses it: what it has not written yet is lost
        #[arg(long)]
        force: bool,
    },
    /// Let nobody remove a volume
    Protect(VolumeName),
    /// Let the volume be removed again
    Unprotect(VolumeName),
}

/// A volume.
#[derive(Debug, Args)]
pub struct VolumeName {
    /// `name`, `name@datastore`, `group/name`, or the first digits of the volume's id
    #[arg(value_name = "VOLUME", required_unless_present = "volume")]
    pub word: Option<String>,
    /// The same, with a flag
    #[arg(long, value_name = "VOLUME")]
    pub volume: Option<String>,
}

impl VolumeName {
    /// The volume, and the words that are left for others.
    ///
    /// # Errors
    /// [`Failure`]: it is named twice.
    pub fn address(&self) -> Result<String, Failure> {
        let [address] = fill([self.volume.clone()], self.word.clone())?;
        required(address, "VOLUME")
    }

    /// The volume; what was said in its place while the flag named it is the first of `more`.
    ///
    /// # Errors
    /// [`Failure`]: it is missing.
    pub fn address_and(&self, more: &[String]) -> Result<(String, Vec<String>), Failure> {
        let mut words = self.word.iter().chain(more).cloned();
        let address = match &self.volume {
            Some(address) => Some(address.clone()),
            None => words.next(),
        };
        Ok((required(address, "VOLUME")?, words.collect()))
    }
}

/// A volume and a vmgroup.
#[derive(Debug, Args)]
pub struct Move {
    /// Which
    #[command(flatten)]
    pub volume: VolumeName,
    /// The vmgroup it comes to
    #[arg(value_name = "VMGROUP")]
    pub group_word: Option<String>,
    /// The same, with a flag
    #[arg(long, value_name = "VMGROUP", alias = "to", alias = "vmgroup")]
    pub to_group: Option<String>,
    /// Beyond that vmgroup's limits
    #[arg(long)]
    pub force: bool,
}

impl Move {
    /// The volume and the vmgroup.
    ///
    /// # Errors
    /// [`Failure`]: one is missing, or there is a word too many.
    pub fn what_and_where(&self) -> Result<(String, String), Failure> {
        let flags = [self.volume.volume.clone(), self.to_group.clone()];
        let words = self.volume.word.iter().chain(&self.group_word).cloned();
        let [address, group] = fill(flags, words)?;
        Ok((
            required(address, "VOLUME")?,
            required(group, "the vmgroup (--to-group=VMGROUP)")?,
        ))
    }
}

/// Which volumes, and what of them.
#[derive(Debug, Args)]
pub struct VolumeColumns {
    /// Only of vmgroups whose name fits
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    pub vmgroup: String,
    /// Which rows
    #[command(flatten)]
    pub listing: Listing,
    /// Only these columns; their order is fixed
    #[arg(
        short,
        long,
        value_name = "COLUMN,..",
        value_delimiter = ',',
        value_parser = column()
    )]
    pub columns: Vec<String>,
    /// The original's 13 columns
    #[arg(short, long, conflicts_with = "columns")]
    pub wide: bool,
}

fn column() -> PossibleValuesParser {
    PossibleValuesParser::new(VOLUME_COLUMNS.iter().map(|c| c.key))
}

impl VolumeColumns {
    /// The columns to show, in their order; none: the usual ones.
    #[must_use]
    pub fn chosen(&self) -> Option<Vec<&'static str>> {
        if self.wide {
            return Some(ORIGINAL_COLUMNS.to_vec());
        }
        let keys = VOLUME_COLUMNS.iter().map(|c| c.key);
        let chosen: Vec<_> = keys
            .filter(|k| self.columns.iter().any(|c| c == k))
            .collect();
        (!chosen.is_empty()).then_some(chosen)
    }
}
