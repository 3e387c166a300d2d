//! What came back.

use crate::xml::{Element, Limits, parse};
use crate::{Error, Fault, Lost, MoRef};

/// The answer of a call that was not refused: the element `…Response`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) call: &'static str,
    pub(crate) element: Element,
}

impl Answer {
    /// The child of this name, which the call's schema promises.
    pub(crate) fn need(&self, name: &'static str) -> Result<&Element, Error> {
        self.element
            .child(name)
            .ok_or_else(|| senseless(self.call, &format!("it has no '{name}'")))
    }

    /// The text of `returnval`.
    pub(crate) fn need_text(&self) -> Result<String, Error> {
        self.need("returnval").map(|e| e.text().to_owned())
    }

    /// `returnval` as a reference.
    pub(crate) fn need_moref(&self) -> Result<MoRef, Error> {
        self.need("returnval")?
            .moref()
            .ok_or_else(|| senseless(self.call, "its 'returnval' is no reference"))
    }

    /// The error for an answer that lacks what its schema promises.
    pub(crate) fn senseless(&self, why: &str) -> Error {
        senseless(self.call, why)
    }
}

/// The error for an answer that makes no sense: the call went out, so nobody knows.
pub(crate) fn senseless(call: &'static str, why: &str) -> Error {
    Error::Unknown {
        call,
        why: Lost::Answer(why.to_owned()),
    }
}

/// Reads the answer of `call`.
///
/// # Errors
/// [`Error::Refused`] for a fault, [`Error::Unknown`] for what is no answer to this call.
pub(crate) fn read(call: &'static str, bytes: &[u8]) -> Result<Answer, Error> {
    let envelope =
        parse(bytes, &Limits::ANSWER).map_err(|why| senseless(call, &why.to_string()))?;
    let content = body(envelope).ok_or_else(|| senseless(call, "it is no SOAP envelope"))?;
    if content.name() == "Fault" {
        return Err(Error::Refused {
            call,
            fault: Box::new(fault(&content)),
        });
    }
    // An answer to another call would be one to a request that was given up: never taken for this one's.
    if content.name().strip_suffix("Response") == Some(call) {
        Ok(Answer {
            call,
            element: content,
        })
    } else {
        Err(senseless(
            call,
            &format!("it is '{}'", content.name().escape_debug()),
        ))
    }
}

/// The only child of the envelope's body.
fn body(envelope: Element) -> Option<Element> {
    if envelope.name() != "Envelope" {
        return None;
    }
    let body = envelope.children.into_iter().find(|c| c.name() == "Body")?;
    body.children.into_iter().next()
}

/// `soapenv:Fault`: the type is that of the detail's first child, by `xsi:type` or by its name less `Fault`.
fn fault(fault: &Element) -> Fault {
    let message = fault.text_of("faultstring").unwrap_or_default();
    let detail = fault.child("detail").and_then(|d| d.children().first());
    let Some(detail) = detail else {
        let code = fault.text_of("faultcode").unwrap_or_default();
        let code = code.rsplit_once(':').map_or(code, |(_, local)| local);
        return Fault::read(code, &Element::default(), message);
    };
    Fault::read(type_of(detail), detail, message)
}

/// A `LocalizedMethodFault`, as tasks and missing properties carry it.
pub(crate) fn localized(element: &Element) -> Fault {
    let message = element.text_of("localizedMessage").unwrap_or_default();
    match element.child("fault") {
        Some(fault) => Fault::read(type_of(fault), fault, message),
        None => Fault::read("", &Element::default(), message),
    }
}

fn type_of(fault: &Element) -> &str {
    let by_name = || {
        let name = fault.name();
        name.strip_suffix("Fault")
            .filter(|n| !n.is_empty())
            .unwrap_or(name)
    };
    fault.xsi_type().unwrap_or_else(by_name)
}
