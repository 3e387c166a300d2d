//! The lab's network: a switch namespace with a bridge, and a cable from it to each node's namespace.
//!
//! Nothing is made in the machine's own network namespace, so a lab neither sees nor disturbs it. Clients of the
//! services in the nodes run in the switch's namespace, address `10.99.0.254`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::layout::Layout;
use super::state::{self, NodeRecord};
use crate::process::{Cmd, tool};

/// The switch's own address.
pub const SWITCH_ADDRESS: &str = "10.99.0.254";
/// Highest index of a node on the switch's network.
pub(super) const INDEX_MAX: u8 = 250;

/// Makes the switch if it is not there.
pub(super) fn ensure_switch(layout: &Layout) -> Result<()> {
    let netns = layout.switch_netns();
    let ready = state::update(layout, |state| state.switch_ready)?;
    if ready && exists(&netns) {
        return Ok(());
    }
    remove(&netns)?;
    ip(&["netns", "add", &netns])?;
    for line in [
        "link set lo up",
        "link add br0 type bridge",
        "addr add 10.99.0.254/24 dev br0",
        "link set br0 up",
    ] {
        ip_in(&netns, line)?;
    }
    state::update(layout, |state| {
        state.switch_ready = true;
        // The far ends of the old switch's cables went with it.
        for node in &mut state.nodes {
            node.wired = false;
        }
    })
}

/// Makes a node's namespace and plugs it in, if that is not done.
pub(super) fn ensure_node(layout: &Layout, node: &NodeRecord) -> Result<()> {
    if node.wired && exists(&node.netns) {
        return Ok(());
    }
    let (switch, netns, port) = (layout.switch_netns(), &node.netns, port(node));
    remove(netns)?;
    ip(&["netns", "add", netns])?;
    ip_in(netns, "link set lo up")?;
    ip(&[
        "-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", netns,
    ])?;
    ip_in(&switch, &format!("link set {port} master br0 up"))?;
    ip_in(netns, &format!("addr add {}/24 dev eth0", node.address()))?;
    ip_in(netns, "link set eth0 up")?;
    ip_in(netns, &format!("route add default via {SWITCH_ADDRESS}"))?;
    state::update(layout, |state| {
        if let Some(record) = state.node_mut(&node.name) {
            record.wired = true;
        }
    })
}

/// Pulls the node's cable out of the switch, or plugs it in again.
pub(super) fn set_cable(layout: &Layout, node: &NodeRecord, plugged: bool) -> Result<()> {
    let how = if plugged { "up" } else { "down" };
    ip_in(
        &layout.switch_netns(),
        &format!("link set {} {how}", port(node)),
    )
}

/// A command that runs in the switch's namespace: a client on the lab's network.
pub(super) fn client(layout: &Layout, program: &str) -> Cmd {
    Cmd::new(tool::NSENTER)
        .arg(format!("--net={}", path(&layout.switch_netns()).display()))
        .arg(program)
}

/// Removes a namespace and kills what runs in it. Not there: nothing to do.
pub(super) fn remove(netns: &str) -> Result<()> {
    if exists(netns) {
        ip(&["netns", "del", netns])?;
    }
    Ok(())
}

/// Pids of the processes in a namespace, as seen from here.
pub(super) fn pids(netns: &str) -> Result<Vec<u32>> {
    if !exists(netns) {
        return Ok(Vec::new());
    }
    let text = ip(&["netns", "pids", netns])?;
    Ok(text
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect())
}

/// The file a namespace's name stands for.
pub(super) fn path(netns: &str) -> PathBuf {
    Path::new("/run/netns").join(netns)
}

fn exists(netns: &str) -> bool {
    path(netns).exists()
}

fn port(node: &NodeRecord) -> String {
    format!("port{}", node.index)
}

fn ip_in(netns: &str, line: &str) -> Result<()> {
    let args: Vec<&str> = ["-n", netns].into_iter().chain(line.split(' ')).collect();
    ip(&args).map(drop)
}

fn ip(args: &[&str]) -> Result<String> {
    Cmd::new(tool::IP)
        .args(args)
        .limit(Duration::from_secs(30))
        .run()
}
