//! Judges a writer's file after the fact: order, and that every acknowledged line is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::Ended;
use crate::lines::{order, whole_lines};

/// Prints what is wrong, then a summary.
pub(crate) fn run(file: &Path, acknowledged: Option<&Path>) -> Ended {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let acknowledged = acknowledged.map(fs::read_to_string).transpose()?;
    let findings = judge(&bytes, acknowledged.as_deref().unwrap_or_default())?;
    for finding in &findings {
        println!("FINDING {finding}");
    }
    println!(
        "summary: lines={} findings={}",
        whole_lines(&bytes).len(),
        findings.len()
    );
    Ok(ExitCode::from(u8::from(!findings.is_empty())))
}

fn judge(bytes: &[u8], acknowledged: &str) -> Result<Vec<String>> {
    let lines = whole_lines(bytes);
    let mut findings: Vec<String> = order(&lines)
        .into_iter()
        .map(|(what, text)| format!("{what:?}: {text}"))
        .collect();
    let there: BTreeSet<u64> = lines.iter().flatten().map(|line| line.sequence).collect();
    for line in acknowledged.lines() {
        let sequence: u64 = line
            .trim()
            .parse()
            .with_context(|| format!("'{line}' is no sequence"))?;
        if !there.contains(&sequence) {
            findings.push(format!("Lost: {sequence} was acknowledged"));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledged_line_must_be_there() {
        let file = b"a 1 1 10\na 1 2 11\n";
        assert!(judge(file, "1\n2\n").unwrap().is_empty());
        assert_eq!(
            judge(file, "1\n2\n3\n").unwrap(),
            ["Lost: 3 was acknowledged"]
        );
        assert!(judge(file, "x\n").is_err());
    }
}
