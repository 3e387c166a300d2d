//! The lab's commands for VMs that are QEMU processes.

use std::fs::File;
use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use vdvs_testkit::lab::qemu::{Availability, Guest, Machine, QemuConfig, prepare};
use vdvs_testkit::lab::{Daemon, Lab, Layout, Profile};

use super::{Action, Log, UpArgs, VmKind, build};
use crate::dist;

/// For a command a person types.
const COMMAND_LIMIT: Duration = Duration::from_secs(600);

/// Whether a command was about a lab of QEMU VMs.
pub(super) enum Done {
    /// It was, and ended so.
    Yes(ExitCode),
    /// Somebody else's.
    NotOurs(Action),
}

/// Does what concerns QEMU VMs.
pub(super) fn run(name: &str, action: Action) -> Result<Done> {
    if let Action::Up(wanted) = &action {
        if wanted.vm == VmKind::Namespaces && !wanted.engine {
            return Ok(Done::NotOurs(action));
        }
        up(name, wanted)?;
        return Ok(Done::Yes(ExitCode::SUCCESS));
    }
    let layout = Layout::for_name(name)?;
    if matches!(action, Action::Down) || !layout.state_file().exists() {
        return Ok(Done::NotOurs(action));
    }
    let lab = Lab::open(name)?;
    if lab.machines()?.is_empty() {
        return Ok(Done::NotOurs(action));
    }
    match action {
        Action::Vdvs { .. } => return Ok(Done::NotOurs(action)),
        Action::Status => status(&lab)?,
        Action::Exec { node, command } => return exec(&lab.machine(&node)?, &command),
        Action::Docker { node, args } => {
            let args: Vec<String> = ["docker".to_owned()].into_iter().chain(args).collect();
            return exec(&lab.machine(&node)?, &args);
        }
        Action::PowerCut { node } => {
            lab.machine(&node)?.power_cut()?;
            println!("{node} is off");
        }
        Action::PowerOn { node } => {
            start(&lab.machine(&node)?)?;
            println!("{node} is on");
        }
        Action::Logs { node, of } => logs(&lab, &node, of)?,
        _ => bail!("this command is for labs of namespaces"),
    }
    Ok(Done::Yes(ExitCode::SUCCESS))
}

fn up(name: &str, wanted: &UpArgs) -> Result<()> {
    ensure!(
        wanted.vm == VmKind::Qemu,
        "--engine goes with --vm qemu; namespaces always have one"
    );
    ensure!(
        wanted.hosts == 1 && !wanted.swarm && wanted.lapse == 0,
        "QEMU VMs have no network and one host, whose locks end with them: without --hosts, --swarm and --lapse"
    );
    let profile = if wanted.release {
        Profile::Release
    } else {
        Profile::Debug
    };
    build(profile)?;
    ensure!(dist::for_suites()?, "the build of the plugin failed");
    let begin = Instant::now();
    let prepared = match prepare(wanted.engine, &|line| println!("{line}"))? {
        Availability::Ready(prepared) => prepared,
        Availability::Unavailable(why) => bail!("no QEMU VMs on this machine: {why}"),
    };
    println!("guests prepared ({:.1?})", begin.elapsed());
    let begin = Instant::now();
    let config = QemuConfig {
        name: name.to_owned(),
        guests: wanted.nodes,
        guest: if wanted.engine {
            Guest::Engine
        } else {
            Guest::Small
        },
        profile,
    };
    let lab = Lab::make_qemu(&config, &prepared)?;
    let machines = lab.machines()?;
    each(&machines, start)?;
    println!("{} QEMU VMs up ({:.1?})", machines.len(), begin.elapsed());
    hints(name, wanted.engine);
    Ok(())
}

/// Switches a VM on, with everything in it.
fn start(machine: &Machine) -> Result<()> {
    machine.power_on()?;
    machine.start_plugin()?;
    if machine.record()?.engine {
        machine.start_engine()?;
    }
    Ok(())
}

fn each(machines: &[Machine], act: fn(&Machine) -> Result<()>) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = machines
            .iter()
            .map(|machine| scope.spawn(move || act(machine)))
            .collect();
        running.into_iter().try_for_each(|one| {
            one.join()
                .map_err(|_| anyhow!("a machine's thread panicked"))?
        })
    })
}

fn exec(machine: &Machine, command: &[String]) -> Result<Done> {
    ensure!(
        !command.is_empty(),
        "a QEMU VM has no terminal here: say which command"
    );
    // Each word as the person's own shell gave it.
    let quoted: Vec<String> = command
        .iter()
        .map(|word| format!("'{}'", word.replace('\'', "'\\''")))
        .collect();
    let (code, text) = machine.outcome_within(&quoted.join(" "), COMMAND_LIMIT)?;
    print!("{text}");
    let code = u8::try_from(code).context("an exit code of the guest")?;
    Ok(Done::Yes(ExitCode::from(code)))
}

fn status(lab: &Lab) -> Result<()> {
    println!(
        "lab '{}' in {}",
        lab.layout().name(),
        lab.layout().root().display()
    );
    for host in lab.hosts()? {
        super::status::print_host(&host)?;
    }
    println!(
        "{:<10} {:<8} {:>4} {:<6} {:>8}",
        "vm", "host", "cid", "power", "qemu"
    );
    for machine in lab.machines()? {
        let record = machine.record()?;
        let qemu = record.running();
        let power = if qemu.is_some() { "on" } else { "off" };
        let pid = qemu.map(|qemu| qemu.pid.to_string()).unwrap_or_default();
        println!(
            "{:<10} {:<8} {:>4} {power:<6} {pid:>8}",
            record.name, record.host, record.cid
        );
    }
    Ok(())
}

fn logs(lab: &Lab, node: &str, of: Log) -> Result<()> {
    let machine = lab.machine(node)?;
    let host = lab.host(&machine.record()?.host);
    let path = match of {
        Log::Plugin => {
            println!("{}", machine.plugin_log()?);
            return Ok(());
        }
        Log::Dockerd => {
            println!("{}", machine.sh("cat /run/dockerd.log")?);
            return Ok(());
        }
        Log::Init => machine.serial_log(),
        Log::Agent => host.log(Daemon::Agent),
        Log::Labhv => host.log(Daemon::Labhv),
    };
    let mut file =
        File::open(&path).with_context(|| format!("no log yet at {}", path.display()))?;
    io::copy(&mut file, &mut io::stdout())?;
    Ok(())
}

fn hints(name: &str, engine: bool) {
    let lab = match name {
        "default" => "cargo xtask lab".to_owned(),
        name => format!("cargo xtask lab --name {name}"),
    };
    println!("\nplay with it:");
    if engine {
        println!("  {lab} docker vm01 volume create -d vsphere vol1");
    } else {
        println!("  {lab} exec vm01 volume Create '{{\"Name\":\"vol1\"}}'");
        println!("  {lab} exec vm01 volume Mount '{{\"Name\":\"vol1\",\"ID\":\"me\"}}'");
    }
    println!("  {lab} vdvs volume ls");
    println!("  {lab} exec vm01 mount");
    println!("  {lab} power-cut vm01");
    println!("  {lab} status");
    println!("  {lab} down");
}
