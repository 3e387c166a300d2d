//! The original's XML: a list of structures whose fields are strings, or one message.

use crate::grid::Grid;

/// The original's name space.
const XMLNS: &str = "http://www.vmware.com/Products/ESX/6.0/esxcli/";
/// What it shows where there is nothing.
const NONE: &str = "N/A";

/// The grid's columns with these numbers. As in the original, an empty list is one structure with empty strings.
#[must_use]
pub fn list(grid: &Grid, columns: &[usize]) -> String {
    let titles: Vec<_> = columns
        .iter()
        .filter_map(|c| grid.columns.get(*c))
        .map(|c| c.title)
        .collect();
    let structures: String = if grid.rows.is_empty() {
        structure(titles.iter().map(|t| (*t, String::new())))
    } else {
        let rows = grid.rows.iter().map(|row| {
            let cells = columns.iter().map(|c| row.cell(*c).shown(NONE));
            structure(titles.iter().copied().zip(cells))
        });
        rows.collect()
    };
    output(&format!(
        "\t<list type=\"structure\">\n{structures}\t</list>\n"
    ))
}

/// A message.
#[must_use]
pub fn message(text: &str) -> String {
    output(&format!("\t<string>{}</string>\n", escape(text)))
}

fn output(inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<output xmlns=\"{XMLNS}\">\n{inside}</output>\n"
    )
}

fn structure(fields: impl Iterator<Item = (&'static str, String)>) -> String {
    let fields: String = fields
        .map(|(name, value)| {
            format!(
                "\t\t\t<field name=\"{}\">\n\t\t\t\t<string>{}</string>\n\t\t\t</field>\n",
                escape(name),
                escape(&value)
            )
        })
        .collect();
    format!("\t\t<structure typeName=\"vdvs\">\n{fields}\t\t</structure>\n")
}

/// Text for a document: what XML 1.0 cannot hold becomes the replacement character.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            '\r' => out.push_str("&#13;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use roxmltree::Document;

    use super::*;
    use crate::grid::{Cell, Column, number, text};

    const COLUMNS: &[Column] = &[text("volume", "Volume"), number("capacity", "Capacity")];

    #[test]
    fn any_name_is_read_back_as_it_was_unless_xml_cannot_hold_it() {
        let hostile = "</string><!-- & \"x\" 'y' größe-雪 ]]>\r\n\t";
        let row = |name: &str| vec![Cell::text(name), Cell::Size(100 << 20)];
        let grid = Grid::new(COLUMNS, [row(hostile), row("a\u{0}\u{1b}[31m")]);
        let xml = list(&grid, &[0, 1]);
        let document = Document::parse(&xml).unwrap();
        let strings: Vec<_> = document
            .descendants()
            .filter(|n| n.has_tag_name((XMLNS, "string")))
            .map(|n| n.text().unwrap_or_default())
            .collect();
        assert_eq!(
            strings,
            [hostile, "100MB", "a\u{fffd}\u{fffd}[31m", "100MB"]
        );
    }

    #[test]
    fn an_empty_list_is_one_structure_with_empty_strings() {
        let xml = list(&Grid::new(COLUMNS, []), &[0, 1]);
        let document = Document::parse(&xml).unwrap();
        let fields: Vec<_> = document
            .descendants()
            .filter(|n| n.has_tag_name((XMLNS, "field")))
            .map(|n| n.attribute("name").unwrap())
            .collect();
        assert_eq!(fields, ["Volume", "Capacity"]);
        assert!(message("it's <done>").contains("<string>it's &lt;done&gt;</string>"));
    }
}
