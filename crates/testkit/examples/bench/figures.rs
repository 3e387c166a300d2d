//! Figures: how they are summed up and said.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

/// Where the figures go, one a line.
#[derive(Debug)]
pub(crate) struct Sheet(File);

impl Sheet {
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(file))
    }

    /// Writes one figure; none: there is no figure, and the note says why.
    pub(crate) fn write(&self, key: &str, value: Option<f64>, note: &str) -> Result<()> {
        let line = json!({"key": key, "value": value, "note": note});
        eprintln!("  {line}");
        writeln!(&self.0, "{line}").context("write a figure")
    }
}

/// How long it took.
pub(crate) fn timed<T>(act: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let begin = Instant::now();
    let made = act()?;
    Ok((begin.elapsed(), made))
}

/// The value below which `percent` of all lie.
pub(crate) fn percentile(values: &[f64], percent: usize) -> Result<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted
        .len()
        .checked_sub(1)
        .context("nothing was measured")?;
    let at = sorted.len() * percent / 100;
    sorted
        .get(at.min(last))
        .copied()
        .context("nothing was measured")
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> Result<f64> {
    percentile(values, 50)
}

/// Milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Microseconds.
pub(crate) fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
