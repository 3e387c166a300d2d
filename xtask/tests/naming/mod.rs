//! Tests that documents name as `file.rs::test`.

use std::fs;
use std::path::Path;

/// The project's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The rows of a page's tables, cell by cell, without headings.
pub(crate) fn rows(page: &str) -> Vec<Vec<String>> {
    let page = fs::read_to_string(root().join(page)).unwrap();
    let lines: Vec<&str> = page.lines().collect();
    let is_row = |l: &str| l.starts_with("| ");
    let mut rows = Vec::new();
    for (at, line) in lines.iter().enumerate().filter(|(_, l)| is_row(l)) {
        let heading = lines.get(at + 1).is_some_and(|next| next.starts_with("|-"));
        if heading {
            continue;
        }
        let cells = line.trim_matches('|').split(" | ");
        rows.push(cells.map(|c| c.trim().to_owned()).collect());
    }
    rows
}

/// The tests a cell names: file and name.
pub(crate) fn tests(cell: &str) -> Vec<(&str, &str)> {
    cell.split('`')
        .filter_map(|part| part.split_once(".rs::"))
        .collect()
}

/// Whether the source holds a test of this name: above the function stand only attributes and comments, one of them a
/// test's.
pub(crate) fn is_test(source: &str, name: &str) -> bool {
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

/// Panics unless the cell names tests, and each exists. `row` is said in messages.
pub(crate) fn all_exist(row: &str, cell: &str) {
    let named = tests(cell);
    assert!(!named.is_empty(), "{row} names no test");
    for (file, name) in named {
        let path = root().join(format!("{file}.rs"));
        let source = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{row}: {file}.rs: {e}"));
        assert!(
            is_test(&source, name),
            "{row}: {file}.rs has no test {name}"
        );
    }
}
