//! Reading, for bytes of others.

use std::str;

use super::{BLOCK, Dialect, Entry, Kind, MODES};
use crate::error::ReadError;

/// More than any package has, by far.
pub const MOST_ENTRIES: usize = 10_000;

const WHAT: &str = "the payload's archive";

/// Reads an archive to its end mark.
///
/// # Errors
/// [`ReadError`]. An archive without end mark is one that was cut.
pub fn read(bytes: &[u8]) -> Result<Vec<Entry>, ReadError> {
    let mut entries = Vec::new();
    let mut at = 0;
    // Together never more than there is, however many headers point at the same data.
    let mut left = bytes.len();
    loop {
        let block = part(bytes, at, BLOCK)?;
        at += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(entries);
        }
        if entries.len() == MOST_ENTRIES {
            return Err(ReadError::TooMany {
                what: WHAT,
                most: MOST_ENTRIES,
            });
        }
        let header = Header::read(block)?;
        let data = match header.elsewhere {
            Some(place) => part(bytes, place, header.size)?,
            None => {
                let data = part(bytes, at, header.size)?;
                // The last block may lack its padding; what follows it then is missing anyway.
                at = at.saturating_add(header.size.next_multiple_of(BLOCK));
                data
            }
        };
        left = left
            .checked_sub(data.len())
            .ok_or_else(|| ReadError::malformed(WHAT, "entries share their content"))?;
        entries.push(Entry {
            data: data.to_vec(),
            ..header.entry
        });
    }
}

fn part(bytes: &[u8], at: usize, size: usize) -> Result<&[u8], ReadError> {
    let end = at.checked_add(size);
    end.and_then(|end| bytes.get(at..end))
        .ok_or(ReadError::Truncated { what: WHAT })
}

struct Header {
    entry: Entry,
    size: usize,
    /// Where a visor archive has the data.
    elsewhere: Option<usize>,
}

impl Header {
    fn read(block: &[u8]) -> Result<Self, ReadError> {
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| match at {
                148..156 => u64::from(b' '),
                _ => u64::from(*byte),
            })
            .sum();
        if number(part(block, 148, 8)?)? != sum {
            return Err(ReadError::malformed(WHAT, "a header's checksum is wrong"));
        }
        let dialect = match part(block, 257, 8)? {
            b"ustar\x0000" => Dialect::Ustar,
            b"ustar  \0" => Dialect::Gnu,
            magic if magic.starts_with(b"visor  ") => Dialect::Visor,
            _ => Dialect::Old,
        };
        let mut path = text(part(block, 0, 100)?)?;
        if dialect == Dialect::Ustar {
            let prefix = text(part(block, 345, 155)?)?;
            if !prefix.is_empty() {
                path = format!("{prefix}/{path}");
            }
        }
        let kind = match block.get(156).copied().unwrap_or_default() {
            b'0' | 0 if path.ends_with('/') => Kind::Folder,
            b'0' | 0 => Kind::File,
            b'5' => Kind::Folder,
            b'2' => Kind::Link(text(part(block, 157, 100)?)?),
            other => Kind::Other(other),
        };
        let size = number(part(block, 124, 12)?)?;
        let size = usize::try_from(size).map_err(|_| ReadError::Truncated { what: WHAT })?;
        let mode = number(part(block, 100, 8)?)? & u64::from(MODES);
        let entry = Entry {
            kind,
            mode: u32::try_from(mode).unwrap_or_default(),
            owner: (number(part(block, 108, 8)?)?, number(part(block, 116, 8)?)?),
            changed: number(part(block, 136, 12)?)?,
            dialect,
            data: Vec::new(),
            path,
        };
        let elsewhere = match dialect {
            Dialect::Visor => Some(little_endian(part(block, 496, 4)?)).filter(|at| *at != 0),
            _ => None,
        };
        // Links and folders have no content, whatever they say.
        let has_data = !matches!(entry.kind, Kind::Folder | Kind::Link(_));
        Ok(Self {
            size: if has_data { size } else { 0 },
            entry,
            elsewhere,
        })
    }
}

/// Text up to the first zero byte.
fn text(field: &[u8]) -> Result<String, ReadError> {
    let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    let text = field.get(..end).unwrap_or_default();
    str::from_utf8(text)
        .map(str::to_owned)
        .map_err(|_| ReadError::malformed(WHAT, "a name is no text"))
}

/// Octal digits between blanks and zero bytes; nothing is zero.
fn number(field: &[u8]) -> Result<u64, ReadError> {
    let wrong = || ReadError::malformed(WHAT, format!("'{}' is no number", field.escape_ascii()));
    let digits = text(field).map_err(|_| wrong())?;
    match digits.trim_matches(' ') {
        "" => Ok(0),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            u64::from_str_radix(digits, 8).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

fn little_endian(bytes: &[u8]) -> usize {
    let value = bytes
        .iter()
        .rev()
        .fold(0_u32, |value, byte| (value << 8) | u32::from(*byte));
    usize::try_from(value).unwrap_or(usize::MAX)
}
