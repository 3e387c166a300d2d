//! What fuzzers check of this crate (`docs/fuzzing.md`). Each function panics when a promise does not hold.

use serde_json::json;

use crate::agent::ordered::fuzzing::ordered;
use crate::docker::wire::{self, Ask, Unread};
use crate::journal;

/// The journal's files.
pub fn journal(bytes: &[u8]) {
    journal::journal(bytes);
}

const PATHS: [&str; 9] = [
    "/Plugin.Activate",
    "/VolumeDriver.Capabilities",
    "/VolumeDriver.List",
    "/VolumeDriver.Create",
    "/VolumeDriver.Remove",
    "/VolumeDriver.Get",
    "/VolumeDriver.Path",
    "/VolumeDriver.Mount",
    "/VolumeDriver.Unmount",
];

/// Requests of Docker, `<path>\n<body>`, and the body at every other path too: an absent body is told from every other,
/// what is asked is asked again the same in Docker's own spelling, and every refusal is one JSON object. The options of a
/// Create are read as those of a volume are.
pub fn docker_requests(bytes: &[u8]) {
    let cut = bytes
        .iter()
        .position(|b| *b == b'\n')
        .unwrap_or(bytes.len());
    let (path, body) = bytes.split_at(cut);
    let body = body.strip_prefix(b"\n").unwrap_or(body);
    if let Ok(path) = str::from_utf8(path) {
        let known = PATHS.contains(&path);
        assert_eq!(Ask::read(path, body) == Err(Unread::UnknownPath), !known);
    }
    for (number, path) in PATHS.into_iter().enumerate() {
        match Ask::read(path, body) {
            Ok(ask) if number < 3 => assert_eq!(Ask::read(path, b""), Ok(ask)),
            Ok(ask) => {
                if let Ask::Create { options, .. } = &ask {
                    ordered(options);
                }
                assert_eq!(Ask::read(path, &spelled(&ask)), Ok(ask));
            }
            Err(Unread::EmptyBody) => assert!(body.trim_ascii().is_empty()),
            Err(Unread::Malformed(why)) => refusal(&why),
            Err(Unread::UnknownPath) => panic!("{path} is known"),
        }
    }
}

fn spelled(ask: &Ask) -> Vec<u8> {
    let body = match ask {
        Ask::Activate | Ask::Capabilities | Ask::List => return Vec::new(),
        Ask::Create { name, options } => json!({"Name": name, "Opts": options}),
        Ask::Remove(name) | Ask::Get(name) | Ask::Path(name) => json!({"Name": name}),
        Ask::Mount { name, id } | Ask::Unmount { name, id } => json!({"Name": name, "ID": id}),
    };
    body.to_string().into_bytes()
}

fn refusal(why: &str) {
    let written = wire::error(why);
    let read: serde_json::Value =
        serde_json::from_slice(&written).expect("an answer is one JSON object");
    assert_eq!(read, json!({"Err": why}));
}

#[cfg(test)]
mod tests {
    use vdvs_corpus::check;

    #[test]
    fn any_request_of_dockers_is_refused_or_has_one_meaning() {
        check("docker_requests", super::docker_requests);
    }

    #[test]
    fn any_journal_is_read_as_far_as_it_is_sound() {
        check("journal", super::journal);
    }
}
