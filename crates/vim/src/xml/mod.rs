//! XML as far as SOAP needs it.
//!
//! * [`Element`]: what was read. Names without prefix; text as far as an element has no children.
//! * [`parse`]: a streaming reader with [`Limits`] that builds elements. No DTD, no entities but the five of XML, no
//!   processing instruction is followed, nothing is fetched.
//! * [`Writer`]: request bodies. It refuses characters that XML 1.0 cannot carry instead of dropping them.
//!
//! Nobody's enumeration ends here: a value nobody knows, or an empty one, is a text like any other and fails only the
//! reader who needs it.

mod element;
mod reader;
mod writer;

pub use element::Element;
pub use reader::{Limits, ParseError, parse};
pub use writer::{Unwritable, Writer};

#[cfg(test)]
mod tests;
