//! `cargo xtask lab`: hypervisor hosts and their VMs on this machine, for a person to play with.
//!
//! The command line only: the lab itself is in the testkit, where the suites use it too. Every command is safe to
//! repeat; `down` also clears what an interrupted `up` left.
//!
//! A lab's VMs are all of one kind, namespaces (`swarm01` …) or QEMU (`vm01` …); commands that name one find out which.

mod machines;
mod status;
mod writer;

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use vdvs_testkit::lab::{
    BINARY_PACKAGES, BUSYBOX, DEFAULT_DATASTORE, DRIVER, Daemon, Datastore, Docker, Host, Images,
    Lab, LabConfig, PACKAGES, Profile, Service, Swarm, ensure_packages,
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
    Up(UpArgs),
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
    /// Runs the administrator's command `vdvs` on a host.
    Vdvs {
        /// The host; the first, unless said otherwise.
        #[arg(long)]
        host: Option<String>,
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
    /// Pulls a node's network cable, or plugs it in again.
    Cable {
        /// The node.
        node: String,
        /// Which.
        #[arg(value_enum)]
        how: Cable,
    },
    /// A host loses its power, and with it every VM on it.
    Crash {
        /// The host.
        host: String,
    },
    /// A crashed host boots; its VMs stay off.
    Boot {
        /// The host.
        host: String,
    },
    /// Registers a VM that is off on another host, as an HA cluster does.
    Move {
        /// The node.
        node: String,
        /// Its new host.
        host: String,
    },
    /// Looks from outside whether a disk of the lab ever has two writers, until it is interrupted.
    WriterCheck(writer::WriterArgs),
    /// Prints a log.
    Logs {
        /// The node.
        node: String,
        /// Whose log.
        #[arg(long, value_enum, default_value_t = Log::Plugin)]
        of: Log,
    },
}

#[derive(Debug, Args)]
struct UpArgs {
    /// Number of nodes: swarm01, swarm02 …
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// Number of hosts: esx01, esx02 …; they share the datastore, and the nodes are spread over them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    hosts: u8,
    /// How many seconds a lock on the datastore outlives a host that crashed.
    #[arg(long, default_value_t = 0)]
    lapse: u64,
    /// Make a swarm of them, swarm01 the manager.
    #[arg(long)]
    swarm: bool,
    /// Run the release build of our programs.
    #[arg(long)]
    release: bool,
    /// What the VMs are.
    #[arg(long, value_enum, default_value_t = VmKind::Namespaces)]
    vm: VmKind,
    /// With --vm qemu: Debian with an engine in each VM, instead of the plugin alone.
    #[arg(long)]
    engine: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum VmKind {
    /// Namespaces of this machine: quick, a real engine, disks are loop devices.
    Namespaces,
    /// QEMU processes: a kernel of their own, PVSCSI, vSockets.
    Qemu,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Cable {
    /// Plugged in.
    In,
    /// Pulled.
    Out,
}

impl Cable {
    fn text(self) -> &'static str {
        match self {
            Self::In => "plugged in",
            Self::Out => "pulled",
        }
    }
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

/// Runs one lab command; those that run a command of the person's end as that one did.
pub(crate) fn run(args: LabArgs) -> Result<ExitCode> {
    let name = args.name.as_str();
    let action = match machines::run(name, args.action)? {
        machines::Done::Yes(code) => return Ok(code),
        machines::Done::NotOurs(action) => action,
    };
    match action {
        Action::Exec { node, command } => return exec(&Lab::open(name)?, &node, &command),
        Action::Docker { node, args } => return docker(&Lab::open(name)?, &node, &args),
        Action::Vdvs { host, args } => return vdvs(&Lab::open(name)?, host.as_deref(), &args),
        Action::Up(wanted) => up(name, &wanted)?,
        Action::Status => status::print(name)?,
        Action::WriterCheck(args) => writer::run(name, &args)?,
        Action::Logs { node, of } => logs(&Lab::open(name)?, &node, of)?,
        other => println!("{}", act(name, other)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Does something to the lab or a part of it, and says what is so now.
fn act(name: &str, action: Action) -> Result<String> {
    if matches!(action, Action::Down) {
        Lab::down(name)?;
        return Ok(format!("lab '{name}' is gone"));
    }
    let lab = Lab::open(name)?;
    Ok(match action {
        Action::PowerCut { node } => {
            let took = lab.node(&node)?.power_cut()?;
            format!("{node} is off, cut in {took:.0?}")
        }
        Action::PowerOn { node } => {
            lab.node(&node)?.power_on()?;
            format!("{node} is on")
        }
        Action::Shutdown { node } => {
            lab.node(&node)?.shutdown()?;
            format!("{node} is off")
        }
        Action::Cable { node, how } => {
            lab.node(&node)?.set_cable(how == Cable::In)?;
            format!("the network cable of {node} is {}", how.text())
        }
        Action::Crash { host } => {
            let took = lab.crash_host(&host)?;
            format!("{host} is down with all its VMs, within {took:.0?}")
        }
        Action::Boot { host } => {
            lab.boot_host(&host)?;
            format!("{host} is up; its VMs are off, 'power-on' switches one on")
        }
        Action::Move { node, host } => {
            lab.move_node(&node, &host)?;
            format!("{node} is registered on {host}; it is off")
        }
        _ => String::new(),
    })
}

fn up(name: &str, wanted: &UpArgs) -> Result<()> {
    ensure!(wanted.hosts <= wanted.nodes, "more hosts than nodes");
    ensure_packages(PACKAGES, &|line| println!("{line}"))?;
    let profile = if wanted.release {
        Profile::Release
    } else {
        Profile::Debug
    };
    build(profile)?;
    let begin = Instant::now();
    let images = Images::prepare()?;
    println!("images ready ({:.1?})", begin.elapsed());
    let begin = Instant::now();
    let lapse = Duration::from_secs(wanted.lapse);
    let lab =
        Lab::up(&LabConfig {
            profile,
            ..LabConfig::spread(name, wanted.nodes, wanted.hosts)
                .with_datastores(&[Datastore::new(DEFAULT_DATASTORE, "vsan").lapsing(lapse)])
        })?;
    let (nodes, hosts) = (wanted.nodes, wanted.hosts);
    println!(
        "{nodes} nodes on {hosts} hosts up ({:.1?})",
        begin.elapsed()
    );
    let begin = Instant::now();
    let nodes = lab.nodes()?;
    let engines: Vec<Docker> = nodes.iter().map(|node| node.docker()).collect();
    images.import_all(&engines)?;
    println!("images imported ({:.1?})", begin.elapsed());
    if wanted.swarm {
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

fn exec(lab: &Lab, node: &str, command: &[String]) -> Result<ExitCode> {
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

fn docker(lab: &Lab, node: &str, args: &[String]) -> Result<ExitCode> {
    finish(lab.node(node)?.docker().cmd(args).interactive()?)
}

fn vdvs(lab: &Lab, host: Option<&str>, args: &[String]) -> Result<ExitCode> {
    let hosts = lab.hosts()?;
    let wanted = |one: &&Host| host.is_none_or(|name| name == one.name());
    let host = hosts
        .iter()
        .find(wanted)
        .context("the lab has no such host")?;
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

/// Hands on how the person's command ended, as a shell does.
fn finish(status: ExitStatus) -> Result<ExitCode> {
    let by_signal = || Some(128 + status.signal()?);
    let code = status.code().or_else(by_signal);
    let code = code.and_then(|code| u8::try_from(code).ok());
    code.map(ExitCode::from)
        .with_context(|| format!("the command ended with {status}"))
}
