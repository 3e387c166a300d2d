//! The plugin API's messages, pure: parsing of bodies, writing of answers.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::service::{View, utf8};

/// What every JSON answer is labelled with, as the original labelled it.
pub const CONTENT_TYPE: &str = "application/vnd.docker.plugins.v1.1+json";

/// Largest body read. Names have 200 bytes and options are few.
pub const MAX_BODY: usize = 64 * 1024;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `/Plugin.Activate`. podman sends it with every command, so it means nothing but "hello".
    Activate,
    /// `/VolumeDriver.Capabilities`
    Capabilities,
    /// `/VolumeDriver.List`
    List,
    /// `/VolumeDriver.Create`
    Create {
        /// Name.
        name: String,
        /// Options; `null` is none.
        options: BTreeMap<String, String>,
    },
    /// `/VolumeDriver.Remove`
    Remove(String),
    /// `/VolumeDriver.Get`
    Get(String),
    /// `/VolumeDriver.Path`
    Path(String),
    /// `/VolumeDriver.Mount`
    Mount {
        /// Name.
        name: String,
        /// Docker's ID of this use.
        id: String,
    },
    /// `/VolumeDriver.Unmount`
    Unmount {
        /// Name.
        name: String,
        /// As in Mount.
        id: String,
    },
}

/// Why a request is not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unread {
    /// No such path.
    UnknownPath,
    /// The body that the path needs is not there: a retry whose reader was spent.
    EmptyBody,
    /// Not the JSON expected; the decoder's words.
    Malformed(String),
}

#[derive(Debug, Deserialize)]
struct Named {
    #[serde(rename = "Name", default)]
    name: Option<String>,
    #[serde(rename = "Opts", default)]
    opts: Option<BTreeMap<String, Option<Text>>>,
    #[serde(rename = "ID", default)]
    id: Option<String>,
}

/// Option values are texts; a number or boolean is taken as it is spelled.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Other(serde_json::Value),
}

impl Text {
    fn into_string(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Other(value) => value.to_string(),
        }
    }
}

impl Ask {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Unread`].
    pub fn read(path: &str, body: &[u8]) -> Result<Self, Unread> {
        match path {
            "/Plugin.Activate" => return Ok(Self::Activate),
            "/VolumeDriver.Capabilities" => return Ok(Self::Capabilities),
            "/VolumeDriver.List" => return Ok(Self::List),
            _ => {}
        }
        let make: fn(Named) -> Self = match path {
            "/VolumeDriver.Create" => |named| Self::Create {
                name: named.name.unwrap_or_default(),
                options: named
                    .opts
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, value)| (key, value.map(Text::into_string).unwrap_or_default()))
                    .collect(),
            },
            "/VolumeDriver.Remove" => |named| Self::Remove(named.name.unwrap_or_default()),
            "/VolumeDriver.Get" => |named| Self::Get(named.name.unwrap_or_default()),
            "/VolumeDriver.Path" => |named| Self::Path(named.name.unwrap_or_default()),
            "/VolumeDriver.Mount" => |named| Self::Mount {
                name: named.name.unwrap_or_default(),
                id: named.id.unwrap_or_default(),
            },
            "/VolumeDriver.Unmount" => |named| Self::Unmount {
                name: named.name.unwrap_or_default(),
                id: named.id.unwrap_or_default(),
            },
            _ => return Err(Unread::UnknownPath),
        };
        match body.trim_ascii().first() {
            None => return Err(Unread::EmptyBody),
            Some(b'{') => {}
            // The decoder would take a list for the fields in order.
            Some(_) => return Err(Unread::Malformed("expected a JSON object".into())),
        }
        serde_json::from_slice(body)
            .map(make)
            .map_err(|e| Unread::Malformed(e.to_string()))
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Mountpoint {
    mountpoint: String,
    err: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct One<'a> {
    volume: &'a View,
    err: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Many<'a> {
    volumes: Vec<Listed<'a>>,
    err: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed<'a> {
    name: &'a str,
    mountpoint: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Failed<'a> {
    err: &'a str,
}

/// `{"Implements":["VolumeDriver"]}`
pub const ACTIVATED: &[u8] = b"{\"Implements\":[\"VolumeDriver\"]}\n";

/// Scope `global`: a volume exists once for all nodes.
pub const CAPABILITIES: &[u8] = b"{\"Capabilities\":{\"Scope\":\"global\"},\"Err\":\"\"}\n";

/// Success without a result.
pub const DONE: &[u8] = b"{\"Err\":\"\"}\n";

fn json(answer: &impl Serialize) -> Vec<u8> {
    let mut bytes =
        serde_json::to_vec(answer).expect("plain structs of texts and numbers always serialise");
    bytes.push(b'\n');
    bytes
}

/// Where the data is.
#[must_use]
pub fn mountpoint(path: &Path) -> Vec<u8> {
    json(&Mountpoint {
        mountpoint: utf8(path),
        err: "",
    })
}

/// One volume.
#[must_use]
pub fn volume(view: &View) -> Vec<u8> {
    json(&One {
        volume: view,
        err: "",
    })
}

/// All volumes. Without `Status`: Docker shows it for one volume only.
#[must_use]
pub fn volumes(views: &[View]) -> Vec<u8> {
    let volumes = views
        .iter()
        .map(|view| Listed {
            name: &view.name,
            mountpoint: &view.mountpoint,
            created_at: view.created_at.as_deref(),
        })
        .collect();
    json(&Many { volumes, err: "" })
}

/// An error for the person at the other end.
#[must_use]
pub fn error(text: &str) -> Vec<u8> {
    json(&Failed { err: text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_absent_options_are_none() {
        for body in [r#"{"Name":"v","Opts":null}"#, r#"{"Name":"v"}"#] {
            assert_eq!(
                Ask::read("/VolumeDriver.Create", body.as_bytes()),
                Ok(Ask::Create {
                    name: "v".into(),
                    options: BTreeMap::new()
                })
            );
        }
    }

    #[test]
    fn an_empty_body_is_told_from_an_empty_name() {
        assert_eq!(
            Ask::read("/VolumeDriver.Get", b"{\"Name\":\"\"}\n"),
            Ok(Ask::Get(String::new()))
        );
        for body in [&b""[..], b"\n"] {
            assert_eq!(Ask::read("/VolumeDriver.Get", body), Err(Unread::EmptyBody));
        }
        for path in ["/VolumeDriver.List", "/VolumeDriver.Capabilities"] {
            assert!(Ask::read(path, b"").is_ok(), "{path}");
        }
    }

    #[test]
    fn errors_and_successes_have_the_documented_form() {
        assert_eq!(error("no\n\"way\""), b"{\"Err\":\"no\\n\\\"way\\\"\"}\n");
        assert_eq!(
            mountpoint(Path::new("/mnt/vdvs/x/data")),
            b"{\"Mountpoint\":\"/mnt/vdvs/x/data\",\"Err\":\"\"}\n"
        );
        assert_eq!(volumes(&[]), b"{\"Volumes\":[],\"Err\":\"\"}\n");
    }

    #[test]
    fn no_bytes_make_the_parser_panic() {
        for body in [
            &b"{"[..],
            b"[]",
            b"null",
            b"\xff\xfe",
            b"{\"Name\":3}",
            b"{\"Opts\":[]}",
        ] {
            assert!(matches!(
                Ask::read("/VolumeDriver.Create", body),
                Err(Unread::Malformed(_))
            ));
        }
    }
}
