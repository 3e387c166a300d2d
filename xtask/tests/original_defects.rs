//! `docs/original-defects.md` speaks of every known defect of the original once, and every test it names exists.
#![expect(clippy::unwrap_used, reason = "a test: a failure here is the report")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How many defects are known, by their letters.
const KNOWN: [(char, u32); 4] = [('S', 20), ('D', 21), ('C', 13), ('A', 26)];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The cells of the page's rows, by row.
fn rows() -> BTreeMap<String, Vec<String>> {
    let page = fs::read_to_string(root().join("docs/original-defects.md")).unwrap();
    let mut rows = BTreeMap::new();
    for line in page.lines().filter(|l| l.starts_with("| ")) {
        let cells: Vec<String> = line
            .trim_matches('|')
            .split(" | ")
            .map(|c| c.trim().to_owned())
            .collect();
        let Some((id, rest)) = cells.split_first().filter(|(id, _)| *id != "row") else {
            continue;
        };
        assert!(
            rows.insert(id.clone(), rest.to_vec()).is_none(),
            "{id} stands there twice"
        );
    }
    rows
}

/// The tests a row names: file and name.
fn tests(cell: &str) -> Vec<(&str, &str)> {
    cell.split('`')
        .filter_map(|part| part.split_once(".rs::"))
        .collect()
}

/// Whether the source holds a test of this name: above the function stand only attributes and comments, one of them a
/// test's.
fn is_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    source.match_indices(&head).any(|(at, _)| {
        let above = source.get(..at).unwrap_or_default();
        let mut lines = above.lines().rev().map(str::trim);
        // The rest of the function's own line.
        if !above.ends_with('\n') {
            lines.next();
        }
        let belongs = |l: &&str| !l.is_empty() && !l.ends_with(['{', '}']);
        let mut attributes = lines.take_while(belongs);
        attributes.any(|l| l == "#[test]" || l.starts_with("#[tokio::test"))
    })
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
        let named = tests(cells.last().unwrap());
        assert!(!named.is_empty(), "{id} names no test");
        for (file, name) in named {
            let path = root().join(format!("{file}.rs"));
            let source =
                fs::read_to_string(&path).unwrap_or_else(|e| panic!("{id}: {file}.rs: {e}"));
            assert!(is_test(&source, name), "{id}: {file}.rs has no test {name}");
        }
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
