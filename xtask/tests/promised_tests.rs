//! `docs/failure-modes.md` and `docs/threat-model.md`: each row says what the user sees, what the system does, and which
//! test shows it; every test that is named exists.
#![expect(clippy::unwrap_used, reason = "a test: a failure here is the report")]

mod naming;

use naming::{all_exist, rows};

/// The faults that the page has to speak of: words of its first column.
const FAULTS: [&str; 24] = [
    "power",
    "agent",
    "plugin",
    "dockerd",
    "partition",
    "isolated",
    "datastore",
    "slow",
    "unknown outcome",
    "reply",
    "duplicate",
    "full",
    "torn",
    "clock",
    "UUID",
    "snapshot",
    "suspend",
    "vMotion",
    "hang",
    "deadlock",
    "EIO",
    "record",
    "newer",
    "week",
];

/// The threats that the page has to speak of.
const THREATS: [&str; 14] = [
    "flood",
    "slow",
    "giant",
    "path",
    "replay",
    "epoch",
    "connections",
    "identity",
    "another vmgroup",
    "silent",
    "log",
    "administrator",
    "hostd",
    "first use",
];

fn complete(page: &str, columns: usize, words: &[&str]) {
    let rows = rows(page);
    assert!(
        rows.len() >= words.len(),
        "{page} has only {} rows",
        rows.len()
    );
    for row in &rows {
        let text = row.first().unwrap();
        assert_eq!(row.len(), columns, "{page}: {text}");
        assert!(row.iter().all(|c| !c.is_empty()), "{page}: {text}");
        all_exist(text, row.last().unwrap());
    }
    for word in words {
        let said = |r: &Vec<String>| {
            r.first()
                .unwrap()
                .to_lowercase()
                .contains(&word.to_lowercase())
        };
        assert!(rows.iter().any(said), "{page} says nothing of: {word}");
    }
}

#[test]
fn every_fault_has_its_row_and_every_row_its_tests() {
    complete("docs/failure-modes.md", 4, &FAULTS);
}

#[test]
fn every_threat_has_its_row_and_every_row_its_tests() {
    complete("docs/threat-model.md", 3, &THREATS);
}
