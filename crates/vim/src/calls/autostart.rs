//! `config.autoStart` of a `HostSystem`: which VMs the host starts by itself, and when.
//!
//! `startDelay` is how long the host waits *after* a VM before it starts the next one. So the first of the order starts at
//! once, whatever its delay, and those without a place in the order come after all that have one.

use std::time::Duration;

use tokio::time::Instant;

use crate::xml::Element;
use crate::{Client, Error, MoRef};

const PATH: &str = "config.autoStart";

/// What a host is told of one VM.
struct Entry {
    vm: MoRef,
    /// `None`: after those that have one.
    order: Option<u32>,
    delay: Duration,
}

/// The VMs that are started, with how long after the host began to start VMs each comes at the earliest.
fn started(config: &Element) -> Vec<(MoRef, Duration)> {
    let defaults = config.child("defaults");
    if defaults.and_then(|d| d.flag_of("enabled")) != Some(true) {
        return Vec::new();
    }
    let usual = defaults
        .and_then(|d| d.number_of("startDelay"))
        .unwrap_or(0);
    let is_started = |info: &&Element| {
        let action = info.text_of("startAction").unwrap_or_default();
        action.eq_ignore_ascii_case("powerOn")
    };
    let entry = |info: &Element| {
        let order: Option<i64> = info.number_of("startOrder");
        let delay = info.number_of("startDelay").filter(|d: &i64| *d >= 0);
        Some(Entry {
            vm: info.moref_of("key")?,
            order: order.filter(|o| *o > 0).and_then(|o| u32::try_from(o).ok()),
            delay: Duration::from_secs(u64::try_from(delay.unwrap_or(usual)).unwrap_or(0)),
        })
    };
    let infos = config.all("powerInfo").filter(is_started);
    let mut entries: Vec<_> = infos.filter_map(entry).collect();
    entries.sort_by_key(|e| e.order.unwrap_or(u32::MAX));
    let mut after = Duration::ZERO;
    let ordered = entries.into_iter().map(|entry| {
        let at = after;
        // Those without a place come in any order, so none of them waits for another for certain.
        if entry.order.is_some() {
            after = after.saturating_add(entry.delay);
        }
        (entry.vm, at)
    });
    ordered.collect()
}

impl Client {
    /// The VMs that a host starts by itself, with how long after it began to start VMs each comes at the earliest.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn autostart(
        &self,
        host: &MoRef,
        deadline: Instant,
    ) -> Result<Vec<(MoRef, Duration)>, Error> {
        let found = self.properties(host, &[PATH], deadline).await?;
        Ok(found.get(PATH).map(started).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{Limits, parse};

    fn config(enabled: bool) -> Element {
        let info = |vm: &str, order: i32, delay: i32, action: &str| {
            format!(
                "<powerInfo><key type=\"VirtualMachine\">{vm}</key><startOrder>{order}</startOrder>\
                 <startDelay>{delay}</startDelay><startAction>{action}</startAction></powerInfo>"
            )
        };
        let infos = [
            info("9", -1, 30, "powerOn"),
            info("2", 2, -1, "PowerOn"),
            info("1", 1, 45, "powerOn"),
            info("3", 3, 10, "none"),
            info("4", 4, 10, "powerOn"),
        ];
        let xml = format!(
            "<val><defaults><enabled>{enabled}</enabled><startDelay>120</startDelay></defaults>{}</val>",
            infos.concat()
        );
        parse(xml.as_bytes(), &Limits::ANSWER).unwrap()
    }

    #[test]
    fn a_vm_comes_after_the_delays_of_those_before_it() {
        let found = started(&config(true));
        let found: Vec<_> = found
            .iter()
            .map(|(vm, at)| (vm.value(), at.as_secs()))
            .collect();
        assert_eq!(found, [("1", 0), ("2", 45), ("4", 165), ("9", 175)]);
    }

    #[test]
    fn a_host_that_starts_none_starts_none() {
        assert_eq!(started(&config(false)), []);
    }
}
