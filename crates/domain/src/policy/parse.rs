//! The expression of a policy.
//!
//! ```text
//! policy := '(' entry+ ')'            entry := '(' '"' key '"' value ')'
//! value  := 'i' number | 'l' number | '"' text '"' | '(' value+ ')'      (lists do not nest)
//! ```
//! Blanks, tabs and line ends may stand between parts and mean nothing. Whatever is read is written one way:
//! `(("key" i1) ("other" (i0 i100)))`.

use std::collections::BTreeMap;
use std::fmt;

use super::keys;

/// Longest expression in bytes. Those in use have some hundred.
pub const MAX_TEXT: usize = 2048;
/// Most keys of an expression: four times as many as are known.
pub const MAX_ENTRIES: usize = 32;
/// Longest key or text in bytes.
const MAX_WORD: usize = 128;
/// Most values of a list. A range has two.
const MAX_LIST: usize = 8;

/// A value of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `i1`
    Int(i32),
    /// `l1`
    Long(i64),
    /// `"text"`
    Text(String),
    /// `(i0 i100)`
    List(Vec<Self>),
}

/// The text of a policy, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyExpression {
    entries: Vec<(String, Value)>,
}

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Invalid policy string: at character {at}, {why}. A policy looks like this: ((\"hostFailuresToTolerate\" i1) (\"forceProvisioning\" i1))"
)]
pub struct PolicyError {
    /// The character, counted from 1.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(n) => write!(f, "i{n}"),
            Self::Long(n) => write!(f, "l{n}"),
            Self::Text(text) => write!(f, "\"{text}\""),
            Self::List(values) => {
                let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
                write!(f, "({})", texts.join(" "))
            }
        }
    }
}

impl fmt::Display for PolicyExpression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |(key, value): &(String, Value)| format!("(\"{key}\" {value})");
        let texts: Vec<String> = self.entries.iter().map(entry).collect();
        write!(f, "({})", texts.join(" "))
    }
}

impl PolicyExpression {
    /// Reads an expression, and checks the values of the keys that are known.
    ///
    /// # Errors
    /// [`PolicyError`] with the place of the first mistake.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_TEXT {
            return Err(PolicyError {
                at: MAX_TEXT,
                why: format!("it goes on, and at most {MAX_TEXT} bytes are read"),
            });
        }
        let mut reader = Reader { text, at: 0 };
        let entries = reader.policy()?;
        Ok(Self { entries })
    }

    /// A key's value.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        let found = self.entries.iter().find(|(k, _)| k == key);
        found.map(|(_, value)| value)
    }

    /// The keys, in their order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.as_str())
    }

    /// Whether both ask for the same, whatever the order of their keys.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let sorted = |e: &Self| -> BTreeMap<String, String> {
            let pairs = e.entries.iter();
            pairs.map(|(k, v)| (k.clone(), v.to_string())).collect()
        };
        sorted(self) == sorted(other)
    }
}

/// A character for a message: a terminal obeys none of it.
fn shown(c: char) -> String {
    match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    }
}

struct Reader<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, at: usize, why: impl Into<String>) -> PolicyError {
        let before = self.text.get(..at).unwrap_or(self.text);
        PolicyError {
            at: before.chars().count().saturating_add(1),
            why: why.into(),
        }
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&mut self) -> Option<char> {
        let blank = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        let rest = self.rest();
        let skipped = rest.len() - rest.trim_start_matches(blank).len();
        self.at += skipped;
        self.rest().chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let is = self.peek() == Some(wanted);
        self.at += if is { wanted.len_utf8() } else { 0 };
        is
    }

    /// What is found instead of something else, for a message.
    fn found(&mut self) -> String {
        self.peek()
            .map_or("the end".to_owned(), |c| format!("'{}'", shown(c)))
    }

    fn expect(&mut self, wanted: char, what: &str) -> Result<(), PolicyError> {
        if self.take(wanted) {
            return Ok(());
        }
        let found = self.found();
        Err(self.wrong(self.at, format!("expected {what}, found {found}")))
    }

    fn policy(&mut self) -> Result<Vec<(String, Value)>, PolicyError> {
        self.expect('(', "'(', which opens the policy")?;
        let mut entries: Vec<(String, Value)> = Vec::new();
        while !self.take(')') {
            self.peek();
            let at = self.at;
            let closed = entries.is_empty();
            self.expect(
                '(',
                match closed {
                    true => "'(', which opens a key",
                    false => "'(', which opens a key, or ')', which closes the policy",
                },
            )?;
            let (key, value) = self.entry()?;
            if entries.iter().any(|(k, _)| *k == key) {
                return Err(self.wrong(at, format!("\"{key}\" stands there a second time")));
            }
            entries.push((key, value));
            if entries.len() > MAX_ENTRIES {
                return Err(self.wrong(at, format!("at most {MAX_ENTRIES} keys are read")));
            }
        }
        if self.peek().is_some() {
            let found = self.found();
            return Err(self.wrong(
                self.at,
                format!("the policy is closed, and {found} follows"),
            ));
        }
        if entries.is_empty() {
            return Err(self.wrong(self.at, "the policy ends without a key"));
        }
        Ok(entries)
    }

    /// Behind its opening parenthesis.
    fn entry(&mut self) -> Result<(String, Value), PolicyError> {
        self.peek();
        let key_at = self.at;
        let key = self.text("a key in quotes")?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(self.wrong(
                key_at,
                format!("\"{key}\" is no key: letters, digits and '_' may stand in one"),
            ));
        }
        self.peek();
        let value_at = self.at;
        let value = self.value(true)?;
        keys::check(&key, &value).map_err(|why| self.wrong(value_at, why))?;
        self.expect(')', &format!("')', which closes \"{key}\""))?;
        Ok((key, value))
    }

    fn value(&mut self, list: bool) -> Result<Value, PolicyError> {
        let first = self.peek();
        match first {
            Some('"') => Ok(Value::Text(self.text("a text in quotes")?)),
            Some('i') => {
                let (at, digits) = self.number();
                let number = digits.parse().map(Value::Int);
                number.map_err(|_| self.wrong(at, format!("'i{digits}' is no number of 32 bits")))
            }
            Some('l') => {
                let (at, digits) = self.number();
                let number = digits.parse().map(Value::Long);
                number.map_err(|_| self.wrong(at, format!("'l{digits}' is no number of 64 bits")))
            }
            Some('(') if list => self.list(),
            _ => {
                let found = self.found();
                let text = format!("expected a value such as i1 or \"text\", found {found}");
                Err(self.wrong(self.at, text))
            }
        }
    }

    /// Behind the letter that says of what type it is; a sign may stand there. Where it stands, and its digits.
    fn number(&mut self) -> (usize, String) {
        let at = self.at;
        self.at += 1;
        let rest = self.rest();
        let sign = rest.starts_with(['+', '-']);
        let digits = rest.get(usize::from(sign)..).unwrap_or_default();
        let count = digits.bytes().take_while(u8::is_ascii_digit).count();
        let number = rest.get(..count + usize::from(sign)).unwrap_or_default();
        let number: String = number.chars().take(MAX_WORD).collect();
        self.at += number.len();
        (at, number)
    }

    fn list(&mut self) -> Result<Value, PolicyError> {
        self.expect('(', "a list")?;
        let mut values = Vec::new();
        while !self.take(')') {
            values.push(self.value(false)?);
            if values.len() > MAX_LIST {
                return Err(self.wrong(self.at, format!("a list has at most {MAX_LIST} values")));
            }
        }
        match values.is_empty() {
            true => Err(self.wrong(self.at, "a list ends without a value")),
            false => Ok(Value::List(values)),
        }
    }

    fn text(&mut self, what: &str) -> Result<String, PolicyError> {
        self.expect('"', what)?;
        let at = self.at;
        let Some(end) = self.rest().find('"') else {
            return Err(self.wrong(at, "the quotes are not closed"));
        };
        let text = self.rest().get(..end).unwrap_or_default().to_owned();
        // Nothing in it can end the quotes, an argument or a command of whoever passes it on.
        let plain = |c: char| c.is_ascii_alphanumeric() || " _.,:+/()%#@=-".contains(c);
        if let Some((offset, bad)) = text.char_indices().find(|(_, c)| !plain(*c)) {
            let bad = shown(bad);
            return Err(self.wrong(at + offset, format!("'{bad}' may not stand in a text")));
        }
        if text.len() > MAX_WORD {
            return Err(self.wrong(at, format!("a text has at most {MAX_WORD} characters")));
        }
        self.at += end + 1;
        Ok(text)
    }
}
