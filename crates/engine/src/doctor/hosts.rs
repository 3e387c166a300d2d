//! The other hosts, by what they tell; and the versions of agents and plugins.

use std::time::Duration;

use vdvs_domain::HostId;

use super::views::Views;
use super::{Found, Kind};
use crate::inner::Inner;

/// Two clocks that are not told the time may differ by so much before anybody needs to look.
const CLOCKS: Duration = Duration::from_secs(60);

/// A version as programs write it: the first word that begins with a digit, as numbers.
fn version(program: &str) -> Option<Vec<u64>> {
    let word = program
        .split_whitespace()
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    let plain = word.split(['-', '+']).next()?;
    plain.split('.').map(|n| n.parse().ok()).collect()
}

impl Inner {
    pub(super) fn findings_of_hosts(&self, views: &Views) -> Vec<Found> {
        let mut found = Vec::new();
        for file in &views.others.files {
            if let Some(silence) = self.recent_silence(file) {
                let text = format!("{silence} (last told {} ago)", self.ago(file.at));
                found.push(Found::new(Kind::SilentHost, &file.name, text).since(file.at));
            }
            let ahead = file.at.millis().saturating_sub(self.now().millis());
            if u128::from(ahead) > CLOCKS.as_millis() {
                let text = format!("its clock is {} s ahead of this host's", ahead / 1000);
                found.push(Found::new(Kind::ClockAhead, &file.name, text));
            }
        }
        for (host, why) in &views.others.strange {
            found.push(Found::new(Kind::StrangeHost, host, why));
        }
        found.extend(self.old_agents(views));
        found.extend(self.old_plugins(views));
        found
    }

    fn old_agents(&self, views: &Views) -> Vec<Found> {
        let mine = (self.ports.host.identity().name, self.hosts.program());
        let others = views.others.files.iter().filter(|f| self.is_present(f));
        let others = others.map(|f| (f.name.clone(), f.program.clone()));
        let all: Vec<_> = [mine]
            .into_iter()
            .chain(others)
            .filter_map(|(host, program)| Some((version(&program)?, host, program)))
            .collect();
        let Some((newest, _, newer)) = all.iter().max() else {
            return Vec::new();
        };
        let old = all.iter().filter(|(version, ..)| version < newest);
        old.map(|(_, host, program)| {
            let text = format!("its agent is {program}, another host has {newer}");
            let command = format!("upgrade the agent of host {host}");
            Found::new(Kind::OldAgent, host, text).run(command)
        })
        .collect()
    }

    /// Plugins older than the agent they talk to.
    fn old_plugins(&self, views: &Views) -> Vec<Found> {
        let agent = self.hosts.program();
        let Some(mine) = version(&agent) else {
            return Vec::new();
        };
        let guests = views.vms.iter().filter_map(|here| {
            let (connected, plugin) = self.hosts.guest(&here.vm.id);
            let old = connected && version(&plugin).is_some_and(|theirs| theirs < mine);
            old.then_some((&here.vm.name, plugin))
        });
        guests
            .map(|(vm, plugin)| {
                let text = format!("it runs {plugin}, this host's agent is {agent}");
                let command = format!("upgrade the plugin in VM {vm}");
                Found::new(Kind::OldPlugin, vm, text).run(command)
            })
            .collect()
    }

    /// A host's name as far as any file tells.
    pub(super) fn name_of(&self, views: &Views, host: HostId) -> String {
        let told = views.others.files.iter().find(|f| f.host == host);
        told.map_or_else(|| self.host_name(host), |f| f.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let of = |text| version(text);
        assert!(of("vdvsd 0.10.0") > of("vdvsd 0.9.9"));
        assert_eq!(of("vdvsd 0.6.0-dev+abc"), of("vdvs-plugin 0.6.0"));
        assert_eq!(of("something else"), None);
    }
}
