//! What fuzzers check of the journal's files; part of [`crate::fuzzing`].
//!
//! A fuzzer does not guess checksums. So each file is tried as it comes, and again with the right ones.

use super::*;

/// Both files: nothing unsound is taken, the sound part of a log ends where it says, and what was read is written back
/// unchanged.
pub(crate) fn journal(bytes: &[u8]) {
    held(bytes);
    held(&framed(bytes));
    known(bytes);
    let mut log = format!("{KNOWN_MAGIC}\n").into_bytes();
    for json in bytes.split(|b| *b == b'\n') {
        checked(&mut log, json);
    }
    known(&log);
}

fn held(bytes: &[u8]) {
    if let Ok(held) = parse_held(bytes) {
        let written = held_bytes(&held).expect("what was read can be written");
        assert_eq!(parse_held(&written), Ok(held));
    }
}

fn known(bytes: &[u8]) {
    let log = parse_known(bytes);
    let good = usize::try_from(log.good).expect("no log is longer than memory");
    let (sound, rest) = bytes.split_at(good);
    assert!(sound.is_empty() || sound.ends_with(b"\n"));
    let again = parse_known(sound);
    assert!(again.known == log.known && again.good == log.good);
    assert!(again.damage.is_none() || sound.is_empty());
    // No damage: what is left over is a line that was not finished.
    assert!(log.damage.is_some() || !rest.contains(&b'\n'));
    let rewritten = known_bytes(&log.known).expect("what was read can be written");
    assert!(log.known.iter().all(|entry| entry.same_on_disk(entry)));
    let read = parse_known(&rewritten);
    assert!(read.damage.is_none() && read.known == log.known);
}
