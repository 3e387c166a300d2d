//! Looks every 50 ms until it is told to stop.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::judge::{Finding, Judge, Look};
use crate::nodes::{self, Node, Source};
use crate::stop::Stop;
use crate::tail::Tail;
use crate::{Ended, clock, sysfs};

/// Enough to understand what went wrong; a disk with two writers has thousands.
const SHOWN: usize = 100;

/// Arguments of `writer-check watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A lab's folder: its VMs are the nodes, its datastores the place of the disks.
    #[arg(long)]
    lab: Option<PathBuf>,
    /// File of lines NAME PID START_TIME, read anew at each look.
    #[arg(long, required_unless_present = "lab", conflicts_with = "lab")]
    nodes: Option<PathBuf>,
    /// Only disks below this folder.
    #[arg(long)]
    under: Option<PathBuf>,
    /// Ends with this process.
    #[arg(long)]
    parent: Option<u32>,
    /// The writers' file on a disk.
    #[arg(long, default_value = "data/writes.log")]
    writer_file: PathBuf,
    /// Time from look to look.
    #[arg(long, default_value_t = 50)]
    interval_ms: u64,
    /// Time from reading the writers' files to reading them again.
    #[arg(long, default_value_t = 500)]
    tail_ms: u64,
}

/// Figures for the summary.
#[derive(Debug, Default)]
struct Seen {
    samples: u64,
    longest_gap: Duration,
    nodes: BTreeSet<Node>,
    files: BTreeSet<PathBuf>,
    findings: usize,
}

/// Watches; 0: nothing found.
pub(crate) fn run(arguments: &Arguments) -> Ended {
    let stop = Stop::on_signals()?;
    let source = match (&arguments.lab, &arguments.nodes) {
        (Some(lab), _) => Source::Lab(lab.clone()),
        (None, Some(nodes)) => Source::File(nodes.clone()),
        (None, None) => anyhow::bail!("neither --lab nor --nodes"),
    };
    let under = arguments
        .under
        .clone()
        .or_else(|| Some(arguments.lab.as_ref()?.join("datastores")));
    // The kernel tells files by their real names.
    let real = |under: PathBuf| {
        fs::canonicalize(&under).with_context(|| format!("find {}", under.display()))
    };
    let under = under.map(real).transpose()?;
    let parent = arguments.parent.map(|pid| (pid, nodes::start_time(pid)));
    let begin = clock::uptime()?;
    let (mut judge, mut tail) = (Judge::default(), Tail::new(&arguments.writer_file));
    let mut seen = Seen::default();
    let mut read_at: Option<Duration> = None;
    let mut before: Option<Duration> = None;
    loop {
        let at = clock::uptime()?.saturating_sub(begin);
        let look = look(at, &source, under.as_deref(), &judge)?;
        seen.count(&look, before);
        before = Some(at);
        seen.say(&judge.look(&look))?;
        if read_at
            .is_none_or(|last| at.saturating_sub(last) >= Duration::from_millis(arguments.tail_ms))
        {
            read_at = Some(at);
            seen.say(&tail.look(&look))?;
        }
        if seen.samples == 1 {
            println!(
                "watching {} nodes, {} devices",
                look.nodes.len(),
                look.loops.len()
            );
            io::stdout().flush()?;
        }
        let orphaned = parent.is_some_and(|(pid, start)| nodes::start_time(pid) != start);
        if stop.asked() || orphaned {
            break;
        }
        if !judge.in_doubt() {
            let took = clock::uptime()?.saturating_sub(begin).saturating_sub(at);
            thread::sleep(Duration::from_millis(arguments.interval_ms).saturating_sub(took));
        }
    }
    seen.summary(&judge, &tail);
    Ok(ExitCode::from(u8::from(seen.findings > 0)))
}

fn look(at: Duration, source: &Source, under: Option<&Path>, judge: &Judge) -> Result<Look> {
    let loops = sysfs::loops(under).context("list /sys/block")?;
    let numbers: Vec<u32> = loops.iter().map(|device| device.binding.number).collect();
    let nodes = source.list()?;
    let nodes = nodes
        .iter()
        .filter_map(|node| nodes::look(node, &numbers))
        .collect();
    let changes = sysfs::changes(judge.files());
    Ok(Look {
        at,
        loops,
        nodes,
        changes,
    })
}

impl Seen {
    fn count(&mut self, look: &Look, before: Option<Duration>) {
        self.samples += 1;
        let gap = before.map_or(Duration::ZERO, |before| look.at.saturating_sub(before));
        self.longest_gap = self.longest_gap.max(gap);
        self.nodes
            .extend(look.nodes.iter().map(|seen| seen.node.clone()));
        self.files
            .extend(look.loops.iter().map(|device| device.file.clone()));
    }

    fn say(&mut self, findings: &[Finding]) -> Result<()> {
        for finding in findings {
            self.findings += 1;
            if self.findings <= SHOWN {
                let Finding { kind, at, evidence } = finding;
                println!("FINDING {kind} at {:.3} s: {evidence}", at.as_secs_f64());
            }
        }
        io::stdout().flush().context("tell what was found")
    }

    fn summary(&self, judge: &Judge, tail: &Tail) {
        let counts = judge.counts();
        let (turns, lines) = tail.counts();
        println!(
            "summary: samples={} longest_gap_ms={} extents={} loops={} nodes={} fenced={} turns={turns} lines={lines} findings={}",
            self.samples,
            self.longest_gap.as_millis(),
            self.files.len(),
            counts.loops,
            self.nodes.len(),
            counts.fenced,
            self.findings
        );
    }
}
