//! Reads the writers' files through the nodes' own mounts and judges the order of their lines.
//!
//! A file is opened for a moment twice a second and never held: an open file keeps a disk from being unmounted, and a
//! watcher must not change what it watches. Lines count only if their device still had its capacity after they were
//! read: what a fenced writer leaves in its page cache was never on the disk.
//!
//! Times are one clock for all nodes. A writer begins a line after the one before is flushed, so a line that was seen
//! proves that its predecessor is on the disk and must be there on every later mount.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::judge::{Finding, Look};
use crate::lines::{Disorder, Line, order, whole_lines};
use crate::nodes::{self, Mount, Node};
use crate::sysfs;

/// What is read of a file at a time; a writer writes some kilobytes in that time.
const CHUNK: u64 = 4 * 1024 * 1024;

/// A mount of a disk in one life of a node.
type ViewId = (Node, u64);

/// What was read through one mount.
#[derive(Debug, Default)]
struct View {
    /// Read so far, always a line's end.
    offset: u64,
    last: Option<Line>,
    /// Lines that must be in it: turn → sequence.
    owed: BTreeMap<u64, u64>,
    /// It has been compared with what is owed.
    settled: bool,
    /// Highest sequence by turn.
    held: BTreeMap<u64, u64>,
}

/// A writer's turn, over all views.
#[derive(Debug)]
struct Turn {
    node: String,
    first: u64,
    last: u64,
    /// Its lowest and its highest sequence.
    began: u64,
    sequence: u64,
}

/// A disk's writer file.
#[derive(Debug, Default)]
struct Disk {
    turns: BTreeMap<u64, Turn>,
    views: BTreeMap<ViewId, View>,
    /// Turns that were found to overlap; one word about it is enough.
    overlaps: BTreeSet<(u64, u64)>,
}

/// All writer files.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Below the mount.
    writer_file: PathBuf,
    disks: BTreeMap<PathBuf, Disk>,
    /// Already said.
    said: BTreeSet<String>,
    lines: usize,
}

impl Tail {
    pub(crate) fn new(writer_file: &Path) -> Self {
        Self {
            writer_file: writer_file.to_owned(),
            disks: BTreeMap::new(),
            said: BTreeSet::new(),
            lines: 0,
        }
    }

    /// Turns and lines seen.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let turns = self.disks.values().map(|disk| disk.turns.len()).sum();
        (turns, self.lines)
    }

    /// Reads what is new in every mount that a look showed.
    pub(crate) fn look(&mut self, look: &Look) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut present = BTreeSet::new();
        for seen in &look.nodes {
            let mut devices = BTreeSet::new();
            for mount in seen.mounts.iter().filter(|mount| mount.root == "/") {
                let device = look
                    .loops
                    .iter()
                    .find(|device| device.binding.number == mount.number);
                let Some(device) = device.filter(|device| device.size > 0) else {
                    continue;
                };
                if !devices.insert(mount.number) {
                    continue;
                }
                let id = (seen.node.clone(), mount.id);
                present.insert(id.clone());
                let bytes = self.read(&device.file, &id, mount);
                let now = sysfs::read(mount.number);
                if now.is_none_or(|now| now.binding != device.binding || now.size == 0) {
                    continue;
                }
                // Unmounted between the look and the reading: below the mount point there was never a file.
                let missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
                if bytes.as_ref().is_err_and(missing) && !nodes::is_mounted(&seen.node, mount) {
                    continue;
                }
                found.extend(self.take(&device.file, &id, bytes));
            }
        }
        for disk in self.disks.values_mut() {
            disk.views.retain(|id, _| present.contains(id));
        }
        found.retain(|(_, text)| self.said.insert(text.clone()));
        found
            .into_iter()
            .map(|(kind, evidence)| Finding {
                kind,
                at: look.at,
                evidence,
            })
            .collect()
    }

    fn read(&self, disk: &Path, id: &ViewId, mount: &Mount) -> io::Result<Chunk> {
        let inside = mount.path.strip_prefix("/").unwrap_or(&mount.path);
        let path = PathBuf::from(format!("/proc/{}/root", id.0.pid))
            .join(inside)
            .join(&self.writer_file);
        let offset = self
            .disks
            .get(disk)
            .and_then(|disk| disk.views.get(id))
            .map_or(0, |view| view.offset);
        let mut file = File::open(path)?;
        // A writer took off what a power cut tore.
        let from = if file.metadata()?.len() < offset {
            0
        } else {
            offset
        };
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(CHUNK).read_to_end(&mut bytes)?;
        Ok(Chunk { from, bytes })
    }

    fn take(
        &mut self,
        file: &Path,
        id: &ViewId,
        read: io::Result<Chunk>,
    ) -> Vec<(&'static str, String)> {
        let disk = self.disks.entry(file.to_owned()).or_default();
        let view = disk.views.entry(id.clone()).or_insert_with(|| View {
            owed: owed(&disk.turns),
            ..View::default()
        });
        let place = |what: &str| {
            format!(
                "{what} in {} of {} ({})",
                self.writer_file.display(),
                file.display(),
                id.0.name
            )
        };
        let read = match read {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let lost = !view.settled && !view.owed.is_empty();
                // Whatever comes now is a new file, which owes nothing.
                view.settled = true;
                view.offset = 0;
                view.last = None;
                disk.turns.clear();
                let text = || ("lost-line", place("the file that had lines is not there"));
                return lost.then(text).into_iter().collect();
            }
            // A mount on its way out; the next look knows more.
            Err(_) => return Vec::new(),
        };
        if read.from != view.offset {
            view.offset = 0;
            view.last = None;
        }
        let whole = read
            .bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        view.offset += u64::try_from(whole).unwrap_or_default();
        let complete = u64::try_from(read.bytes.len()).is_ok_and(|length| length < CHUNK);
        let fresh = whole_lines(&read.bytes);
        self.lines += fresh.len();
        let mut found = Vec::new();
        let chain: Vec<Option<Line>> = view
            .last
            .clone()
            .map(Some)
            .into_iter()
            .chain(fresh)
            .collect();
        for (what, text) in order(&chain) {
            let kind = match what {
                Disorder::Interleaved => "interleaved",
                Disorder::Hole => "hole",
            };
            found.push((kind, place(&text)));
        }
        for line in chain.into_iter().flatten() {
            let held = view.held.entry(line.turn).or_default();
            *held = line.sequence.max(*held);
            if let Some(text) = note(&mut disk.turns, &mut disk.overlaps, &line) {
                found.push(("interleaved", place(&text)));
            }
            view.last = Some(line);
        }
        if complete && !view.settled {
            view.settled = true;
            for (turn, flushed) in &view.owed {
                let held = view.held.get(turn).copied().unwrap_or_default();
                if held < *flushed {
                    let text = format!(
                        "sequence {flushed} of turn {turn} was flushed and is not there (up to {held} is)"
                    );
                    found.push(("lost-line", place(&text)));
                }
            }
        }
        found
    }
}

/// The highest sequence of each turn that is on the disk for sure: the last line seen may not have been flushed yet.
fn owed(turns: &BTreeMap<u64, Turn>) -> BTreeMap<u64, u64> {
    let followed = turns.iter().filter(|(_, turn)| turn.sequence > turn.began);
    followed
        .map(|(number, turn)| (*number, turn.sequence - 1))
        .collect()
}

/// Bytes and where they begin.
#[derive(Debug)]
struct Chunk {
    from: u64,
    bytes: Vec<u8>,
}

/// Enters a line; says whether it shows that two turns overlapped.
fn note(
    turns: &mut BTreeMap<u64, Turn>,
    overlaps: &mut BTreeSet<(u64, u64)>,
    line: &Line,
) -> Option<String> {
    let known = turns.entry(line.turn).or_insert_with(|| Turn {
        node: line.node.clone(),
        first: line.time,
        last: line.time,
        began: line.sequence,
        sequence: line.sequence,
    });
    if known.node != line.node {
        let text = format!(
            "turn {} belongs to {} and to {}",
            line.turn, known.node, line.node
        );
        return overlaps.insert((line.turn, line.turn)).then_some(text);
    }
    known.last = known.last.max(line.time);
    known.sequence = known.sequence.max(line.sequence);
    let own = turns.get_key_value(&line.turn)?;
    let after = turns.range(line.turn + 1..).next();
    let before = turns.range(..line.turn).next_back();
    let pairs = [Some(own).zip(after), before.zip(Some(own))];
    let (earlier, later) = pairs
        .into_iter()
        .flatten()
        .find(|(earlier, later)| later.1.first < earlier.1.last)?;
    let by = Duration::from_nanos(earlier.1.last.saturating_sub(later.1.first));
    let text = format!(
        "{} wrote in turn {} {:.3} s after {} had begun turn {}",
        earlier.1.node,
        earlier.0,
        by.as_secs_f64(),
        later.1.node,
        later.0
    );
    overlaps.insert((*earlier.0, *later.0)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(lines: &[&str]) -> Vec<Option<String>> {
        let (mut turns, mut overlaps) = (BTreeMap::new(), BTreeSet::new());
        lines
            .iter()
            .map(|line| note(&mut turns, &mut overlaps, &Line::parse(line).unwrap()))
            .collect()
    }

    #[test]
    fn turns_one_after_the_other_do_not_overlap_in_whatever_order_they_are_read() {
        let lines = [
            "a 10 1 11",
            "a 10 2 20",
            "b 30 3 31",
            "c 50 4 52",
            "b 30 3 31",
        ];
        assert!(notes(&lines).iter().all(Option::is_none));
        let reversed: Vec<&str> = lines.into_iter().rev().collect();
        assert!(notes(&reversed).iter().all(Option::is_none));
    }

    #[test]
    fn a_line_younger_than_a_later_turns_first_is_an_overlap_said_once() {
        let found = notes(&["a 10 1 11", "b 30 2 31", "a 10 2 40", "a 10 3 50"]);
        assert!(found[2].as_ref().unwrap().starts_with("a wrote in turn 10"));
        assert_eq!(found[3], None);
        let found = notes(&["a 10 2 40", "b 30 2 31"]);
        assert!(found[1].is_some(), "also when the later turn is read later");
    }

    #[test]
    fn one_turn_of_two_nodes_is_an_overlap() {
        assert!(notes(&["a 10 1 11", "b 10 2 12"])[1].is_some());
    }

    #[test]
    fn a_line_is_owed_only_when_the_next_was_begun() {
        let (mut turns, mut overlaps) = (BTreeMap::new(), BTreeSet::new());
        for line in ["a 10 1 11", "a 10 2 20", "b 30 3 31"] {
            note(&mut turns, &mut overlaps, &Line::parse(line).unwrap());
        }
        assert_eq!(owed(&turns), [(10, 1)].into());
    }
}
