//! A writer of numbered lines in a container, each flushed before it is acknowledged. The writer itself is a script of
//! the independent check (`tests/writer-check`); here is what it was promised and whether that was kept.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;

use anyhow::{Context, Result, ensure};
use vdvs_testkit::lab::{Node, Profile, built};
use vdvs_testkit::process::Cmd;
use vdvs_testkit::wait::until;

use super::SOON;

/// The program the script comes from.
pub(super) const WRITER_CHECK: &str = "writer-check";
/// In the volume, as containers see it below the mount point.
const FILE: &str = "writes.log";

/// Puts the writer where containers of the node find it, below [`vdvs_testkit::lab::NOTES`].
///
/// # Errors
/// The program that holds it is not built, or the file cannot be written.
pub fn install(node: &Node) -> Result<()> {
    let script = Cmd::new(built(Profile::Debug, WRITER_CHECK)?)
        .arg("script")
        .run()?;
    let file = node.notes_dir().join("writer.sh");
    fs::write(&file, script).with_context(|| format!("write {}", file.display()))
}

/// Sequences that were acknowledged on this node.
///
/// # Errors
/// The notes cannot be read.
pub fn acknowledged(node: &Node, notes: &str) -> Result<Vec<u64>> {
    let text = note(node, notes)?;
    // What has no end of line yet is being written.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let parse = |line: &str| line.parse().with_context(|| format!("a note '{line}'"));
    whole.lines().map(parse).collect()
}

/// What a program on the node noted; empty if it has not.
///
/// # Errors
/// The file cannot be read.
pub fn note(node: &Node, name: &str) -> Result<String> {
    let file = node.notes_dir().join(name);
    match fs::read_to_string(&file) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

/// What the writer's file holds on the one volume mounted in the node that has it. The plugin takes a mount away for a
/// moment when it compares old counts with reality, so one look is not enough.
fn read(node: &Node) -> Result<Vec<u8>> {
    let what = format!("a volume with {FILE} is mounted in {}", node.name());
    until(SOON, &what, || {
        for mount in node.volume_mounts()? {
            let inside = mount.path.join("data").join(FILE);
            let path = node.path_inside(&inside.display().to_string())?;
            match fs::read(&path) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("read {}", path.display()));
                }
            }
        }
        Ok(None)
    })
}

/// Every acknowledged line is in the file of the node that has the volume mounted, as the line of the node it was
/// acknowledged to, and the independent check finds the order of the lines right. Says how many were acknowledged.
///
/// # Errors
/// It is not so.
pub fn must_be_kept(on: &Node, nodes: &[Node], notes: &str) -> Result<usize> {
    // First what was promised, then what is there: the writer goes on meanwhile.
    let mut promised = Vec::new();
    for node in nodes {
        for sequence in acknowledged(node, notes)? {
            promised.push((node.name().to_owned(), sequence));
        }
    }
    let bytes = read(on)?;
    let lost = missing(&promised, &String::from_utf8_lossy(&bytes));
    ensure!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    let seen = on.notes_dir().join(format!("{notes}.seen"));
    fs::write(&seen, bytes).with_context(|| format!("write {}", seen.display()))?;
    Cmd::new(built(Profile::Debug, WRITER_CHECK)?)
        .arg("verify")
        .arg(&seen)
        .run()?;
    Ok(promised.len())
}

/// Those of the promised lines `(node, sequence)` that are not among the lines `NODE TURN SEQUENCE TIME`.
fn missing(promised: &[(String, u64)], text: &str) -> Vec<(String, u64)> {
    let there: BTreeSet<(&str, u64)> = text.lines().filter_map(parse).collect();
    let lost = |one: &&(String, u64)| !there.contains(&(one.0.as_str(), one.1));
    promised.iter().filter(lost).cloned().collect()
}

fn parse(line: &str) -> Option<(&str, u64)> {
    let mut fields = line.split(' ');
    let (node, _turn, sequence, _time) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    Some((node, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_rewritten_by_another_node_is_a_lost_one() {
        let text = "a 1 1 10\nb 2 2 12\nb 2 3 13\n";
        let promised = [
            ("a".to_owned(), 1),
            ("a".to_owned(), 2),
            ("b".to_owned(), 3),
        ];
        assert_eq!(missing(&promised, text), [("a".to_owned(), 2)]);
    }
}
