//! RFC 4180, with the line ends of this system: sizes are bytes, nothing is an empty cell.

use crate::grid::Grid;

/// The grid's columns with these numbers.
#[must_use]
pub fn csv(grid: &Grid, columns: &[usize]) -> String {
    let names = columns.iter().filter_map(|c| grid.columns.get(*c));
    let mut out = line(names.map(|c| c.key.to_owned()));
    for row in &grid.rows {
        out += &line(columns.iter().map(|c| row.cell(*c).raw()));
    }
    out
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.map(|c| cell(&c)).collect();
    cells.join(",") + "\n"
}

fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::{Cell, Column, number, text};

    #[test]
    fn what_would_break_a_line_is_quoted() {
        const COLUMNS: &[Column] = &[text("name", "Name"), number("size", "Size")];
        let grid = Grid::new(
            COLUMNS,
            [
                vec![Cell::text("a,\"b\"\nc"), Cell::Size(1 << 30)],
                vec![Cell::Nothing, Cell::Limit(None)],
            ],
        );
        assert_eq!(
            csv(&grid, &[0, 1]),
            "name,size\n\"a,\"\"b\"\"\nc\",1073741824\n,\n"
        );
        assert_eq!(csv(&grid, &[1]), "size\n1073741824\n\n");
    }
}
