//! SOAP: a call becomes an envelope, an envelope becomes an answer or a fault. No I/O.

mod answer;
mod call;
mod version;

pub(crate) use answer::{Answer, localized, read, senseless};
pub(crate) use call::{Call, Repeat};
pub(crate) use version::{ApiVersion, Versions};
