//! `docs/original-defects.md` speaks of every known defect of the original once, and every test it names exists.
#![expect(clippy::unwrap_used, reason = "a test: a failure here is the report")]

mod naming;

use std::collections::BTreeMap;

use naming::{all_exist, is_test};

/// How many defects are known, by their letters.
const KNOWN: [(char, u32); 4] = [('S', 20), ('D', 21), ('C', 13), ('A', 26)];

/// The cells of the page's rows, by row.
fn rows() -> BTreeMap<String, Vec<String>> {
    let mut rows = BTreeMap::new();
    for row in naming::rows("docs/original-defects.md") {
        let (id, rest) = row.split_first().unwrap();
        let known = rows.insert(id.clone(), rest.to_vec());
        assert!(known.is_none(), "{id} stands there twice");
    }
    rows
}

#[test]
fn every_known_defect_of_the_original_is_spoken_of() {
    let rows = rows();
    let known = KNOWN
        .iter()
        .flat_map(|(letter, count)| (1..=*count).map(move |n| format!("{letter}-{n}")));
    let mut known: Vec<String> = known.collect();
    known.sort();
    assert_eq!(rows.keys().cloned().collect::<Vec<_>>(), known);
    for (id, cells) in &rows {
        assert_eq!(cells.len(), 3, "{id}: {cells:?}");
        assert!(cells.iter().all(|c| !c.is_empty()), "{id}: {cells:?}");
    }
}

#[test]
fn every_test_that_is_named_exists() {
    for (id, cells) in rows() {
        all_exist(&id, cells.last().unwrap());
    }
}

#[test]
fn what_is_no_test_is_not_taken_for_one() {
    let source = "#[test]\nfn one() {}\n\nfn helper() {}\n\n#[tokio::test(start_paused = true)]\nasync fn two() {\n}\n\
                  \n    proptest! {\n        #[test]\n        fn three(x in any::<u8>()) {\n";
    for (name, expected) in [
        ("one", true),
        ("two", true),
        ("three", true),
        ("helper", false),
        ("on", false),
    ] {
        assert_eq!(is_test(source, name), expected, "{name}");
    }
}
