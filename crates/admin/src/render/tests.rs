//! What every table has in common. How each looks is in the snapshots of the program itself (`tests/cli/screens.rs`).

use super::*;

#[test]
fn names_cannot_steer_a_terminal_or_break_a_row() {
    let hostile = "a\u{1b}[2J\r\u{8}\u{9b}31m\u{202e}b\u{2066}\nc";
    let shown = table(
        &["NAME"],
        &[],
        vec![vec![hostile.to_owned()], vec!["next".to_owned()]],
        None,
    );
    assert_eq!(shown.lines().count(), 3, "{shown}");
    assert!(!shown.contains(['\u{1b}', '\r', '\u{8}', '\u{9b}', '\u{202e}', '\u{2066}']));
    assert_eq!(printable("größe-Ж-雪\nnext"), "größe-Ж-雪\nnext");
}

#[test]
fn without_a_width_every_row_is_one_line() {
    let long = "x".repeat(500);
    let rows = vec![vec![long.clone(), "y".to_owned()]; 3];
    let shown = table(&["A", "B"], &[1], rows.clone(), None);
    assert_eq!(shown.lines().count(), 4);
    assert!(shown.lines().skip(1).all(|l| l.starts_with(&long)));
    let narrow = table(&["A", "B"], &[1], rows, Some(80));
    assert!(narrow.lines().all(|l| l.chars().count() <= 80));
}
