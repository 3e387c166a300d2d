//! A call that is ready to be sent.

use crate::MoRef;
use crate::soap::ApiVersion;
use crate::xml::{Unwritable, Writer};

/// Whether a call may be sent a second time when nobody knows what became of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It changes nothing, or says the same again.
    Safe,
    /// Twice is not the same as once.
    Never,
}

/// A call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) name: &'static str,
    pub(crate) repeat: Repeat,
    /// The oldest version of the API that has it.
    pub(crate) since: ApiVersion,
    /// It waits at the host for something to happen.
    pub(crate) waits: bool,
    body: Result<String, Unwritable>,
}

impl Call {
    /// The call `name` of the object `this`, with the arguments that `arguments` writes, in the order of the schema.
    pub(crate) fn new(
        name: &'static str,
        repeat: Repeat,
        this: &MoRef,
        arguments: impl FnOnce(&mut Writer),
    ) -> Self {
        let mut w = Writer::new();
        w.root(name, "urn:vim25", |w| {
            w.moref("_this", this);
            arguments(w);
        });
        Self {
            name,
            repeat,
            since: ApiVersion::BASE,
            waits: false,
            body: w.finish(),
        }
    }

    /// The same, for a call (or an argument) that came with a later version.
    pub(crate) const fn since(mut self, version: ApiVersion) -> Self {
        self.since = version;
        self
    }

    /// The same, for a call that waits at the host for something to happen.
    pub(crate) const fn waiting(mut self) -> Self {
        self.waits = true;
        self
    }

    /// The whole envelope.
    pub(crate) fn envelope(&self) -> Result<String, Unwritable> {
        let body = self.body.as_ref().map_err(Clone::clone)?;
        Ok(format!("{HEAD}{body}{TAIL}"))
    }
}

const HEAD: &str = concat!(
    r#"<?xml version="1.0" encoding="UTF-8"?>"#,
    "\n",
    r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/""#,
    r#" xmlns:xsd="http://www.w3.org/2001/XMLSchema""#,
    r#" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>"#,
);

const TAIL: &str = "</soapenv:Body></soapenv:Envelope>";
