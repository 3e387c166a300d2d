//! The descriptor: a small text file that says what kind of disk this is and which files hold its bytes.
//!
//! ```text
//! # Disk DescriptorFile
//! version=1
//! CID=4f2a91c3
//! parentCID=ffffffff
//! createType="vmfs"
//!
//! # Extent description
//! RW 2097152 VMFS "vol-flat.vmdk"
//!
//! # The Disk Data Base
//! #DDB
//!
//! ddb.adapterType = "lsilogic"
//! ```
//!
//! Invariants: parsing never panics and reads at most [`MAX_BYTES`]; every key, known or not, survives
//! parse → write in its place; a key that appears twice is an error, because two readers would disagree about it.
//! Comments are not kept. Text is UTF-8.

use std::fmt;
use std::fmt::Write as _;

use vdvs_domain::Capacity;
use vdvs_domain::capacity::CapacityError;

/// Longest descriptor read. Real ones are below 1 KiB; the original took anything above 5,000 bytes for data.
pub const MAX_BYTES: usize = 64 * 1024;

/// What a parent CID of a disk without parent reads.
const NO_PARENT: u32 = u32::MAX;
const SIGNATURE: &str = "# Disk DescriptorFile";
const DDB: &str = "ddb.";

/// Why bytes are not a descriptor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// More than [`MAX_BYTES`].
    #[error("a descriptor of {0} bytes is longer than the {MAX_BYTES} that are read")]
    TooLong(usize),
    /// Not text.
    #[error("not UTF-8 text")]
    NotText,
    /// The first line is something else.
    #[error("does not begin with '{SIGNATURE}'")]
    NoSignature,
    /// A line that is neither comment, key nor extent.
    #[error("line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// One key, two values.
    #[error("key '{0}' appears twice")]
    Duplicate(String),
    /// A key without which the rest means nothing.
    #[error("key '{0}' is missing")]
    Missing(&'static str),
    /// A known key with a value of the wrong form.
    #[error("key '{0}' has a malformed value")]
    Malformed(&'static str),
    /// No extent line.
    #[error("names no extent")]
    NoExtent,
    /// The extents' sizes cannot be added up.
    #[error("the extents are larger than any disk")]
    Overflow,
}

/// `key = value` as it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    key: String,
    value: String,
    quoted: bool,
}

/// How an extent may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentAccess {
    /// `RW`
    ReadWrite,
    /// `RDONLY`
    ReadOnly,
    /// `NOACCESS`
    None,
}

impl ExtentAccess {
    const ALL: [(Self, &str); 3] = [
        (Self::ReadWrite, "RW"),
        (Self::ReadOnly, "RDONLY"),
        (Self::None, "NOACCESS"),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, w)| *w == word).map(|(a, _)| *a)
    }

    fn word(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(a, _)| *a == self)
            .map_or("NOACCESS", |(_, w)| w)
    }
}

/// How an extent file stores its sectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExtentKind {
    /// `VMFS`: raw bytes, what we write.
    Vmfs,
    /// `FLAT`: raw bytes, as hosted products write it.
    Flat,
    /// Any other word (`SPARSE`, `SESPARSE`, `VMFSRDM`, …): kept, never read.
    Other(String),
}

impl ExtentKind {
    fn parse(word: &str) -> Self {
        match word {
            "VMFS" => Self::Vmfs,
            "FLAT" => Self::Flat,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Byte *n* of the extent file is byte *n* of the extent.
    #[must_use]
    pub fn is_raw(&self) -> bool {
        matches!(self, Self::Vmfs | Self::Flat)
    }
}

impl fmt::Display for ExtentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmfs => "VMFS",
            Self::Flat => "FLAT",
            Self::Other(word) => word,
        })
    }
}

/// One line `RW 2097152 VMFS "vol-flat.vmdk"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// How it may be used.
    pub access: ExtentAccess,
    /// Its length in sectors of 512 bytes.
    pub sectors: u64,
    /// How it stores them.
    pub kind: ExtentKind,
    /// File name, or an object's URL. Empty for kinds without a file (`ZERO`).
    pub name: String,
    /// Where in the file it begins, in sectors, when the line says so.
    pub offset: Option<u64>,
}

/// A parsed descriptor. See the module for what survives parse → write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    header: Vec<Entry>,
    extents: Vec<Extent>,
    ddb: Vec<Entry>,
    cid: u32,
    parent_cid: u32,
    sectors: u64,
}

impl Descriptor {
    /// Reads a descriptor.
    ///
    /// # Errors
    /// [`ParseError`] for anything that is not one; never panics, whatever the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > MAX_BYTES {
            return Err(ParseError::TooLong(bytes.len()));
        }
        let text = str::from_utf8(bytes).map_err(|_| ParseError::NotText)?;
        // Descriptors cut out of sparse files come padded with zeros.
        let mut lines = text.trim_end_matches('\0').lines().enumerate();
        match lines.next() {
            Some((_, first)) if first.trim().eq_ignore_ascii_case(SIGNATURE) => {}
            _ => return Err(ParseError::NoSignature),
        }
        let (mut header, mut extents, mut ddb) = (Vec::new(), Vec::new(), Vec::new());
        for (index, raw) in lines {
            let at = |what| ParseError::Line {
                line: index + 1,
                what,
            };
            let line = raw.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(extent) = parse_extent(line).map_err(at)? {
                extents.push(extent);
                continue;
            }
            let entry = parse_entry(line).map_err(at)?;
            let section = if entry.key.starts_with(DDB) {
                &mut ddb
            } else {
                &mut header
            };
            if section.iter().any(|e: &Entry| e.key == entry.key) {
                return Err(ParseError::Duplicate(entry.key));
            }
            section.push(entry);
        }
        Self::assemble(header, extents, ddb)
    }

    fn assemble(
        header: Vec<Entry>,
        extents: Vec<Extent>,
        ddb: Vec<Entry>,
    ) -> Result<Self, ParseError> {
        let cid = hex32(&header, "CID")?.ok_or(ParseError::Missing("CID"))?;
        let parent_cid = hex32(&header, "parentCID")?.unwrap_or(NO_PARENT);
        lookup(&header, "createType").ok_or(ParseError::Missing("createType"))?;
        if extents.is_empty() {
            return Err(ParseError::NoExtent);
        }
        let sectors = extents
            .iter()
            .try_fold(0u64, |sum, e| sum.checked_add(e.sectors))
            .ok_or(ParseError::Overflow)?;
        sectors.checked_mul(512).ok_or(ParseError::Overflow)?;
        Ok(Self {
            header,
            extents,
            ddb,
            cid,
            parent_cid,
            sectors,
        })
    }

    /// A descriptor from scratch. `header` and `ddb` values must hold neither quotes nor line ends.
    pub(crate) fn build(
        header: &[(&str, &str, bool)],
        extent: Extent,
        ddb: &[(&str, &str)],
    ) -> Result<Self, ParseError> {
        let entry = |key: &str, value: &str, quoted| Entry {
            key: key.to_owned(),
            value: value.to_owned(),
            quoted,
        };
        Self::assemble(
            header.iter().map(|(k, v, q)| entry(k, v, *q)).collect(),
            vec![extent],
            ddb.iter()
                .map(|(k, v)| entry(&format!("{DDB}{k}"), v, true))
                .collect(),
        )
    }

    /// The text, as it goes to disk.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("{SIGNATURE}\n");
        for entry in &self.header {
            let quote = if entry.quoted { "\"" } else { "" };
            text.push_str(&format!("{}={quote}{}{quote}\n", entry.key, entry.value));
        }
        text.push_str("\n# Extent description\n");
        for e in &self.extents {
            text.push_str(&format!(
                "{} {} {} \"{}\"",
                e.access.word(),
                e.sectors,
                e.kind,
                e.name
            ));
            if let Some(offset) = e.offset {
                text.push_str(&format!(" {offset}"));
            }
            text.push('\n');
        }
        text.push_str("\n# The Disk Data Base\n#DDB\n\n");
        for entry in &self.ddb {
            let quote = if entry.quoted { "\"" } else { "" };
            text.push_str(&format!("{} = {quote}{}{quote}\n", entry.key, entry.value));
        }
        text
    }

    /// The content id: changes when the content does, so that a child can tell.
    #[must_use]
    pub fn cid(&self) -> u32 {
        self.cid
    }

    /// The content id this disk's parent had, for a snapshot's child.
    #[must_use]
    pub fn parent_cid(&self) -> Option<u32> {
        (self.parent_cid != NO_PARENT).then_some(self.parent_cid)
    }

    /// `createType`, for example `vmfs`.
    #[must_use]
    pub fn create_type(&self) -> &str {
        self.header("createType").unwrap_or_default()
    }

    /// A key of the first section.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<&str> {
        lookup(&self.header, key)
    }

    /// A key of the disk data base, without the prefix `ddb.`.
    #[must_use]
    pub fn ddb(&self, key: &str) -> Option<&str> {
        self.ddb
            .iter()
            .find(|e| e.key.strip_prefix(DDB) == Some(key))
            .map(|e| e.value.as_str())
    }

    /// The extents in the order in which they make up the disk; at least one.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// The disk's size: the sum of its extents.
    ///
    /// # Errors
    /// When it is outside the limits of a disk.
    pub fn capacity(&self) -> Result<Capacity, CapacityError> {
        // `assemble` has checked the product.
        Capacity::from_bytes(self.sectors.saturating_mul(512))
    }

    /// The one raw extent of an ordinary disk; nothing for chains, split or sparse disks.
    #[must_use]
    pub fn flat_extent(&self) -> Option<&Extent> {
        match self.extents.as_slice() {
            [e] if e.kind.is_raw() && e.offset.unwrap_or(0) == 0 && self.parent_cid().is_none() => {
                Some(e)
            }
            _ => None,
        }
    }
}

fn lookup<'a>(entries: &'a [Entry], key: &str) -> Option<&'a str> {
    entries
        .iter()
        .find(|e| e.key == key)
        .map(|e| e.value.as_str())
}

fn hex32(entries: &[Entry], key: &'static str) -> Result<Option<u32>, ParseError> {
    let Some(value) = lookup(entries, key) else {
        return Ok(None);
    };
    if value.len() > 8 || !value.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ParseError::Malformed(key));
    }
    u32::from_str_radix(value, 16)
        .map(Some)
        .map_err(|_| ParseError::Malformed(key))
}

/// `Ok(None)`: not an extent line.
fn parse_extent(line: &str) -> Result<Option<Extent>, &'static str> {
    let Some((word, rest)) = line.split_once([' ', '\t']) else {
        return Ok(None);
    };
    let Some(access) = ExtentAccess::parse(word) else {
        return Ok(None);
    };
    let (sectors, rest) = rest
        .trim_start()
        .split_once([' ', '\t'])
        .ok_or("extent without type")?;
    let sectors = decimal(sectors).ok_or("extent with a malformed length")?;
    let rest = rest.trim();
    let (kind, rest) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    if kind.is_empty() || !kind.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err("extent with a malformed type");
    }
    let kind = ExtentKind::parse(kind);
    let rest = rest.trim();
    let (name, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted
            .split_once('"')
            .ok_or("extent name without closing quote")?,
        None if rest.is_empty() => ("", ""),
        None => return Err("extent name without quotes"),
    };
    if kind.is_raw() && name.is_empty() {
        return Err("extent without a file name");
    }
    let offset = match rest.trim() {
        "" => None,
        number => Some(decimal(number).ok_or("extent with a malformed offset")?),
    };
    Ok(Some(Extent {
        access,
        sectors,
        kind,
        name: name.to_owned(),
        offset,
    }))
}

/// Digits only: `u64::from_str` would also take a sign.
fn decimal(text: &str) -> Option<u64> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

fn parse_entry(line: &str) -> Result<Entry, &'static str> {
    let (key, value) = line.split_once('=').ok_or("neither a key nor an extent")?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() || key.contains(['"', ' ', '\t']) {
        return Err("malformed key");
    }
    let (value, quoted) = match value.strip_prefix('"') {
        Some(rest) => (
            rest.strip_suffix('"')
                .ok_or("value without closing quote")?,
            true,
        ),
        None => (value, false),
    };
    if value.contains('"') {
        return Err("value with a quote inside");
    }
    Ok(Entry {
        key: key.to_owned(),
        value: value.to_owned(),
        quoted,
    })
}

/// The sixteen bytes as the disk data base writes them: `60 00 C2 9a bc …-…`.
pub(crate) fn ddb_uuid(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(47);
    for (i, b) in bytes.iter().enumerate() {
        match i {
            0 => {}
            8 => text.push('-'),
            _ => text.push(' '),
        }
        write!(text, "{b:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// Reads what [`ddb_uuid`] writes, in either case.
pub(crate) fn parse_ddb_uuid(text: &str) -> Option<[u8; 16]> {
    let mut bytes = [0u8; 16];
    let mut words = text.split([' ', '-']);
    for slot in &mut bytes {
        let word = words.next().filter(|w| w.len() == 2 && w.is_ascii())?;
        *slot = u8::from_str_radix(word, 16).ok()?;
    }
    words.next().is_none().then_some(bytes)
}

#[cfg(test)]
#[path = "descriptor_tests.rs"]
mod tests;
