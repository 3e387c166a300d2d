//! What dies: programs, machines, hosts, paths to datastores; one thing at a time, and alive again before the next.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use vdvs_testkit::lab::{Daemon, Service};
use vdvs_tests::rig::Rig;

use crate::DATASTORES;
use crate::dice::Dice;
use crate::known::Known;

const HOSTS: [&str; 2] = ["esx01", "esx02"];
/// Of this host the programs, and of this guest everything, are spared after the first rounds.
const SPARED_HOST: &str = "esx01";
const SPARED_GUEST: &str = "swarm01";
/// Milliseconds between two deaths, and between a death and the next life, at most.
const BETWEEN: usize = 1500;
const DEAD: usize = 1200;
/// How long a path is dead: long enough that the locks lapse, or just a hiccup.
const PATH_DEAD: usize = 6000;

#[derive(Debug, Clone, Copy)]
enum Death {
    Agent,
    Labhv,
    Plugin,
    PluginHangs,
    PowerCut,
    HostCrash,
    Path,
}

/// Of a hundred.
const DRAWN: [(Death, usize); 7] = [
    (Death::Agent, 26),
    (Death::Labhv, 16),
    (Death::Plugin, 22),
    (Death::PluginHangs, 6),
    (Death::PowerCut, 20),
    (Death::HostCrash, 4),
    (Death::Path, 6),
];

/// Kills until then. Whatever it killed is alive again when it returns.
pub(crate) fn until(
    rig: &Rig,
    known: &Known,
    mut dice: Dice,
    until: Instant,
    spare: bool,
) -> Result<()> {
    while Instant::now() < until {
        pause(rig, &mut dice, BETWEEN)?;
        let death = draw(&mut dice);
        let hosts = HOSTS.iter().filter(|host| !spare || **host != SPARED_HOST);
        let hosts: Vec<&str> = hosts.copied().collect();
        let host = *dice.pick(&hosts);
        let nodes = rig.lab().nodes()?;
        let nodes: Vec<_> = nodes
            .iter()
            .filter(|node| !spare || node.name() != SPARED_GUEST)
            .collect();
        let node = dice.pick(&nodes).name().to_owned();
        known.count_one(&format!("chaos: {death:?}"));
        kill(rig, &mut dice, death, host, &node)
            .with_context(|| format!("{death:?} of {host} or {node}"))?;
    }
    Ok(())
}

fn draw(dice: &mut Dice) -> Death {
    let mut number = dice.below(DRAWN.iter().map(|(_, share)| share).sum());
    for (death, share) in DRAWN {
        if number < share {
            return death;
        }
        number -= share;
    }
    Death::Agent
}

fn pause(rig: &Rig, dice: &mut Dice, most: usize) -> Result<()> {
    rig.after(Duration::from_millis(u64::try_from(dice.below(most))?));
    Ok(())
}

fn kill(rig: &Rig, dice: &mut Dice, death: Death, host: &str, node: &str) -> Result<()> {
    match death {
        Death::Agent | Death::Labhv => {
            let daemon = if matches!(death, Death::Agent) {
                Daemon::Agent
            } else {
                Daemon::Labhv
            };
            rig.kill(host, daemon)?;
            pause(rig, dice, DEAD)?;
            rig.start(host, daemon)
        }
        Death::Plugin => {
            rig.kill_plugin(node)?;
            rig.wait_plugin(node)
        }
        Death::PluginHangs => {
            let on = rig.node(node)?;
            on.signal_service(Service::Plugin, Signal::SIGSTOP)?;
            pause(rig, dice, DEAD)?;
            on.signal_service(Service::Plugin, Signal::SIGCONT)
        }
        Death::PowerCut => {
            rig.power_cut(node)?;
            pause(rig, dice, DEAD)?;
            boot(rig, node)
        }
        Death::HostCrash => {
            let nodes = rig.lab().nodes_on(host)?;
            rig.crash_host(host)?;
            pause(rig, dice, PATH_DEAD)?;
            rig.lab().boot_host(host)?;
            nodes.iter().try_for_each(|node| boot(rig, node.name()))
        }
        Death::Path => {
            let datastore = *dice.pick(&DATASTORES);
            rig.isolate(host, datastore, true)?;
            pause(rig, dice, PATH_DEAD)?;
            rig.isolate(host, datastore, false)
        }
    }
}

/// As an administrator would: when its disks are somebody else's by now, they are taken out of its configuration first.
fn boot(rig: &Rig, node: &str) -> Result<()> {
    rig.wait_bare(node)?;
    rig.power_on(node)
}
