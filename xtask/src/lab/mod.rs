//! `cargo xtask lab`: a hypervisor host and its VMs on this machine, for a person to play with.
//!
//! The command line only: the lab itself is in the testkit, where the suites use it too. Every command is safe to
//! repeat; `down` also clears what an interrupted `up` left.

mod status;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use vdvs_testkit::lab::{
    BINARY_PACKAGES, BUSYBOX, DRIVER, Daemon, Docker, Images, Lab, LabConfig, PACKAGES, Profile,
    Service, Swarm, ensure_packages,
};

use crate::program;

/// Arguments of `cargo xtask lab`.
#[derive(Debug, Args)]
pub(crate) struct LabArgs {
    /// Which lab; several can be up at a time.
    #[arg(long, global = true, default_value = "default")]
    name: String,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Makes the lab, or what is missing of it, and switches everything on.
    Up {
        /// Number of nodes: swarm01, swarm02 …
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
        /// Make a swarm of them, swarm01 the manager.
        #[arg(long)]
        swarm: bool,
        /// Run the release build of our programs.
        #[arg(long)]
        release: bool,
    },
    /// Removes the lab and everything it left.
    Down,
    /// What is there and what is on.
    Status,
    /// Runs a command in a node, as its root; without a command, a shell.
    Exec {
        /// The node.
        node: String,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Runs the docker CLI against a node's engine.
    Docker {
        /// The node.
        node: String,
        /// Arguments of the CLI.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Runs the administrator's command `vdvs` on the node's host.
    Vdvs {
        /// Arguments of `vdvs`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Cuts a node's power: what its guest had not flushed is lost.
    PowerCut {
        /// The node.
        node: String,
    },
    /// Switches a node on.
    PowerOn {
        /// The node.
        node: String,
    },
    /// Shuts a node down in order.
    Shutdown {
        /// The node.
        node: String,
    },
    /// Prints a log.
    Logs {
        /// The node.
        node: String,
        /// Whose log.
        #[arg(long, value_enum, default_value_t = Log::Plugin)]
        of: Log,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Log {
    /// The plugin in the node.
    Plugin,
    /// The engine in the node.
    Dockerd,
    /// The node's pid 1.
    Init,
    /// The agent on the node's host.
    Agent,
    /// The hypervisor's stand-in on the node's host.
    Labhv,
}

/// Runs one lab command.
pub(crate) fn run(args: LabArgs) -> Result<()> {
    let name = args.name.as_str();
    match args.action {
        Action::Up {
            nodes,
            swarm,
            release,
        } => up(name, nodes, swarm, release),
        Action::Down => {
            Lab::down(name)?;
            println!("lab '{name}' is gone");
            Ok(())
        }
        Action::Status => status::print(name),
        Action::Exec { node, command } => exec(&Lab::open(name)?, &node, &command),
        Action::Docker { node, args } => docker(&Lab::open(name)?, &node, &args),
        Action::Vdvs { args } => vdvs(&Lab::open(name)?, &args),
        Action::PowerCut { node } => {
            let took = Lab::open(name)?.node(&node)?.power_cut()?;
            println!("{node} is off, cut in {took:.0?}");
            Ok(())
        }
        Action::PowerOn { node } => {
            Lab::open(name)?.node(&node)?.power_on()?;
            println!("{node} is on");
            Ok(())
        }
        Action::Shutdown { node } => {
            Lab::open(name)?.node(&node)?.shutdown()?;
            println!("{node} is off");
            Ok(())
        }
        Action::Logs { node, of } => logs(&Lab::open(name)?, &node, of),
    }
}

fn up(name: &str, nodes: u8, swarm: bool, release: bool) -> Result<()> {
    ensure_packages(PACKAGES, &|line| println!("{line}"))?;
    let profile = if release {
        Profile::Release
    } else {
        Profile::Debug
    };
    build(profile)?;
    let begin = Instant::now();
    let images = Images::prepare()?;
    println!("images ready ({:.1?})", begin.elapsed());
    let begin = Instant::now();
    let lab = Lab::up(&LabConfig {
        profile,
        ..LabConfig::new(name, nodes)
    })?;
    println!("{nodes} nodes up ({:.1?})", begin.elapsed());
    let begin = Instant::now();
    let nodes = lab.nodes()?;
    let engines: Vec<Docker> = nodes.iter().map(|node| node.docker()).collect();
    images.import_all(&engines)?;
    println!("images imported ({:.1?})", begin.elapsed());
    if swarm {
        let begin = Instant::now();
        let swarm = Swarm::form(&nodes)?;
        println!("swarm ready ({:.1?})", begin.elapsed());
        swarm.wait_driver(DRIVER)?;
        println!(
            "scheduler knows driver {DRIVER} on every node ({:.1?})",
            begin.elapsed()
        );
    }
    hints(name);
    Ok(())
}

/// Builds the programs a lab runs.
pub(crate) fn build(profile: Profile) -> Result<()> {
    let mut args = vec!["build", "--locked"];
    if profile == Profile::Release {
        args.push("--release");
    }
    args.extend(
        BINARY_PACKAGES
            .iter()
            .flat_map(|package| ["--package", package]),
    );
    args.push("--bins");
    ensure!(program::cargo(&args, &[])?.ok, "the build failed");
    Ok(())
}

fn hints(name: &str) {
    let lab = match name {
        "default" => "cargo xtask lab".to_owned(),
        name => format!("cargo xtask lab --name {name}"),
    };
    println!("\nplay with it:");
    println!("  {lab} docker swarm01 volume create -d {DRIVER} vol1");
    println!(
        "  {lab} docker swarm01 run --rm -v vol1:/data {BUSYBOX} sh -c 'date >> /data/log; cat /data/log'"
    );
    println!("  {lab} vdvs volume ls");
    println!("  {lab} exec swarm01 mount");
    println!("  {lab} power-cut swarm01");
    println!("  {lab} status");
    println!("  {lab} down");
}

fn exec(lab: &Lab, node: &str, command: &[String]) -> Result<()> {
    let node = lab.node(node)?;
    let shell = ["bash".to_owned()];
    let command = if command.is_empty() {
        shell.as_slice()
    } else {
        command
    };
    // Looked up on the node's own search path.
    let args = ["--"].into_iter().chain(command.iter().map(String::as_str));
    finish(
        node.exec("/usr/bin/env", args)?
            .env("TERM", "xterm")
            .interactive()?,
    )
}

fn docker(lab: &Lab, node: &str, args: &[String]) -> Result<()> {
    finish(lab.node(node)?.docker().cmd(args).interactive()?)
}

fn vdvs(lab: &Lab, args: &[String]) -> Result<()> {
    let hosts = lab.hosts()?;
    let host = hosts.first().context("the lab has no host")?;
    finish(host.vdvs(args).interactive()?)
}

fn logs(lab: &Lab, node: &str, of: Log) -> Result<()> {
    let node = lab.node(node)?;
    let host = lab.host(&node.record()?.host);
    let path: PathBuf = match of {
        Log::Plugin => node.log(Service::Plugin),
        Log::Dockerd => node.log(Service::Engine),
        Log::Init => node.boot_log(),
        Log::Agent => host.log(Daemon::Agent),
        Log::Labhv => host.log(Daemon::Labhv),
    };
    let mut file =
        File::open(&path).with_context(|| format!("no log yet at {}", path.display()))?;
    io::copy(&mut file, &mut io::stdout())?;
    Ok(())
}

/// Hands on how the person's command ended.
fn finish(status: ExitStatus) -> Result<()> {
    ensure!(status.success(), "the command ended with {status}");
    Ok(())
}
