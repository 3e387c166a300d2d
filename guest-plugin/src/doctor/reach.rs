//! The plugin and the agent: whether they answer, and whether they fit each other.

use std::path::Path;
use std::time::Duration;

use vdvs_domain::Timestamp;
use vdvs_transport::Address;

use super::{Finding, Level};
use crate::checks;
use crate::clock::{Clock, SystemClock};

/// For Hello: the agent answers from memory.
const HELLO_TIME: Duration = Duration::from_secs(5);
/// Two clocks that are told the time differ by less.
const CLOCKS: Duration = Duration::from_secs(5);

pub(super) fn plugin(socket: &Path) -> Finding {
    let at = socket.display();
    if checks::plugin_answers(socket) {
        return Finding::fine("plugin", format!("answers at {at}"));
    }
    let text = if socket.exists() {
        format!("nothing answers at {at}, although the socket is there")
    } else {
        format!("{at} is not there: the plugin does not run")
    };
    Finding::bad(
        "plugin",
        Level::Broken,
        text,
        "systemctl restart vdvs-plugin",
    )
}

/// The agent, and what its answer says of this machine.
pub(super) fn agent(address: &str) -> Vec<Finding> {
    let broken = |text: String, act: &str| vec![Finding::bad("agent", Level::Broken, text, act)];
    let parsed: Address = match address.parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            return broken(
                format!("{address}: {error}"),
                "correct the setting Agent (--agent, VDVS_AGENT)",
            );
        }
    };
    let start = "have vdvsd started on this VM's host (there: vdvs status)";
    if let Some(why) = checks::no_way_to_agent(address) {
        return broken(format!("{address} cannot be reached: {why}"), start);
    }
    match checks::hello(&parsed, HELLO_TIME) {
        Ok(answer) => {
            let text = format!(
                "{} on {}, protocol {}; this VM is {} there",
                answer.program, answer.host_name, answer.version, answer.vm_name
            );
            let mut all = vec![Finding::fine("agent", text)];
            all.extend(clock(SystemClock.now(), answer.clock));
            all.push(versions(env!("CARGO_PKG_VERSION"), &answer.program));
            all
        }
        Err(why) if why.contains("upgrade") => broken(why, "upgrade the side that is named"),
        Err(why) => broken(format!("no answer at {address}: {why}"), start),
    }
}

/// This machine's clock against the host's. Containers' times and certificates suffer, not volumes: those go by no clock.
fn clock(here: Timestamp, host: Option<Timestamp>) -> Option<Finding> {
    let (here, host) = (here.millis(), host?.millis());
    let apart = here.abs_diff(host);
    if u128::from(apart) <= CLOCKS.as_millis() {
        return Some(Finding::fine("clock", "as the host's"));
    }
    let way = if here > host { "ahead of" } else { "behind" };
    let text = format!("{} s {way} the host's", apart / 1000);
    let act = "timedatectl set-ntp true, or turn on the time synchronization of VMware Tools";
    Some(Finding::bad("clock", Level::Attention, text, act))
}

/// A version as programs write it: the first word that begins with a digit, as numbers.
fn version(text: &str) -> Option<Vec<u64>> {
    let word = text
        .split_whitespace()
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let plain = word.split(['-', '+']).next()?;
    plain.split('.').map(|n| n.parse().ok()).collect()
}

fn versions(plugin: &str, agent: &str) -> Finding {
    let text = format!("plugin {plugin}, agent {agent}");
    match (version(plugin), version(agent)) {
        (Some(ours), Some(theirs)) if ours < theirs => {
            let act = "upgrade the plugin in this VM";
            Finding::bad("versions", Level::Attention, text, act)
        }
        (Some(ours), Some(theirs)) if ours > theirs => {
            let act = "upgrade the agent on this VM's host";
            Finding::bad("versions", Level::Attention, text, act)
        }
        _ => Finding::fine("versions", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_by_how_much_and_which_way() {
        let at = |secs: u64| Timestamp::from_millis(secs * 1000);
        assert_eq!(clock(at(100), None), None, "an older agent says nothing");
        assert_eq!(clock(at(100), Some(at(104))).unwrap().level, Level::Fine);
        let late = clock(at(100), Some(at(190))).unwrap();
        assert_eq!(late.text, "90 s behind the host's");
        assert!(
            clock(at(190), Some(at(100)))
                .unwrap()
                .text
                .contains("ahead")
        );
    }

    #[test]
    fn the_older_side_is_to_be_upgraded() {
        assert_eq!(versions("0.6.0", "vdvsd 0.6.0").level, Level::Fine);
        let old = versions("0.9.0", "vdvsd 0.10.0");
        assert_eq!(old.act.as_deref(), Some("upgrade the plugin in this VM"));
        let new = versions("0.10.0", "vdvsd 0.9.9+abc");
        assert_eq!(
            new.act.as_deref(),
            Some("upgrade the agent on this VM's host")
        );
    }
}
