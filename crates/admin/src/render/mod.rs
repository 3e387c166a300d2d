//! Text for people, XML and CSV. Every function here is pure: a view and a width in, text out. Without a width (the
//! output is no terminal) a row is a line, so that `grep` and `awk` work. No colours: `!` marks what needs attention.

mod audit;
mod change;
mod config;
mod csv;
mod doctor;
mod fsck;
mod group;
mod inventory;
mod policy;
mod volume;
mod why;
mod work;
mod xml;

#[cfg(test)]
mod tests;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};

pub use csv::csv;
pub use volume::columns as volume_columns;
pub use xml::{list as xml_list, message as xml_message};

use crate::grid::Grid;

/// Marks a row that needs attention; the reason stands below the table.
const MARK: &str = "!";
/// Shown where there is nothing.
const NONE: &str = "-";

/// A view as people read it.
pub trait Text {
    /// All of it, with its line ends.
    fn text(&self, width: Option<u16>) -> String;
}

/// The text without characters that steer a terminal: names come from guests and hypervisors. Line ends stay.
#[must_use]
pub fn printable(text: &str) -> String {
    let safe = |c: char| {
        if (c.is_control() || turns_text_around(c)) && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(safe).collect()
}

/// Marks that make a terminal show text in another order than it stands.
const fn turns_text_around(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The same in one line.
#[must_use]
pub fn one_line(text: &str) -> String {
    printable(&text.replace('\n', " "))
}

/// `right` are the numbers of the columns with sizes.
fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.to_vec());
    match width {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>());
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
            column.set_constraint(ColumnConstraint::ContentWidth);
        } else {
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(6)));
        }
    }
    lines(table.lines())
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.map(|l| l.trim_end().to_owned() + "\n").collect()
}

/// Some columns of a grid, under these headings.
fn columns(grid: &Grid, shown: &[(&str, &str)], width: Option<u16>) -> String {
    let at: Vec<_> = shown
        .iter()
        .filter_map(|(key, _)| grid.column(key))
        .collect();
    let header: Vec<_> = shown.iter().map(|(_, heading)| *heading).collect();
    let right: Vec<_> = at
        .iter()
        .enumerate()
        .filter(|(_, column)| grid.columns.get(**column).is_some_and(|c| c.right))
        .map(|(place, _)| place)
        .collect();
    let rows = grid.rows.iter().map(|row| {
        let mut cells: Vec<_> = at.iter().map(|c| row.cell(*c).shown(NONE)).collect();
        if let (true, Some(first)) = (row.marked, cells.first_mut()) {
            first.push(' ');
            first.push_str(MARK);
        }
        cells
    });
    table(&header, &right, rows.collect(), width)
}

/// A sentence below a table that needs attention.
fn marked(text: &str) -> String {
    format!("{MARK} {}\n", one_line(text))
}

fn or_none(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).unwrap_or(NONE).to_owned()
}

/// Names and values below each other.
fn pairs(rows: &[(&str, String)]) -> String {
    let line = |(key, value): &(&str, String)| format!("{key:<12} {}\n", one_line(value));
    rows.iter().map(line).collect()
}
