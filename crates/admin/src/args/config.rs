//! `vdvs config`

use std::path::PathBuf;

use clap::Subcommand;

use super::listing::Listing;

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Make a configuration, or let a datastore follow the one there is
    Init {
        /// The configuration lives on this datastore, and all hosts that see it follow it
        #[arg(long, value_name = "DATASTORE")]
        datastore: Option<String>,
        /// The configuration lives on this host's own datastore
        #[arg(long)]
        local: bool,
        /// Also if another datastore holds a configuration already
        #[arg(long)]
        force: bool,
    },
    /// Stop using a configuration; its datastores are closed until there is another
    Rm {
        /// The configuration of this host
        #[arg(long)]
        local: bool,
        /// The shared one: only this host forgets it
        #[arg(long)]
        unlink: bool,
        /// Yes, remove it
        #[arg(long)]
        confirm: bool,
        /// Keep no copy
        #[arg(long)]
        no_backup: bool,
    },
    /// Move the configuration to another datastore
    Mv {
        /// Where to
        #[arg(value_name = "DATASTORE", required_unless_present = "to")]
        word: Option<String>,
        /// The same, with a flag
        #[arg(long, value_name = "DATASTORE")]
        to: Option<String>,
        /// Also if the old place cannot be read
        #[arg(long)]
        force: bool,
    },
    /// Show where the configuration lies and which datastores it governs
    Status,
    /// List what was changed, by whom
    History(Listing),
    /// Print the configuration as JSON, or write it to a file that does not exist yet
    Backup {
        /// The file
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Replace the configuration by one that was backed up
    Restore {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Take over the original's database; the file is only read
    Import {
        /// The original's auth-db
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the configuration is to live; otherwise the one that governs here is extended
        #[arg(long, value_name = "DATASTORE")]
        datastore: Option<String>,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}
