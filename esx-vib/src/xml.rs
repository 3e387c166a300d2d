//! Small things about XML: writing text into it, and reading documents of bounded size.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::str;

use roxmltree::{Document, Node, ParsingOptions};

use crate::error::ReadError;

/// Largest document that is read: a descriptor with ten thousand files.
pub(crate) const MOST_BYTES: usize = 2 * 1024 * 1024;
/// And its most elements, texts and comments.
const MOST_NODES: u32 = 100_000;

/// Text as an element's content or an attribute's value. What XML 1.0 cannot hold becomes U+FFFD.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    let special =
        |c: char| matches!(c, '<' | '>' | '&' | '"' | '\'') || c.is_control() || c > '\u{fffd}';
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::new(), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' | '\n' | '\r' => write!(out, "&#{};", u32::from(c)).expect("a String grows"),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c if c.is_control() && c < ' ' => out.push('\u{fffd}'),
            c => out.push(c),
        }
        out
    });
    Cow::Owned(escaped)
}

/// Reads a document.
pub(crate) fn document<'a>(what: &'static str, bytes: &'a [u8]) -> Result<Document<'a>, ReadError> {
    if bytes.len() > MOST_BYTES {
        return Err(ReadError::TooLarge {
            what,
            bytes: bytes.len() as u64,
            most: MOST_BYTES as u64,
        });
    }
    let text =
        str::from_utf8(bytes).map_err(|_| ReadError::malformed(what, "it is not UTF-8 text"))?;
    let options = ParsingOptions {
        nodes_limit: MOST_NODES,
        ..ParsingOptions::default()
    };
    Document::parse_with_options(text, options)
        .map_err(|e| ReadError::malformed(what, e.to_string()))
}

/// The first child of that name.
pub(crate) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    elements(node).find(|n| n.tag_name().name() == name)
}

/// All children that are elements.
pub(crate) fn elements<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

/// The text of the first child of that name, without the blanks around it; none or empty is "".
pub(crate) fn text<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    child(node, name)
        .and_then(|n| n.text())
        .unwrap_or_default()
        .trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_means_itself() {
        let text = "a<b>&\"c'\n\u{1}ä";
        let bytes = format!("<x y=\"{0}\">{0}</x>", escape(text));
        let document = document("it", bytes.as_bytes()).unwrap();
        let root = document.root_element();
        let meant = text.replace('\u{1}', "\u{fffd}");
        assert_eq!(root.attribute("y"), Some(meant.as_str()));
        assert_eq!(root.text(), Some(meant.as_str()));
        assert_eq!(escape("plain"), "plain");
    }

    #[test]
    fn entities_that_grow_and_documents_without_end_are_refused() {
        let bomb = b"<!DOCTYPE x [<!ENTITY a \"aaaa\">]><x>&a;</x>";
        assert!(document("it", bomb).is_err());
        assert!(document("it", &vec![b' '; MOST_BYTES + 1]).is_err());
        let many = format!("<x>{}</x>", "<y/>".repeat(100_001));
        assert!(document("it", many.as_bytes()).is_err());
        assert!(document("it", b"<x>\xff</x>").is_err());
    }
}
