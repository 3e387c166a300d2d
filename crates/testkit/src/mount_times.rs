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
    Ok(log(node)?.lines().filter_map(took).collect())
}

/// As [`served`], for one volume, however it was called.
///
/// # Errors
/// As [`served`].
pub fn served_of(node: &Node, volume: &str) -> Result<Vec<Duration>> {
    let text = log(node)?;
    let lines = text.lines().filter(|line| is_about(line, volume));
    Ok(lines.filter_map(took).collect())
}

/// How many Mounts of a volume the plugin of `node` has refused since the node's power came on.
///
/// # Errors
/// As [`served`].
pub fn refused_of(node: &Node, volume: &str) -> Result<usize> {
    let text = log(node)?;
    let failed = |line: &&str| line.contains(" mount failed ") && is_about(line, volume);
    Ok(text.lines().filter(failed).count())
}

fn log(node: &Node) -> Result<String> {
    let log = node.log(Service::Plugin);
    fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))
}

fn is_about(line: &str, volume: &str) -> bool {
    let field = |field: &str| field.strip_prefix("volume=").map(str::to_owned);
    let named = line.split(' ').find_map(field);
    named.is_some_and(|name| name.split('@').next() == Some(volume))
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
        assert!(is_about(line, "v") && !is_about(line, "w"));
        assert!(is_about("x WARN mount failed volume=v@ds why=busy", "v"));
    }
}
