//! Our share of a failover, as the plugin itself measured it: from a Mount request to its answer.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lab::{Node, Service};

/// Times of the Mounts the plugin of `node` has served since the node's power came on, oldest first.
///
/// # Errors
/// The plugin's log cannot be read.
pub fn served(node: &Node) -> Result<Vec<Duration>> {
    let log = node.log(Service::Plugin);
    let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
    Ok(text.lines().filter_map(took).collect())
}

/// The time in a line that tells of a served Mount.
fn took(line: &str) -> Option<Duration> {
    let (_, fields) = line.split_once(" mounted ")?;
    let millis = fields
        .split(' ')
        .find_map(|field| field.strip_prefix("took_ms="))?;
    millis.parse().ok().map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_served_mounts_count() {
        let line = "2026-01-01T00:00:00Z  INFO vdvs_plugin: mounted volume=v took_ms=412 id=x";
        assert_eq!(took(line), Some(Duration::from_millis(412)));
        assert_eq!(took("INFO mount requested took_ms=1"), None);
        assert_eq!(took("INFO mounted volume=v"), None);
    }
}
