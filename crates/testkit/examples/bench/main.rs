//! The measurements of `cargo xtask bench`: the real programs in a lab of two nodes, asked as dockerd and a guest ask.
//!
//! Every figure becomes one line of JSON (`{"key":…,"value":…,"note":…}`) in the file asked for. Budgets are none of its business: the table and the verdict are the caller's. Figures of a busy
//! machine are noisy, so each is a median over rounds, and what it is compared with is measured between those rounds.

#![forbid(unsafe_code)]

mod calls;
mod cli;
mod clone;
mod create;
mod esxi;
mod figures;
mod hostile;
mod http;
mod memory;
mod mount;
mod plant;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use figures::Sheet;
use world::World;

/// What is measured, in the order in which it is: whatever leaves something behind comes last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Bench {
    /// `GetVolume` over the Unix socket, one in flight.
    Get,
    /// Creates through the plugin, alone and 64 at once, and through the engine beside its local driver.
    Create,
    /// A formatted volume's Mount beside losetup and mount.
    Mount,
    /// A clone of a sparse disk beside `cp`.
    Clone,
    /// A Mount on another VM after a power cut.
    Takeover,
    /// The command line's start; with `list` its list of many volumes too.
    Cli,
    /// A VM's `GetVolume` while another VM attacks the agent.
    Hostile,
    /// Lists with many volumes.
    List,
    /// The agent's memory, idle and with many volumes and guests.
    Memory,
    /// The agent beside pyvmomi at a simulated hostd. Needs no lab.
    Esxi,
}

impl Bench {
    /// Those in the lab.
    const LAB: [Self; 9] = [
        Self::Memory,
        Self::Cli,
        Self::Get,
        Self::Create,
        Self::Mount,
        Self::Clone,
        Self::Takeover,
        Self::Hostile,
        Self::List,
    ];
}

/// Measures the programs as built with `--release`.
#[derive(Debug, Parser)]
struct Args {
    /// Where the figures go.
    #[arg(long, value_name = "FILE")]
    figures: PathBuf,
    /// Only this.
    #[arg(long, value_enum)]
    only: Option<Bench>,
    /// How many volumes are many.
    #[arg(long, default_value_t = 10_000)]
    volumes: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let sheet = Sheet::new(&args.figures)?;
    let wanted = |bench| args.only.is_none_or(|only| only == bench);
    if wanted(Bench::Esxi) {
        eprintln!("measuring {:?}", Bench::Esxi);
        esxi::measure(&sheet)?;
        if args.only.is_some() {
            return Ok(());
        }
    }
    let world = World::up(sheet)?;
    for bench in Bench::LAB.into_iter().filter(|b| wanted(*b)) {
        eprintln!("measuring {bench:?}");
        match bench {
            Bench::Cli => cli::help(&world)?,
            Bench::Get => calls::get(&world)?,
            Bench::Create => create::measure(&world)?,
            Bench::Mount => mount::beside_bare(&world)?,
            Bench::Clone => clone::beside_cp(&world)?,
            Bench::Takeover => mount::takeover(&world)?,
            Bench::Hostile => hostile::measure(&world)?,
            Bench::Memory => memory::idle(&world)?,
            Bench::List | Bench::Esxi => {}
        }
    }
    // These need many volumes, and nothing else is to be measured among them.
    if wanted(Bench::List) {
        let some = args.volumes / 10;
        plant::volumes(&world, 0..some)?;
        calls::list(&world, some, ".tenth")?;
        plant::volumes(&world, some..args.volumes)?;
        calls::list(&world, args.volumes, "")?;
        calls::visible(&world)?;
        cli::list(&world, args.volumes)?;
    } else if wanted(Bench::Cli) {
        plant::volumes(&world, 0..args.volumes)?;
        cli::list(&world, args.volumes)?;
    } else if wanted(Bench::Memory) {
        plant::volumes(&world, 0..args.volumes)?;
    }
    if wanted(Bench::Memory) {
        memory::full(&world, args.volumes)?;
    }
    world.down()
}
