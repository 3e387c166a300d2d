//! `cargo xtask lab status`: what is there, what is on, and what is left of a lab that is gone.

use anyhow::Result;
use vdvs_testkit::lab::{Daemon, Host, Lab, Layout, Node, Service, leftovers};
use vdvs_testkit::process::ProcId;

/// Prints a lab's state.
pub(super) fn print(name: &str) -> Result<()> {
    let layout = Layout::for_name(name)?;
    if !layout.state_file().exists() {
        println!("there is no lab '{name}'");
        for line in leftovers(&layout)? {
            println!("  left over: {line}");
        }
        return Ok(());
    }
    let lab = Lab::open(name)?;
    println!("lab '{name}' in {}", lab.layout().root().display());
    for host in lab.hosts()? {
        print_host(&host)?;
    }
    println!(
        "{:<10} {:<8} {:<12} {:<6} {:>8}  {:<8} {:<8} volumes",
        "node", "host", "address", "power", "init", "plugin", "engine"
    );
    for node in lab.nodes()? {
        print_node(&node)?;
    }
    Ok(())
}

pub(super) fn print_host(host: &Host) -> Result<()> {
    let pid = |process: Option<ProcId>| match process {
        Some(process) => format!("pid {}", process.pid),
        None => "down".to_owned(),
    };
    let labhv = pid(host.running(Daemon::Labhv)?);
    let agent = pid(host.running(Daemon::Agent)?);
    let datastores: Vec<String> = host
        .datastores()?
        .iter()
        .map(|one| match one.lapse.as_millis() {
            0 => format!("{} ({})", one.name, one.kind),
            lapse => format!("{} ({}, locks lapse after {lapse} ms)", one.name, one.kind),
        })
        .collect();
    println!(
        "host {}: hypervisor {labhv}, agent {agent}; sees {}",
        host.name(),
        datastores.join(", ")
    );
    Ok(())
}

fn print_node(node: &Node) -> Result<()> {
    let record = node.record()?;
    let init = record.running();
    let power = if init.is_some() { "on" } else { "off" };
    let pid = init.map(|init| init.pid.to_string()).unwrap_or_default();
    let plugin = match node.service_pid(Service::Plugin) {
        Ok(Some(_)) if init.is_some() => "up",
        _ => "down",
    };
    let engine = if init.is_some() && node.docker().answers() {
        "up"
    } else {
        "down"
    };
    let volumes = if init.is_some() {
        node.volume_mounts()?.len()
    } else {
        0
    };
    println!(
        "{:<10} {:<8} {:<12} {power:<6} {pid:>8}  {plugin:<8} {engine:<8} {volumes}",
        node.name(),
        record.host,
        record.address(),
    );
    Ok(())
}
