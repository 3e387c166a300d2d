//! The original's table: scripts cut its columns by position and by the dash line, so its layout is kept to the blank.
//!
//! Columns are padded to their widest cell and two blanks, the last one too; below the header stands a line of dashes.
//! Where a table is wider than the terminal, its widest columns are cut equally until they meet the next widest, and
//! so on; a cut cell ends in `..`. Widths are counted in characters. One row is one line, whatever a cell holds.

use crate::render::one_line;

/// Blanks between columns.
const GAP: usize = 2;
/// What a cut cell ends in.
const CUT: &str = "..";

/// The table for a terminal of this width, each line with its end.
pub(crate) fn render(header: &[&str], rows: &[Vec<String>], terminal: usize) -> String {
    let header: Vec<String> = header.iter().map(|&h| h.to_owned()).collect();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
    let gaps = GAP * header.len().saturating_sub(1);
    let widths = shrink(&widths(&header, &rows), terminal.saturating_sub(gaps));
    let dashes: Vec<String> = widths.iter().map(|&w| "-".repeat(w.max(1))).collect();
    let mut out = line(&header, &widths) + &line(&dashes, &widths);
    for row in &rows {
        out += &line(row, &widths);
    }
    out
}

fn widths(header: &[String], rows: &[Vec<String>]) -> Vec<usize> {
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let mut out = String::new();
    for (cell, &width) in cells.iter().zip(widths) {
        let cell = cut(cell, width);
        out += &format!("{cell:<0$}", width + GAP);
    }
    out.push('\n');
    out
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    match width.checked_sub(CUT.len()) {
        Some(kept) => cell.chars().take(kept).chain(CUT.chars()).collect(),
        // Narrower than the mark itself.
        None => CUT.chars().take(width).collect(),
    }
}

/// The widths that fit: the widest columns give first, and equally.
pub(crate) fn shrink(widths: &[usize], available: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..widths.len()).collect();
    let width_of = |i: &usize| widths.get(*i).copied().unwrap_or_default();
    order.sort_by_key(|i| usize::MAX - width_of(i));
    let mut sorted: Vec<usize> = order.iter().map(width_of).collect();
    loop {
        let excess = sorted.iter().sum::<usize>().saturating_sub(available);
        let Some(&largest) = sorted.first().filter(|_| excess > 0) else {
            break;
        };
        let equals = sorted.iter().filter(|w| **w == largest).count();
        let next = sorted.get(equals).copied().unwrap_or_default();
        let (each, odd) = if (largest - next) * equals > excess {
            (excess / equals, excess % equals)
        } else {
            (largest - next, 0)
        };
        for (i, width) in sorted.iter_mut().take(equals).enumerate() {
            *width -= each + usize::from(i < odd);
        }
    }
    let mut fitting = widths.to_vec();
    for (i, width) in order.into_iter().zip(sorted) {
        if let Some(slot) = fitting.get_mut(i) {
            *slot = width;
        }
    }
    fitting
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|c| (*c).to_owned()).collect()
    }

    #[test]
    fn columns_give_way_as_the_originals_did() {
        for (widths, available, expected) in [
            (&[64, 14][..], 60, &[46, 14][..]),
            (&[1, 64], 50, &[1, 49]),
            (&[64, 64], 60, &[30, 30]),
            (&[64, 64, 50], 60, &[20, 20, 20]),
            (&[64, 64, 30], 120, &[45, 45, 30]),
            // What cannot be shared equally is taken from the first ones.
            (&[64, 64, 64], 100, &[33, 33, 34]),
            (&[10, 20], 30, &[10, 20]),
            (&[5, 5], 0, &[0, 0]),
            (&[], 0, &[]),
        ] {
            assert_eq!(shrink(widths, available), expected, "{widths:?}");
        }
        assert_eq!(cut("abcdefgh", 5), "abc..");
        assert_eq!(cut("abcde", 5), "abcde");
        assert_eq!((cut("abc", 1).as_str(), cut("abc", 0).as_str()), (".", ""));
    }

    #[test]
    fn each_line_keeps_its_padding_and_the_dashes_are_as_wide_as_the_column() {
        let rows = [row(&["vol1", "100.00MB"]), row(&["a", "N/A"])];
        assert_eq!(
            render(&["Volume", "Capacity"], &rows, 80),
            "Volume  Capacity  \n\
             ------  --------  \n\
             vol1    100.00MB  \n\
             a       N/A       \n"
        );
        assert_eq!(
            render(&["Volume", "Capacity"], &rows, 14),
            "Volume  Capa..  \n\
             ------  ------  \n\
             vol1    100...  \n\
             a       N/A     \n"
        );
        assert_eq!(render(&["A", "B"], &[], 80), "A  B  \n-  -  \n");
    }

    proptest! {
        #[test]
        fn widths_fit_never_grow_and_keep_the_narrow_ones(
            widths in vec(0_usize..300, 0..14),
            available in 0_usize..400,
        ) {
            let fitting = shrink(&widths, available);
            let sum = widths.iter().sum::<usize>();
            prop_assert_eq!(fitting.iter().sum::<usize>(), sum.min(available));
            let cut = widths.iter().zip(&fitting).filter(|(w, f)| f < w).map(|(_, f)| *f);
            let most = cut.max().unwrap_or(0);
            for (width, fits) in widths.iter().zip(&fitting) {
                prop_assert!(fits <= width);
                // Who gave nothing was no wider than who gave.
                prop_assert!(fits < width || sum <= available || *width <= most + 1);
            }
        }

        #[test]
        fn a_row_is_a_line_whatever_a_guest_calls_itself(
            cells in vec(vec(any::<String>(), 3), 0..6),
            terminal in 0_usize..200,
        ) {
            let text = render(&["One", "Two", "Three"], &cells, terminal);
            prop_assert_eq!(text.matches('\n').count(), cells.len() + 2);
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
        }
    }
}
