//! `vdvs-labhv`: a lab host's hypervisor. Runs until killed; killing it changes nothing for its VMs.
#![forbid(unsafe_code)]

use std::io::stderr;
use std::path::PathBuf;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use vdvs_host_lab::hv;

/// The VMkernel's stand-in for a lab host: VMs, power, disks, locks.
#[derive(Debug, Parser)]
#[command(name = "vdvs-labhv", version)]
struct Args {
    /// The host's folder, with host.json and vms/.
    #[arg(long, value_name = "DIR")]
    host_dir: PathBuf,
    /// Only close the loop devices that no living VM of this host has, and end.
    #[arg(long)]
    cleanup: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("VDVS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(false)
        .init();
    if args.cleanup {
        hv::cleanup(&args.host_dir)?;
    } else {
        hv::serve(&args.host_dir)?;
    }
    Ok(())
}
