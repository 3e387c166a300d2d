//! Request bodies.

use std::fmt::Write as _;

use crate::MoRef;

/// Longest text of one argument. A path on a datastore has some hundred characters.
const LONGEST_ARGUMENT: usize = 64 * 1024;

/// An argument that cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// XML 1.0 has no way to write this character.
    #[error("'{field}' has the character U+{code:04X}")]
    Character {
        /// Element it was meant for.
        field: String,
        /// Code of the character.
        code: u32,
    },
    /// The text is too long.
    #[error("'{field}' is longer than {LONGEST_ARGUMENT} bytes")]
    TooLong {
        /// Element it was meant for.
        field: String,
    },
}

/// Writes elements. Names come from this crate, texts from anywhere.
///
/// The first thing that cannot be written makes [`Writer::finish`] fail; what is written after it goes nowhere.
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    open: Vec<&'static str>,
    failed: Option<Unwritable>,
}

impl Writer {
    /// An empty body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The outermost element, with the default namespace of everything in it.
    pub(crate) fn root(
        &mut self,
        name: &'static str,
        namespace: &'static str,
        inside: impl FnOnce(&mut Self),
    ) {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push_str(" xmlns=\"");
        self.out.push_str(namespace);
        self.out.push_str("\">");
        self.open.push(name);
        inside(self);
        self.end();
    }

    /// Opens an element, writes what `inside` writes, and closes it.
    pub fn element(&mut self, name: &'static str, inside: impl FnOnce(&mut Self)) -> &mut Self {
        self.start(name, None);
        inside(self);
        self.end();
        self
    }

    /// The same with an `xsi:type`.
    pub fn typed(
        &mut self,
        name: &'static str,
        xsi_type: &'static str,
        inside: impl FnOnce(&mut Self),
    ) -> &mut Self {
        self.start(name, Some(xsi_type));
        inside(self);
        self.end();
        self
    }

    /// An element with a text.
    pub fn text(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.start(name, None);
        self.escaped(name, text);
        self.end();
        self
    }

    /// An element with a text and an `xsi:type`, for fields whose type is *anything*.
    pub fn any(&mut self, name: &'static str, xsi_type: &'static str, text: &str) -> &mut Self {
        self.start(name, Some(xsi_type));
        self.escaped(name, text);
        self.end();
        self
    }

    /// An element with a number.
    pub fn number(&mut self, name: &'static str, number: impl Into<i128>) -> &mut Self {
        let number: i128 = number.into();
        self.text(name, &number.to_string())
    }

    /// An element with `true` or `false`.
    pub fn flag(&mut self, name: &'static str, flag: bool) -> &mut Self {
        self.text(name, if flag { "true" } else { "false" })
    }

    /// An element with a reference to a managed object.
    pub fn moref(&mut self, name: &'static str, object: &MoRef) -> &mut Self {
        self.out.push('<');
        self.out.push_str(name);
        self.out.push_str(" type=\"");
        self.escaped(name, object.kind());
        self.out.push_str("\">");
        self.escaped(name, object.value());
        self.open.push(name);
        self.end();
        self
    }

    /// What was written.
    ///
    /// # Errors
    /// [`Unwritable`]: the first argument that cannot be sent.
    pub fn finish(self) -> Result<String, Unwritable> {
        self.failed.map_or(Ok(self.out), Err)
    }

    fn start(&mut self, name: &'static str, xsi_type: Option<&'static str>) {
        self.out.push('<');
        self.out.push_str(name);
        if let Some(xsi_type) = xsi_type {
            self.out.push_str(" xsi:type=\"");
            self.out.push_str(xsi_type);
            self.out.push('"');
        }
        self.out.push('>');
        self.open.push(name);
    }

    fn end(&mut self) {
        if let Some(name) = self.open.pop() {
            self.out.push_str("</");
            self.out.push_str(name);
            self.out.push('>');
        }
    }

    fn escaped(&mut self, field: &'static str, text: &str) {
        if text.len() > LONGEST_ARGUMENT {
            self.fail(Unwritable::TooLong {
                field: field.to_owned(),
            });
            return;
        }
        for c in text.chars() {
            match c {
                '<' => self.out.push_str("&lt;"),
                // Everywhere, so that `]]>` never stands in a text.
                '>' => self.out.push_str("&gt;"),
                '&' => self.out.push_str("&amp;"),
                '"' => self.out.push_str("&quot;"),
                // As themselves they would come out as a line feed or a blank at the other end.
                '\r' | '\n' | '\t' => self.reference(c),
                _ if is_xml(c) => self.out.push(c),
                _ => {
                    self.fail(Unwritable::Character {
                        field: field.to_owned(),
                        code: u32::from(c),
                    });
                    return;
                }
            }
        }
    }

    fn reference(&mut self, c: char) {
        // Writing to a String does not fail.
        write!(self.out, "&#{};", u32::from(c)).ok();
    }

    fn fail(&mut self, why: Unwritable) {
        self.failed.get_or_insert(why);
    }
}

/// Whether XML 1.0 has the character.
pub(super) const fn is_xml(c: char) -> bool {
    matches!(c,
        '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}
