//! The streaming reader. It stops at the first byte beyond a limit, whatever comes after it.

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::Element;

/// What an answer may be at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the whole.
    pub bytes: usize,
    /// Elements within elements.
    pub depth: usize,
    /// Elements altogether.
    pub elements: usize,
    /// Bytes of one element's text.
    pub text: usize,
}

impl Limits {
    /// For answers of hostd. A page of the inventory has some hundred kilobytes; a VM's device list 20 levels at most.
    pub const ANSWER: Self = Self {
        bytes: 16 << 20,
        depth: 64,
        elements: 400_000,
        text: 1 << 20,
    };
}

/// Longest name of an element, and longest value of an attribute that is kept.
const LONGEST_NAME: usize = 256;

/// Attributes of one element. SOAP's envelope has about six.
const MOST_ATTRIBUTES: usize = 32;

/// Why bytes are not an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No well-formed XML, or text that is no UTF-8.
    #[error("no XML at byte {at}: {why}")]
    Malformed {
        /// Where.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// Beyond a limit.
    #[error("beyond the limit of {0}")]
    Limit(&'static str),
    /// A document type: entities could grow from it.
    #[error("it has a document type")]
    DocumentType,
    /// It ends within an element, or has none.
    #[error("it ends too early")]
    Truncated,
}

/// Reads one document.
///
/// # Errors
/// [`ParseError`]
pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Element, ParseError> {
    if bytes.len() > limits.bytes {
        return Err(ParseError::Limit("bytes"));
    }
    let mut reader = Reader::from_reader(bytes);
    let config = reader.config_mut();
    config.check_comments = false;
    config.expand_empty_elements = false;
    let mut tree = Tree::new(limits);
    loop {
        let event = reader.read_event().map_err(|why| ParseError::Malformed {
            at: reader.error_position(),
            why: cut(&why.to_string()),
        })?;
        let at = reader.buffer_position();
        if tree.take(event, at)? {
            break;
        }
    }
    tree.root.ok_or(ParseError::Truncated)
}

/// What was read so far.
struct Tree<'l> {
    limits: &'l Limits,
    open: Vec<Element>,
    elements: usize,
    root: Option<Element>,
}

impl<'l> Tree<'l> {
    fn new(limits: &'l Limits) -> Self {
        Self {
            limits,
            open: Vec::new(),
            elements: 0,
            root: None,
        }
    }

    /// True at the end of the document.
    fn take(&mut self, event: Event<'_>, at: u64) -> Result<bool, ParseError> {
        match event {
            Event::Start(tag) => {
                let element = self.start(&tag, at)?;
                self.open.push(element);
            }
            Event::Empty(tag) => {
                let element = self.start(&tag, at)?;
                self.close(element, at)?;
            }
            Event::End(_) => {
                let element = self.open.pop().ok_or(ParseError::Truncated)?;
                self.close(element, at)?;
            }
            Event::Text(text) => self.text(&text, at)?,
            Event::CData(data) => self.append(&data)?,
            Event::GeneralRef(reference) => {
                let c = resolve(&reference, at)?;
                self.append(c.encode_utf8(&mut [0; 4]))?;
            }
            Event::DocType(_) => return Err(ParseError::DocumentType),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            Event::Eof if self.open.is_empty() => return Ok(true),
            Event::Eof => return Err(ParseError::Truncated),
        }
        Ok(false)
    }

    fn start(&mut self, tag: &BytesStart<'_>, at: u64) -> Result<Element, ParseError> {
        self.elements += 1;
        if self.elements > self.limits.elements {
            return Err(ParseError::Limit("elements"));
        }
        if self.open.len() >= self.limits.depth {
            return Err(ParseError::Limit("depth"));
        }
        if self.root.is_some() {
            return Err(malformed(at, "a second document"));
        }
        let mut element = Element {
            name: short(tag.local_name().into_inner())?.to_owned(),
            ..Element::default()
        };
        for (count, attribute) in tag.attributes().enumerate() {
            if count == MOST_ATTRIBUTES {
                return Err(ParseError::Limit("attributes"));
            }
            let attribute = attribute.map_err(|why| malformed(at, &why.to_string()))?;
            if attribute.key.local_name().into_inner() != "type" {
                continue;
            }
            let value = short(&attribute.value)?;
            if value.contains('&') {
                return Err(malformed(at, "a type that is no name"));
            }
            // Namespaces are not resolved: in SOAP of this API only xsi:type has a prefix.
            if attribute.key.prefix().is_some() {
                let local = value.rsplit_once(':').map_or(value, |(_, local)| local);
                element.xsi_type = Some(local.to_owned());
            } else {
                element.object_type = Some(value.to_owned());
            }
        }
        Ok(element)
    }

    fn close(&mut self, mut element: Element, at: u64) -> Result<(), ParseError> {
        if !element.children.is_empty() {
            // Blanks between children.
            element.text = String::new();
        }
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None if self.root.is_none() => self.root = Some(element),
            None => return Err(malformed(at, "a second document")),
        }
        Ok(())
    }

    fn text(&mut self, text: &str, at: u64) -> Result<(), ParseError> {
        if self.open.is_empty() {
            // A byte order mark before the document, blanks around it.
            let blank = text.trim_start_matches('\u{feff}').trim().is_empty();
            return if blank {
                Ok(())
            } else {
                Err(malformed(at, "text outside of the document"))
            };
        }
        if text.contains('\r') {
            // A line ends with a line feed, whatever it was sent with.
            self.append(&text.replace("\r\n", "\n").replace('\r', "\n"))
        } else {
            self.append(text)
        }
    }

    fn append(&mut self, text: &str) -> Result<(), ParseError> {
        let Some(element) = self.open.last_mut() else {
            return Err(ParseError::Truncated);
        };
        if element.text.len() + text.len() > self.limits.text {
            return Err(ParseError::Limit("text"));
        }
        element.text.push_str(text);
        Ok(())
    }
}

/// One of XML's five names, or a character's number. There are no other entities without a document type.
fn resolve(reference: &BytesRef<'_>, at: u64) -> Result<char, ParseError> {
    let number = reference
        .resolve_char_ref()
        .map_err(|why| malformed(at, &why.to_string()))?;
    if let Some(c) = number {
        return Ok(c);
    }
    match &**reference {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(malformed(at, "an entity nobody declared")),
    }
}

fn short(name: &str) -> Result<&str, ParseError> {
    if name.len() > LONGEST_NAME {
        return Err(ParseError::Limit("name"));
    }
    Ok(name)
}

fn malformed(at: u64, why: &str) -> ParseError {
    ParseError::Malformed { at, why: cut(why) }
}

fn cut(text: &str) -> String {
    text.chars().take(200).collect()
}
