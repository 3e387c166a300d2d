//! The command line: `vdvs <noun> <verb>`. Every verb takes the original's flags where the original had it, and the
//! same things without flags, in the order in which its help names them.

mod audit;
mod config;
mod doctor;
mod fsck;
mod listing;
mod policy;
mod vmgroup;
mod volume;
mod words;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, value_parser};
use clap_complete::Shell;

pub use audit::{AuditCommand, AuditQuestion};
pub use config::ConfigCommand;
pub use doctor::Doctor;
pub use fsck::Fsck;
pub use listing::Listing;
pub use policy::{PolicyCommand, PolicyName, PolicyText};
pub use vmgroup::{
    AccessCommand, GroupCommand, GroupName, Limits, MemberCommand, Members, Place, VolumesOfMembers,
};
pub use volume::{Move, VolumeColumns, VolumeCommand, VolumeName};
pub use words::required;

/// Look at and manage the volumes of this host's virtual machines.
#[derive(Debug, Parser)]
#[command(
    name = "vdvs",
    version,
    after_help = "Exit codes: 0 done; 1 status, doctor or fsck found something to warn of, or the answer to a question was no; \
                  2 a mistake in the request, or doctor found data at risk; 3 not found; 4 exists, or ambiguous; 5 not allowed; 6 in use; 7 no answer \
                  now, try again; all of them in docs/error-codes.md."
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
    /// The agent's admin socket
    #[arg(
        long,
        global = true,
        env = "VDVS_ADMIN_SOCKET",
        default_value = "/var/run/vdvsd/admin.sock",
        value_name = "PATH",
        help_heading = "Everywhere"
    )]
    pub socket: PathBuf,
    /// How to print
    #[arg(long, short, global = true, value_enum, default_value_t = Output::Table, help_heading = "Everywhere")]
    pub output: Output,
    /// How long to wait for the agent's answer
    #[arg(long, global = true, default_value_t = 30, value_name = "SECONDS", help_heading = "Everywhere",
          value_parser = clap::value_parser!(u64).range(1..=900))]
    pub timeout: u64,
    /// Make tables so wide; 0: as wide as they are. Otherwise the terminal's width
    #[arg(
        long,
        global = true,
        value_name = "COLUMNS",
        help_heading = "Everywhere"
    )]
    pub width: Option<u16>,
    /// Do not ask before something is removed
    #[arg(long, short, global = true, help_heading = "Everywhere")]
    pub yes: bool,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// One JSON document; errors as JSON on standard error
    Json,
    /// The original's XML; errors as XML on standard error
    Xml,
    /// A line per row, the first one with the columns' names; errors likewise on standard error
    Csv,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the agent, its datastores, and what needs attention; exit code 1 if something does
    Status {
        /// Taken for the original's sake: it is always fast
        #[arg(long)]
        fast: bool,
    },
    /// Volumes
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Groups of VMs, and what they may do
    #[command(subcommand)]
    Vmgroup(GroupCommand),
    /// vSAN policies
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// The configuration that vmgroups and policies are kept in
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Virtual machines
    #[command(subcommand)]
    Vm(VmCommand),
    /// Hosts that share datastores with this one
    #[command(subcommand)]
    Host(HostCommand),
    /// Datastores of this host
    #[command(subcommand, alias = "ds")]
    Datastore(DatastoreCommand),
    /// What was changed and what was denied on this host
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Show what differs between records, VMs, disks and hosts, and repair it; exit code 2 if data is at risk, else 1
    Doctor(Doctor),
    /// Look for damaged records, claims and ledgers on datastores, and repair them; exit code 1 if anything is left
    Fsck(Fsck),
    /// Long work that the agent goes on with by itself
    #[command(subcommand)]
    Work(WorkCommand),
    /// Print a shell's completions
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Print the manual page of a command, or write all pages into a folder
    Man {
        /// The command, for example: volume ls
        #[arg(value_name = "COMMAND")]
        command: Vec<String>,
        /// Write the pages of all commands here instead
        #[arg(long, value_name = "FOLDER", conflicts_with = "command")]
        dir: Option<PathBuf>,
    },
}

/// What to do with virtual machines.
#[derive(Debug, Subcommand)]
pub enum VmCommand {
    /// List the virtual machines of all hosts and the volumes they have
    Ls(Listing),
    /// Make virtual machines of this host ready for volumes beforehand
    Prepare {
        /// Their names or instance UUIDs
        #[arg(value_name = "VM", required_unless_present = "vm")]
        vms: Vec<String>,
        /// One more, with a flag
        #[arg(long, value_name = "VM")]
        vm: Option<String>,
        /// Controllers for volumes that each shall have; adding one later stuns the VM for a moment
        #[arg(long, value_name = "NUMBER", default_value_t = 4, value_parser = value_parser!(u32).range(1..=4))]
        controllers: u32,
    },
}

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// List the hosts, as far as shared datastores tell
    Ls(Listing),
}

/// What to do with datastores.
#[derive(Debug, Subcommand)]
pub enum DatastoreCommand {
    /// List the datastores of this host and what the volumes take
    Ls(Listing),
}

/// What to do with long work.
#[derive(Debug, Subcommand)]
pub enum WorkCommand {
    /// List what is under way, and what ended lately
    Ls(Listing),
    /// Show one, and wait for its end
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: String,
        /// Only show how far it is
        #[arg(long)]
        no_wait: bool,
    },
}

#[cfg(test)]
mod tests;
