//! A request of the original's plugin: `{"cmd","details":{"Name","Opts"},"version"}`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use vdvs_domain::options::GivenOptions;
use vdvs_domain::{Error, VolumeAddress};

/// The protocol's version; there was never another one.
const VERSION: u64 = 2;
/// How much of what cannot be understood is said back.
const SHOWN: usize = 200;

/// Why a text is no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotUnderstood {
    #[error("Failed to parse json '{0}'.")]
    Json(String),
    #[error("Server returned an error: {0}")]
    Field(String),
    /// The original's text, blanks and all: scripts match it.
    #[error(
        "There is a mismatch between VDVS client (Docker plugin) protocol version\n                                    ({0}) and server (ESXi) protocol version ({VERSION}) which indicates different\n                                    versions of the product are installed on Guest and ESXi sides,\n                                    please make sure VDVS plugin and driver are from the same release version."
    )]
    Version(String),
    #[error("Unknown command:{0}")]
    Command(String),
    #[error(transparent)]
    Name(#[from] Error),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Create(VolumeAddress, Box<GivenOptions>),
    Remove(VolumeAddress),
    Attach(VolumeAddress),
    Detach(VolumeAddress),
    Get(VolumeAddress),
    List,
    Version,
}

#[derive(Deserialize)]
struct Wire {
    cmd: Option<String>,
    details: Option<Details>,
    version: Option<Value>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(rename = "Name")]
    name: Option<String>,
    #[serde(rename = "Opts")]
    options: Option<BTreeMap<String, String>>,
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn missing(what: &str) -> NotUnderstood {
    NotUnderstood::Field(format!("{what} is missing from the request"))
}

/// A decimal number, as text or as such; none: the same as ours.
fn is_ours(version: Option<&Value>) -> Result<(), NotUnderstood> {
    let number = match version {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(other) => other.as_u64(),
    };
    if number == Some(VERSION) {
        return Ok(());
    }
    let said = match version {
        Some(Value::String(text)) => text.clone(),
        other => other.map(ToString::to_string).unwrap_or_default(),
    };
    Err(NotUnderstood::Version(shown(&said)))
}

impl Request {
    /// Reads a frame's text.
    pub(crate) fn parse(text: &str) -> Result<Self, NotUnderstood> {
        let value: Value =
            serde_json::from_str(text).map_err(|_| NotUnderstood::Json(shown(text)))?;
        let field = |why: serde_json::Error| NotUnderstood::Field(shown(&why.to_string()));
        let wire: Wire = serde_json::from_value(value).map_err(field)?;
        is_ours(wire.version.as_ref())?;
        let cmd = wire.cmd.ok_or_else(|| missing("cmd"))?;
        match cmd.as_str() {
            "version" => return Ok(Self::Version),
            "list" => return Ok(Self::List),
            "create" | "remove" | "attach" | "detach" | "get" => {}
            _ => return Err(NotUnderstood::Command(shown(&cmd))),
        }
        let details = wire.details.ok_or_else(|| missing("details"))?;
        let name = details.name.ok_or_else(|| missing("details.Name"))?;
        // As the original read it: what is behind a last '@' with nothing after it is no datastore.
        let name = name.strip_suffix('@').unwrap_or(&name);
        let address = VolumeAddress::parse(name).map_err(Error::from)?;
        Ok(match cmd.as_str() {
            "create" => {
                let options = details.options.unwrap_or_default();
                let given = GivenOptions::parse(&options).map_err(Error::from)?;
                Self::Create(address, Box::new(given))
            }
            "remove" => Self::Remove(address),
            "attach" => Self::Attach(address),
            "detach" => Self::Detach(address),
            _ => Self::Get(address),
        })
    }
}
