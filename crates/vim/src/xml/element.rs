//! An element as it was read.

use std::str::FromStr;

use crate::MoRef;

/// An element: name, the two attributes that carry meaning in SOAP, and either text or children.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    pub(crate) name: String,
    pub(crate) xsi_type: Option<String>,
    pub(crate) object_type: Option<String>,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// The name without its prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `xsi:type` without its prefix: which type the sender says this is.
    #[must_use]
    pub fn xsi_type(&self) -> Option<&str> {
        self.xsi_type.as_deref()
    }

    /// The attribute `type`: the kind of the managed object whose name is the text.
    #[must_use]
    pub fn object_type(&self) -> Option<&str> {
        self.object_type.as_deref()
    }

    /// The text, empty for an element with children.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The children in order.
    #[must_use]
    pub fn children(&self) -> &[Self] {
        &self.children
    }

    /// The first child of this name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|c| c.name == name)
    }

    /// All children of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |c| c.name == name)
    }

    /// The text of the first child of this name.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.child(name).map(Self::text)
    }

    /// The text of the first child of this name, unless it is empty.
    #[must_use]
    pub fn some_text_of(&self, name: &str) -> Option<String> {
        self.text_of(name)
            .filter(|t| !t.is_empty())
            .map(str::to_owned)
    }

    /// The number in the first child of this name.
    #[must_use]
    pub fn number_of<N: FromStr>(&self, name: &str) -> Option<N> {
        self.text_of(name)?.trim().parse().ok()
    }

    /// `true` or `false` in the first child of this name.
    #[must_use]
    pub fn flag_of(&self, name: &str) -> Option<bool> {
        flag(self.text_of(name)?)
    }

    /// This element as a number.
    #[must_use]
    pub fn number<N: FromStr>(&self) -> Option<N> {
        self.text.trim().parse().ok()
    }

    /// This element as `true` or `false`.
    #[must_use]
    pub fn flag(&self) -> Option<bool> {
        flag(&self.text)
    }

    /// This element as a reference to a managed object.
    #[must_use]
    pub fn moref(&self) -> Option<MoRef> {
        let kind = self.object_type.as_deref()?;
        (!self.text.is_empty()).then(|| MoRef::new(kind, self.text.as_str()))
    }

    /// The first child of this name as a reference to a managed object.
    #[must_use]
    pub fn moref_of(&self, name: &str) -> Option<MoRef> {
        self.child(name)?.moref()
    }
}

fn flag(text: &str) -> Option<bool> {
    match text.trim() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
