//! What esxcli reads from a plug-in's program: an `output` in its name space, holding either a list of structures or
//! one string. The bytes are those of the original (a declaration, tabs, one element a line), because tools read them.
//!
//! A document is well-formed whatever names hold: the five reserved characters are escaped, characters that XML 1.0
//! forbids or that steer terminals become U+FFFD, and a carriage return is written as a reference, so that it is read
//! back as one. A cell of a list is one line.

use crate::render::one_line;

const NAMESPACE: &str = "http://www.vmware.com/Products/ESX/6.0/esxcli/";
/// The type of the structures in every list.
pub(crate) const STRUCTURE: &str = "vdvs";

/// A list with one structure per row. Without rows: one structure of empty strings, as esxcli takes no empty list.
pub(crate) fn list(header: &[&str], rows: &[Vec<String>]) -> String {
    let empty = [vec![String::new(); header.len()]];
    let rows = if rows.is_empty() { &empty } else { rows };
    let mut body = "\t<list type=\"structure\">\n".to_owned();
    for row in rows {
        body += &format!("\t\t<structure typeName=\"{STRUCTURE}\">\n");
        for (name, cell) in header.iter().zip(row) {
            let (name, cell) = (escape(name), escape(&one_line(cell)));
            body += &format!(
                "\t\t\t<field name=\"{name}\">\n\t\t\t\t<string>{cell}</string>\n\t\t\t</field>\n"
            );
        }
        body += "\t\t</structure>\n";
    }
    document(&(body + "\t</list>\n"))
}

/// One text.
pub(crate) fn message(text: &str) -> String {
    document(&format!("\t<string>{}</string>\n", escape(text)))
}

fn document(body: &str) -> String {
    format!("<?xml version=\"1.0\" ?>\n<output xmlns=\"{NAMESPACE}\">\n{body}</output>\n")
}

/// The text as XML's characters, inside elements and attributes' double quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use roxmltree::Document;

    use super::*;

    #[test]
    fn lists_have_the_originals_bytes() {
        let head = "<?xml version=\"1.0\" ?>\n\
                    <output xmlns=\"http://www.vmware.com/Products/ESX/6.0/esxcli/\">\n\
                    \t<list type=\"structure\">\n\
                    \t\t<structure typeName=\"vdvs\">\n";
        let field = |name: &str, text: &str| {
            format!(
                "\t\t\t<field name=\"{name}\">\n\t\t\t\t<string>{text}</string>\n\t\t\t</field>\n"
            )
        };
        let tail = "\t\t</structure>\n\t</list>\n</output>\n";
        let rows = [vec!["vol1".to_owned(), "a<b> & \"c\" 'd'".to_owned()]];
        assert_eq!(
            list(&["Volume", "Created By"], &rows),
            head.to_owned()
                + &field("Volume", "vol1")
                + &field("Created By", "a&lt;b&gt; &amp; &quot;c&quot; 'd'")
                + tail
        );
        // No rows: one structure of empty strings.
        assert_eq!(
            list(&["Uuid", "Name"], &[]),
            head.to_owned() + &field("Uuid", "") + &field("Name", "") + tail
        );
    }

    #[test]
    fn a_message_is_one_string_and_keeps_its_lines() {
        assert_eq!(
            message("vmgroup rm succeeded"),
            "<?xml version=\"1.0\" ?>\n\
             <output xmlns=\"http://www.vmware.com/Products/ESX/6.0/esxcli/\">\n\
             \t<string>vmgroup rm succeeded</string>\n\
             </output>\n"
        );
        assert!(message("=== Service: \nVersion: 1").contains("Service: \nVersion"));
    }

    /// What a reader gets of this text.
    fn readable(text: &str) -> String {
        let read = |c: char| match c {
            '\n' | '\t' | '\r' => c,
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
            c => c,
        };
        text.chars().map(read).collect()
    }

    fn nasty() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[<>&'\"\\]\\[!\\-a\\x00-\\x1f\\x7f-\\u{9f}\\u{fffe}\\u{ffff}]{0,40}",
            Just("]]><!-- <string>&#0;&lt;\u{1b}[31m".to_owned()),
        ]
    }

    proptest! {
        #[test]
        fn any_message_is_read_back(text in nasty()) {
            let xml = message(&text);
            let document = Document::parse(&xml).unwrap();
            let string = document.root_element().first_element_child().unwrap();
            prop_assert_eq!(string.tag_name().name(), "string");
            prop_assert_eq!(string.tag_name().namespace(), Some(NAMESPACE));
            prop_assert_eq!(string.text().unwrap_or_default(), readable(&text));
        }

        #[test]
        fn any_cells_are_read_back_in_their_fields(rows in vec(vec(nasty(), 2), 1..5)) {
            let xml = list(&["Name", "Created By"], &rows);
            let document = Document::parse(&xml).unwrap();
            let fields: Vec<_> = document
                .descendants()
                .filter(|n| n.has_tag_name((NAMESPACE, "field")))
                .map(|n| {
                    let text = n.first_element_child().and_then(|s| s.text());
                    (n.attribute("name").unwrap(), text.unwrap_or_default().to_owned())
                })
                .collect();
            let expected: Vec<_> = rows
                .iter()
                .flat_map(|row| ["Name", "Created By"].into_iter().zip(row))
                .map(|(name, cell)| (name, readable(&one_line(cell))))
                .collect();
            prop_assert_eq!(fields, expected);
        }
    }
}
