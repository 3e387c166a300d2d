//! The table: which figures there are, what each may be, and the verdict. Pure.

use std::collections::HashMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// The note of what does not exist yet: there is no figure, and none is missing.
pub(crate) const NOT_BUILT: &str = "not built: cargo xtask vib";
/// A figure beyond this many budgets is no noise.
const BEYOND: f64 = 3.0;

/// One thing that is measured.
struct Known {
    key: &'static str,
    what: &'static str,
    unit: &'static str,
    /// None: there to compare with, or to understand another figure.
    budget: Option<f64>,
}

const fn budget(key: &'static str, what: &'static str, unit: &'static str, at_most: f64) -> Known {
    Known {
        key,
        what,
        unit,
        budget: Some(at_most),
    }
}

const fn beside(key: &'static str, what: &'static str, unit: &'static str) -> Known {
    Known {
        key,
        what,
        unit,
        budget: None,
    }
}

const KNOWN: &[Known] = &[
    budget("get.p50", "GetVolume, 1 in flight, p50", "µs", 150.0),
    budget("get.p99", "GetVolume, 1 in flight, p99", "µs", 1000.0),
    beside("get.hello", "  beside: Hello", "µs"),
    budget(
        "create.p50",
        "create, thin 1 GiB, through the plugin, p50",
        "ms",
        15.0,
    ),
    budget("create.each64", "create, 64 at once, slowest", "ms", 250.0),
    budget(
        "create.ratio64",
        "create, 64 at once over 64 in sequence",
        "×",
        0.7,
    ),
    beside(
        "create.fsync",
        "  beside: one file and its folder synced",
        "ms",
    ),
    beside(
        "create.docker",
        "  beside: docker volume create, vsphere",
        "ms",
    ),
    beside(
        "create.local",
        "  beside: docker volume create, local",
        "ms",
    ),
    budget(
        "mount.ratio",
        "Mount over losetup + mount of the disk",
        "×",
        2.0,
    ),
    budget(
        "mount.extra",
        "Mount less losetup + mount of the disk",
        "ms",
        15.0,
    ),
    beside("mount.unmount", "  beside: Unmount", "ms"),
    beside(
        "mount.first",
        "  beside: the first Mount, which formats",
        "ms",
    ),
    budget(
        "takeover",
        "takeover from a dead VM, Mount to mounted",
        "ms",
        1000.0,
    ),
    budget(
        "clone",
        "clone of a sparse disk over cp --sparse and sync",
        "×",
        1.2,
    ),
    budget("list.cold", "ListVolumes, many volumes, cold", "ms", 1000.0),
    budget("list.agent", "ListVolumes, many volumes, agent", "ms", 25.0),
    budget(
        "list.plugin",
        "ListVolumes, many volumes, plugin",
        "ms",
        60.0,
    ),
    budget(
        "list.visible",
        "another host's volume, until it is listed",
        "ms",
        5000.0,
    ),
    budget("cli.help", "vdvs --help", "ms", 10.0),
    beside("cli.nothing", "  beside: a program that does nothing", "ms"),
    budget("cli.list", "vdvs volume ls, many volumes", "ms", 300.0),
    beside("cli.json", "  beside: the same as JSON", "ms"),
    beside("list.cold.tenth", "  beside: cold, a tenth of them", "ms"),
    beside("list.agent.tenth", "  beside: agent, a tenth of them", "ms"),
    beside(
        "list.plugin.tenth",
        "  beside: plugin, a tenth of them",
        "ms",
    ),
    budget(
        "hostile.ratio",
        "GetVolume while another VM attacks, over without",
        "×",
        2.0,
    ),
    budget("memory.idle", "agent's memory, idle", "MiB", 12.0),
    budget(
        "memory.full",
        "agent's memory, many volumes and guests",
        "MiB",
        40.0,
    ),
    beside("memory.peak", "  beside: its peak", "MiB"),
    budget(
        "esxi.ratio",
        "create to delete at a slow hostd, vdvsd over pyvmomi",
        "×",
        1.15,
    ),
    beside("esxi.instant", "  beside: at one that takes no time", "×"),
    beside("esxi.vdvsd", "  beside: vdvsd, one round", "ms"),
    beside("esxi.pyvmomi", "  beside: pyvmomi, one round", "ms"),
    beside(
        "esxi.fsync",
        "  beside: one file and its folder synced",
        "ms",
    ),
    beside("esxi.alone", "  beside: rounds of 1 VM a second", "1/s"),
    beside("esxi.many", "  beside: rounds of 64 VMs a second", "1/s"),
    budget(
        "esxi.slow64",
        "64 VMs at once at a slow hostd over one by one",
        "×",
        0.1,
    ),
    budget("size", "vdvsd, stripped", "MB", 8.0),
    budget("cli.size", "vdvs, stripped", "MB", 6.0),
    budget("vib", "VIB", "MB", 7.0),
];

/// What was measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Figure {
    pub(crate) key: String,
    /// None: there was nothing to measure; the note says why.
    pub(crate) value: Option<f64>,
    pub(crate) note: String,
}

impl Figure {
    /// Figures, one a line.
    pub(crate) fn parse(text: &str) -> Result<Vec<Self>> {
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("figure: {line}")))
            .collect()
    }
}

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    key: &'static str,
    what: &'static str,
    unit: &'static str,
    budget: Option<f64>,
    figure: Option<f64>,
    note: String,
}

impl Row {
    fn verdict(&self) -> &'static str {
        match (self.budget, self.figure) {
            (None, _) => "",
            (Some(_), None) if self.note == NOT_BUILT => "-",
            (Some(_), None) => "none",
            (Some(budget), Some(figure)) if figure <= budget => "met",
            (Some(budget), Some(figure)) if figure <= BEYOND * budget => "missed",
            (Some(_), Some(_)) => "beyond",
        }
    }
}

/// The rows of what was measured, in the table's order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn of(figures: &[Figure]) -> Self {
        let by_key: HashMap<_, _> = figures.iter().map(|f| (f.key.as_str(), f)).collect();
        let row = |known: &Known| {
            let figure = by_key.get(known.key)?;
            Some(Row {
                key: known.key,
                what: known.what,
                unit: known.unit,
                budget: known.budget,
                figure: figure.value,
                note: figure.note.clone(),
            })
        };
        Self(KNOWN.iter().filter_map(row).collect())
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{:<46}{:>10}{:>12}      {:<8}\n",
            "what", "budget", "figure", ""
        );
        for row in &self.0 {
            let number = |n: Option<f64>| n.map_or_else(|| "-".to_owned(), short);
            // Writing to a string cannot fail.
            let written = writeln!(
                text,
                "{:<46}{:>10}{:>12} {:<4} {:<8}{}",
                row.what,
                row.budget.map(short).unwrap_or_default(),
                number(row.figure),
                row.unit,
                row.verdict(),
                row.note
            );
            debug_assert!(written.is_ok());
        }
        text
    }

    /// What no noise explains, for people.
    pub(crate) fn beyond(&self) -> Vec<String> {
        let rows = self.0.iter();
        rows.filter(|row| matches!(row.verdict(), "beyond" | "none"))
            .map(|row| row.what.to_owned())
            .collect()
    }
}

/// Three digits are all that such a figure is worth.
fn short(number: f64) -> String {
    match number.abs() {
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(key: &str, value: Option<f64>) -> Table {
        let figure = Figure {
            key: key.to_owned(),
            value,
            note: String::new(),
        };
        Table::of(&[figure])
    }

    #[test]
    fn only_what_is_three_times_too_much_or_absent_fails_the_check() {
        for (value, fails) in [
            (Some(15.0), false),
            (Some(45.0), false),
            (Some(45.1), true),
            (None, true),
        ] {
            let beyond = table("create.p50", value).beyond();
            assert_eq!(!beyond.is_empty(), fails, "{value:?}");
        }
    }

    #[test]
    fn figures_without_a_budget_are_shown_and_never_judged() {
        let table = table("create.local", Some(1e9));
        assert!(table.text().contains("local"));
        assert!(table.beyond().is_empty());
    }

    #[test]
    fn what_is_not_built_yet_is_neither_met_nor_missed() {
        let figure = Figure {
            key: "vib".to_owned(),
            value: None,
            note: NOT_BUILT.to_owned(),
        };
        let table = Table::of(&[figure]);
        assert!(table.text().contains(NOT_BUILT) && !table.text().contains("met"));
        assert!(table.beyond().is_empty());
    }

    #[test]
    fn what_was_not_measured_has_no_row() {
        let text = table("takeover", Some(80.0)).text();
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn the_driver_s_lines_are_read() {
        let line = r#"{"key":"get.p50","value":120.5,"note":"5000 calls"}"#;
        let figures = Figure::parse(line).unwrap();
        assert_eq!(figures.first().unwrap().value, Some(120.5));
        assert!(Figure::parse("nonsense").is_err());
    }
}
