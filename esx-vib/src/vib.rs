//! The package itself.

use std::str;

use jiff::Timestamp;

use crate::descriptor::{
    Acceptance, Checksum, Constraint, Descriptor, PayloadInfo, Relationships, Version,
};
use crate::error::{BuildError, ReadError};
use crate::tar::{self, NewEntry};
use crate::{ar, digest, gzip};

/// Largest package that is read.
pub const MOST_BYTES: u64 = 64 * 1024 * 1024;
/// Names of the first two files.
pub const DESCRIPTOR: &str = "descriptor.xml";
/// Empty when nobody signed.
pub const SIGNATURE: &str = "sig.pkcs7";

const WHAT: &str = "the package";

/// A file to be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Relative to the root.
    pub path: String,
    /// Permissions and sticky bit.
    pub mode: u32,
    /// The content.
    pub data: Vec<u8>,
}

/// What the package says about itself, before its content is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The package's name, also its payload's: at most eight small letters, for the boot bank's file system.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Who made it.
    pub vendor: String,
    /// One line.
    pub summary: String,
    /// More lines.
    pub description: String,
    /// Seconds since 1970.
    pub released: i64,
    /// How far a host has to trust it.
    pub acceptance: Acceptance,
    /// What must be there.
    pub depends: Vec<Constraint>,
    /// What must not be there.
    pub conflicts: Vec<Constraint>,
}

/// A package that is complete but for its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// What a signature is made over.
    pub descriptor: Vec<u8>,
    name: String,
    payload: Vec<u8>,
    acceptance: Acceptance,
}

/// Packs the files.
///
/// # Errors
/// [`BuildError`] for names, versions and dates that are none.
pub fn pack(about: &About, files: &[File]) -> Result<Unsigned, BuildError> {
    let About { name, .. } = about;
    let small = name
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !(small && (1..=8).contains(&name.len())) {
        return Err(BuildError::Name {
            what: "a payload",
            name: name.clone(),
            why: "it takes 1 to 8 small letters and digits",
        });
    }
    let mut files: Vec<&File> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let archive = archive(&files)?;
    let payload = gzip::pack(&archive);
    let descriptor = Descriptor {
        kind: "bootbank".to_owned(),
        name: name.clone(),
        version: about.version.to_string(),
        vendor: about.vendor.clone(),
        summary: about.summary.clone(),
        description: about.description.clone(),
        release_date: date(about.released)?,
        urls: Vec::new(),
        relationships: Relationships {
            depends: about.depends.clone(),
            conflicts: about.conflicts.clone(),
            ..Relationships::default()
        },
        tags: vec!["service".to_owned()],
        maintenance_mode: false,
        files: files.iter().map(|file| file.path.clone()).collect(),
        acceptance: about.acceptance.text().to_owned(),
        live_install: true,
        live_remove: true,
        cimom_restart: false,
        stateless_ready: true,
        overlay: false,
        payloads: vec![PayloadInfo {
            name: name.clone(),
            kind: "tgz".to_owned(),
            size: payload.len() as u64,
            checksums: checksums(&payload, &archive),
        }],
    };
    Ok(Unsigned {
        descriptor: descriptor.render().into_bytes(),
        name: name.clone(),
        payload,
        acceptance: about.acceptance,
    })
}

impl Unsigned {
    /// Puts the package together. An empty signature is none.
    ///
    /// # Errors
    /// [`BuildError::Unsigned`] when the acceptance level needs a signature.
    pub fn sign(&self, signature: &[u8]) -> Result<Vec<u8>, BuildError> {
        if signature.is_empty() && self.acceptance != Acceptance::Community {
            return Err(BuildError::Unsigned(self.acceptance.text()));
        }
        ar::write(&[
            (DESCRIPTOR, &self.descriptor),
            (SIGNATURE, signature),
            (&self.name, &self.payload),
        ])
    }
}

/// Packs and puts together.
///
/// # Errors
/// [`BuildError`].
pub fn build(about: &About, files: &[File], signature: &[u8]) -> Result<Vec<u8>, BuildError> {
    pack(about, files)?.sign(signature)
}

/// The three that hosts ask for, from 6.7 to 9.
fn checksums(packed: &[u8], unpacked: &[u8]) -> Vec<Checksum> {
    let sum = |kind: &str, process: Option<&str>, hex| Checksum {
        kind: kind.to_owned(),
        process: process.map(str::to_owned),
        hex,
    };
    vec![
        sum("sha-256", None, digest::sha256(packed)),
        sum("sha-256", Some("gunzip"), digest::sha256(unpacked)),
        sum("sha-1", Some("gunzip"), digest::sha1(unpacked)),
    ]
}

/// The files in order, each folder before what is in it.
fn archive(files: &[&File]) -> Result<Vec<u8>, BuildError> {
    let mut folders: Vec<String> = files
        .iter()
        .flat_map(|file| {
            file.path
                .match_indices('/')
                .filter_map(|(at, _)| Some(file.path.get(..=at)?.to_owned()))
        })
        .collect();
    folders.sort();
    folders.dedup();
    let folders = folders.iter().map(|path| NewEntry {
        path,
        mode: 0o755,
        data: &[],
    });
    let files = files.iter().map(|file| NewEntry {
        path: &file.path,
        mode: file.mode,
        data: &file.data,
    });
    let mut entries: Vec<NewEntry<'_>> = folders.chain(files).collect();
    entries.sort_by(|a, b| a.path.cmp(b.path));
    tar::write(&entries)
}

/// A moment as descriptors write it.
pub(crate) fn date(seconds: i64) -> Result<String, BuildError> {
    let moment = Timestamp::from_second(seconds).map_err(|_| BuildError::Value {
        what: "release date",
        value: seconds.to_string(),
        why: "it is a number of seconds since 1970",
    })?;
    Ok(moment.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string())
}

/// A payload as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// What the descriptor says of it; every checksum there was found right.
    pub info: PayloadInfo,
    /// Its files and folders. Empty for kinds that are no archives.
    pub entries: Vec<tar::Entry>,
}

/// A package as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vib {
    /// What it says about itself.
    pub descriptor: Descriptor,
    /// The same, as it stands in the archive: what a signature is made over.
    pub descriptor_xml: String,
    /// Empty: nobody signed.
    pub signature: Vec<u8>,
    /// Payloads, in the archive's order.
    pub payloads: Vec<Payload>,
}

impl Vib {
    /// Reads a package and compares all its checksums. The signature is not judged: who may sign is the host's business.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        if bytes.len() as u64 > MOST_BYTES {
            return Err(ReadError::TooLarge {
                what: WHAT,
                bytes: bytes.len() as u64,
                most: MOST_BYTES,
            });
        }
        let members = ar::read(bytes)?;
        let [descriptor, signature, payloads @ ..] = &members[..] else {
            return Err(missing("descriptor and signature"));
        };
        for (member, name) in [(descriptor, DESCRIPTOR), (signature, SIGNATURE)] {
            if member.name != name {
                return Err(missing(&format!("{name} in its place")));
            }
        }
        let text = str::from_utf8(descriptor.data)
            .map_err(|_| ReadError::malformed(DESCRIPTOR, "it is not UTF-8 text"))?;
        let parsed = Descriptor::parse(descriptor.data)?;
        if parsed.payloads.len() != payloads.len() {
            let (said, found) = (parsed.payloads.len(), payloads.len());
            return Err(differs("the package", "number of payloads", said, found));
        }
        let payloads = parsed
            .payloads
            .iter()
            .zip(payloads)
            .map(|(info, member)| payload(info, member))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            descriptor: parsed,
            descriptor_xml: text.to_owned(),
            signature: signature.data.to_vec(),
            payloads,
        })
    }

    /// Every file and folder of all payloads.
    pub fn entries(&self) -> impl Iterator<Item = &tar::Entry> {
        self.payloads.iter().flat_map(|payload| &payload.entries)
    }

    /// The file of that name.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&tar::Entry> {
        self.entries()
            .find(|entry| entry.path == path && entry.kind == tar::Kind::File)
    }
}

fn payload(info: &PayloadInfo, member: &ar::Member<'_>) -> Result<Payload, ReadError> {
    if info.name != member.name {
        return Err(missing(&format!("payload {} in its place", info.name)));
    }
    let name = format!("payload {}", info.name);
    let found = member.data.len() as u64;
    if info.size != found {
        return Err(differs(&name, "size", info.size, found));
    }
    let archive = ["tgz", "vgz"].contains(&info.kind.as_str());
    let packed = archive || info.checksums.iter().any(|sum| sum.process.is_some());
    let unpacked = match packed {
        true => gzip::unpack(member.data)?,
        false => Vec::new(),
    };
    for sum in &info.checksums {
        let bytes = match sum.process.as_deref() {
            None => member.data,
            Some("gunzip") => &unpacked,
            Some(other) => {
                let why = format!("nobody knows how to verify by '{other}'");
                return Err(ReadError::malformed(DESCRIPTOR, why));
            }
        };
        let found = match sum.kind.as_str() {
            "sha-256" => digest::sha256(bytes),
            "sha-1" => digest::sha1(bytes),
            other => {
                let why = format!("'{other}' is no kind of checksum");
                return Err(ReadError::malformed(DESCRIPTOR, why));
            }
        };
        if !sum.hex.eq_ignore_ascii_case(&found) {
            return Err(differs(&name, &sum.kind, &sum.hex, found));
        }
    }
    let entries = match archive {
        true => tar::read(&unpacked)?,
        false => Vec::new(),
    };
    Ok(Payload {
        info: info.clone(),
        entries,
    })
}

fn missing(part: &str) -> ReadError {
    ReadError::Missing {
        what: WHAT,
        part: part.to_owned(),
    }
}

fn differs(what: &str, kind: &str, said: impl ToString, found: impl ToString) -> ReadError {
    ReadError::Differs {
        what: what.to_owned(),
        kind: kind.to_owned(),
        found: found.to_string(),
        said: said.to_string(),
    }
}

#[cfg(test)]
mod tests;
