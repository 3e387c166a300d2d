//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Look at and manage the volumes of this host's virtual machines.
#[derive(Debug, Parser)]
#[command(
    name = "vdvs",
    version,
    after_help = "Exit codes: 0 done; 2 a mistake in the request; 3 not found; 5 not allowed; 6 in use; \
                  7 no answer now, try again; all of them in docs/error-codes.md."
)]
pub struct Cli {
    /// Everywhere.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The agent's admin socket.
    #[arg(
        long,
        global = true,
        env = "VDVS_ADMIN_SOCKET",
        default_value = "/var/run/vdvsd/admin.sock",
        value_name = "PATH"
    )]
    pub socket: PathBuf,
    /// How to print.
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// How long to wait for the agent's answer.
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..=900))]
    pub timeout: u64,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs: one JSON document; errors as JSON on standard error.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the agent, its datastores, and what needs attention
    Status,
    /// Volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Virtual machines of this host
    #[command(subcommand)]
    Vm(VmCommand),
    /// Datastores of this host
    #[command(subcommand)]
    Datastore(DatastoreCommand),
}

/// What to do with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// List all volumes
    Ls,
    /// Show everything about one volume
    Inspect {
        /// `name`, `name@datastore`, or the volume's id
        #[arg(value_name = "VOLUME")]
        address: String,
    },
    /// Remove a volume and its data
    Rm {
        /// `name`, `name@datastore`, or the volume's id
        #[arg(value_name = "VOLUME")]
        address: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// What to do with virtual machines.
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// List the virtual machines of this host and the volumes they have
    Ls,
}

/// What to do with datastores.
#[derive(Debug, Subcommand)]
pub enum DatastoreCommand {
    /// List the datastores of this host and what the volumes take
    Ls,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_and_after_the_verb() {
        for line in [
            "vdvs --output json --socket /s volume ls",
            "vdvs volume ls -o json --socket=/s",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.global.output, Output::Json);
            assert_eq!(cli.global.socket, PathBuf::from("/s"));
        }
    }
}
