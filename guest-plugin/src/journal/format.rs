//! What the journal's two files hold, in bytes. Pure: how the bytes reach a disk is the store's.
//!
//! ```text
//! held        "vdvs-held 1 <crc32 of the rest, 8 hex digits>\n" + JSON
//! known       "vdvs-known 1\n" + per line "<crc32 of the JSON> <JSON of a Change>\n"
//! ```
//! A log whose last line has no end was cut by a crash: the line is passed over. Anything else that does not fit is damage.

use std::collections::BTreeMap;
use std::io;

use vdvs_domain::VolumeId;

use super::{Change, Held, Known};

const HELD_MAGIC: &str = "vdvs-held 1 ";
const KNOWN_MAGIC: &str = "vdvs-known 1";

/// Adds the line of one change to a log.
///
/// # Errors
/// The change cannot be written as JSON.
pub fn line(into: &mut Vec<u8>, change: &Change) -> io::Result<()> {
    checked(into, &serde_json::to_vec(change)?);
    Ok(())
}

/// A line of the log.
fn checked(into: &mut Vec<u8>, json: &[u8]) {
    into.extend_from_slice(format!("{:08x} ", crc32fast::hash(json)).as_bytes());
    into.extend_from_slice(json);
    into.push(b'\n');
}

/// The file of what is held.
///
/// # Errors
/// It cannot be written as JSON.
pub fn held_bytes(held: &[Held]) -> io::Result<Vec<u8>> {
    Ok(framed(&serde_json::to_vec(held)?))
}

/// A whole log of what is known.
///
/// # Errors
/// It cannot be written as JSON.
pub fn known_bytes(known: &[Known]) -> io::Result<Vec<u8>> {
    let mut bytes = format!("{KNOWN_MAGIC}\n").into_bytes();
    for entry in known {
        line(&mut bytes, &Change::Put(Box::new(entry.clone())))?;
    }
    Ok(bytes)
}

fn framed(json: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{HELD_MAGIC}{:08x}\n", crc32fast::hash(json)).into_bytes();
    bytes.extend_from_slice(json);
    bytes
}

/// Reads the file of what is held.
///
/// # Errors
/// What is wrong with it.
pub fn parse_held(bytes: &[u8]) -> Result<Vec<Held>, String> {
    let end = bytes
        .iter()
        .position(|b| *b == b'\n')
        .ok_or("no first line")?;
    let (head, rest) = bytes.split_at(end);
    let json = rest.get(1..).unwrap_or_default();
    let head = str::from_utf8(head).map_err(|_| "the first line is not text")?;
    let sum = head
        .strip_prefix(HELD_MAGIC)
        .ok_or_else(|| format!("the first line is not '{HELD_MAGIC}'"))?;
    if sum != format!("{:08x}", crc32fast::hash(json)) {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_slice(json).map_err(|e| e.to_string())
}

/// A log, as far as it is sound.
#[derive(Debug)]
pub struct Log {
    /// What it says.
    pub known: Vec<Known>,
    /// So many bytes of it are sound.
    pub good: u64,
    /// What is wrong after them; none: nothing, or a last line that was not finished.
    pub damage: Option<String>,
}

/// Reads as far as it is sound. A last line without its end is a torn write, anything else is damage.
#[must_use]
pub fn parse_known(bytes: &[u8]) -> Log {
    let mut known: BTreeMap<VolumeId, Known> = BTreeMap::new();
    let mut good = 0_u64;
    let mut damage = None;
    for (number, raw) in bytes.split_inclusive(|b| *b == b'\n').enumerate() {
        let Some(text) = raw.strip_suffix(b"\n") else {
            if number == 0 {
                damage = Some("no first line".to_owned());
            }
            break;
        };
        if number == 0 {
            if text != KNOWN_MAGIC.as_bytes() {
                damage = Some(format!("the first line is not '{KNOWN_MAGIC}'"));
                break;
            }
        } else {
            match parse_line(text) {
                Ok(Change::Put(entry)) => drop(known.insert(entry.volume.id, *entry)),
                Ok(Change::Drop(id)) => drop(known.remove(&id)),
                Err(why) => {
                    damage = Some(format!("line {}: {why}", number.saturating_add(1)));
                    break;
                }
            }
        }
        good = good.saturating_add(u64::try_from(raw.len()).unwrap_or(u64::MAX));
    }
    Log {
        known: known.into_values().collect(),
        good,
        damage,
    }
}

fn parse_line(text: &[u8]) -> Result<Change, String> {
    let (sum, json) = text.split_at_checked(9).ok_or("too short")?;
    if sum != format!("{:08x} ", crc32fast::hash(json)).as_bytes() {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_slice(json).map_err(|e| e.to_string())
}

#[cfg(any(test, feature = "fuzzing"))]
#[path = "file_fuzzing.rs"]
pub(crate) mod fuzzing;
