//! Does the watcher see what it is there for? Disks are attached by hand, once as they should be, and in each of the
//! wrong ways; every wrong one must be found, by its name.
//!
//! A node is a process in a mount namespace of its own. Needs root, loop devices and ext4.

mod bench;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::Ended;
use bench::Bench;

/// Long enough for some lines, some looks, and what a look must see twice.
const WHILE: Duration = Duration::from_millis(1500);

/// A case: its name, what must be found, how it is brought about.
type Case = (
    &'static str,
    &'static [&'static str],
    fn(&mut Bench) -> Result<()>,
);

const CASES: [Case; 7] = [
    ("a disk that goes from node to node", &[], handed_over),
    (
        "one disk in two nodes",
        &["two-writers", "interleaved"],
        twice,
    ),
    ("a fence, and the disk in the next node", &[], fenced),
    (
        "a device that was without capacity while nobody else had the disk",
        &[],
        parked,
    ),
    (
        "a fenced device with its capacity back",
        &["superseded-write"],
        revived,
    ),
    (
        "a disk that changes while nobody has it",
        &["superseded-write"],
        touched,
    ),
    (
        "a disk that forgot what was flushed",
        &["lost-line"],
        forgotten,
    ),
];

/// Runs all cases at once, each with a disk of its own; 0: the watcher judged each as it should.
pub(crate) fn run() -> Ended {
    let judged: Vec<Result<String>> = thread::scope(|scope| {
        let running: Vec<_> = CASES
            .iter()
            .map(|(_, expected, story)| scope.spawn(|| case(expected, *story)))
            .collect();
        running
            .into_iter()
            .map(|case| case.join().unwrap_or_else(|_| bail!("it panicked")))
            .collect()
    });
    let mut wrong = 0;
    for ((name, expected, _), judged) in CASES.iter().zip(judged) {
        let verdict = match judged {
            Ok(findings) if expected.is_empty() => {
                format!("nothing found, as it should be; {findings}")
            }
            Ok(findings) => format!("found: {findings}"),
            Err(error) => {
                wrong += 1;
                format!("WRONG: {error:#}")
            }
        };
        println!("{name}: {verdict}");
    }
    println!("self-test: {} cases, {wrong} wrong", CASES.len());
    Ok(ExitCode::from(u8::from(wrong > 0)))
}

fn case(expected: &[&str], story: fn(&mut Bench) -> Result<()>) -> Result<String> {
    let mut bench = Bench::new()?;
    bench.watch()?;
    let told = story(&mut bench);
    let (code, text) = bench.stop_watching()?;
    told?;
    let kinds: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("FINDING ")?.split(' ').next())
        .collect();
    for kind in expected {
        ensure!(kinds.contains(kind), "{kind} was not found:\n{text}");
    }
    ensure!(
        code == i32::from(!expected.is_empty()),
        "it ended with {code}:\n{text}"
    );
    // A clean run must have seen something: a watcher that looks elsewhere finds nothing either.
    let summary = text.lines().last().unwrap_or_default();
    ensure!(!summary.contains(" lines=0"), "no line was read:\n{text}");
    let found: BTreeSet<&str> = kinds.into_iter().collect();
    Ok(if found.is_empty() {
        summary.to_owned()
    } else {
        found.into_iter().collect::<Vec<_>>().join(", ")
    })
}

fn handed_over(bench: &mut Bench) -> Result<()> {
    let loops = bench.attach()?;
    let a = bench.node("a", &loops)?;
    let writer = bench.writer("a", a)?;
    thread::sleep(WHILE);
    bench.stop(writer)?;
    bench.stop(a)?;
    bench.detach(&loops)?;
    thread::sleep(WHILE);
    let loops = bench.attach()?;
    let b = bench.node("b", &loops)?;
    let writer = bench.script_writer("b", b)?;
    thread::sleep(WHILE);
    bench.stop(writer)?;
    bench.stop(b)
}

fn twice(bench: &mut Bench) -> Result<()> {
    for name in ["a", "b"] {
        let loops = bench.attach()?;
        let node = bench.node(name, &loops)?;
        bench.writer(name, node)?;
    }
    thread::sleep(WHILE);
    Ok(())
}

fn fenced(bench: &mut Bench) -> Result<()> {
    let old = bench.attach()?;
    let a = bench.node("a", &old)?;
    bench.writer("a", a)?;
    thread::sleep(WHILE);
    bench.set_capacity(&old, false)?;
    let new = bench.attach()?;
    let b = bench.node("b", &new)?;
    bench.writer("b", b)?;
    thread::sleep(WHILE);
    Ok(())
}

fn revived(bench: &mut Bench) -> Result<()> {
    fenced(bench)?;
    let fenced = bench.first_device()?;
    bench.set_capacity(&fenced, true)?;
    bench.write_device(&fenced)?;
    thread::sleep(WHILE);
    Ok(())
}

fn parked(bench: &mut Bench) -> Result<()> {
    let device = bench.attach()?;
    let node = bench.node("a", &device)?;
    let writer = bench.writer("a", node)?;
    thread::sleep(WHILE);
    bench.stop(writer)?;
    bench.set_capacity(&device, false)?;
    thread::sleep(WHILE);
    bench.set_capacity(&device, true)
}

fn touched(bench: &mut Bench) -> Result<()> {
    let loops = bench.attach()?;
    let node = bench.node("a", &loops)?;
    let writer = bench.writer("a", node)?;
    thread::sleep(WHILE);
    bench.stop(writer)?;
    bench.stop(node)?;
    bench.detach(&loops)?;
    thread::sleep(WHILE);
    bench.write_file()?;
    thread::sleep(2 * WHILE);
    Ok(())
}

fn forgotten(bench: &mut Bench) -> Result<()> {
    let loops = bench.attach()?;
    let a = bench.node("a", &loops)?;
    let writer = bench.writer("a", a)?;
    thread::sleep(WHILE);
    bench.stop(writer)?;
    bench.truncate_writer_file(a)?;
    bench.stop(a)?;
    bench.detach(&loops)?;
    let loops = bench.attach()?;
    let b = bench.node("b", &loops)?;
    bench.writer("b", b)?;
    thread::sleep(WHILE);
    Ok(())
}
