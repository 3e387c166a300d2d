//! The outer archive.
//!
//! Written as VMware's own tool does it: names padded with blanks, without the `/` that GNU adds, and all numbers zero.
//! Both forms are read. An archive is read without copying; what its headers promise must be there.

use std::str;

use crate::error::{BuildError, ReadError};

const WHAT: &str = "the archive";
const MAGIC: &[u8] = b"!<arch>\n";
const END: &[u8] = b"`\n";
/// A descriptor, a signature, and far more payloads than any package has.
const MOST_MEMBERS: usize = 64;
const NAME: usize = 16;
const HEADER: usize = 60;

/// One file of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether the name ends in `/`, as GNU writes it.
    pub slashed: bool,
    /// Whether time, owner and mode are all zero.
    pub plain: bool,
    /// What is in it.
    pub data: &'a [u8],
}

/// Writes an archive.
///
/// # Errors
/// [`BuildError`] for a name that does not fit.
pub fn write(members: &[(&str, &[u8])]) -> Result<Vec<u8>, BuildError> {
    let mut out = MAGIC.to_vec();
    for (name, data) in members {
        let fits = (1..=NAME).contains(&name.len());
        let plain = name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if !(fits && plain) {
            return Err(BuildError::Name {
                what: "a file of the archive",
                name: (*name).to_owned(),
                why: "it takes 1 to 16 characters, without blanks and '/'",
            });
        }
        let size = data.len();
        let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 0);
        if header.len() != HEADER {
            return Err(BuildError::TooLarge {
                what: (*name).to_owned(),
            });
        }
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data);
        if size % 2 == 1 {
            out.push(b'\n');
        }
    }
    Ok(out)
}

/// Reads an archive.
///
/// # Errors
/// [`ReadError`].
pub fn read(bytes: &[u8]) -> Result<Vec<Member<'_>>, ReadError> {
    let mut rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| ReadError::malformed(WHAT, "it does not begin like an ar archive"))?;
    let mut members = Vec::new();
    while !rest.is_empty() {
        if members.len() == MOST_MEMBERS {
            return Err(ReadError::TooMany {
                what: WHAT,
                most: MOST_MEMBERS,
            });
        }
        let (member, behind) = member(rest)?;
        members.push(member);
        rest = behind;
    }
    Ok(members)
}

fn member(bytes: &[u8]) -> Result<(Member<'_>, &[u8]), ReadError> {
    let cut = ReadError::Truncated { what: WHAT };
    let (header, rest) = bytes.split_at_checked(HEADER).ok_or(cut.clone())?;
    let (fields, end) = header.split_at(HEADER - END.len());
    let text = str::from_utf8(fields).ok().filter(|t| t.is_ascii());
    let text = text.filter(|_| end == END);
    let text = text.ok_or_else(|| ReadError::malformed(WHAT, "a header is none"))?;
    let (name, numbers) = text.split_at(NAME);
    let (others, size) = numbers.split_at(numbers.len() - 10);
    let size: usize = size
        .trim_end()
        .parse()
        .map_err(|_| ReadError::malformed(WHAT, format!("'{size}' is no size")))?;
    let padded = name.trim_end_matches(' ');
    let name = padded.strip_suffix('/').unwrap_or(padded);
    // GNU's table of symbols and of long names; no package has them.
    if name.is_empty() || name.contains('/') {
        return Err(ReadError::malformed(WHAT, format!("'{padded}' is no name")));
    }
    let (data, behind) = rest.split_at_checked(size).ok_or(cut)?;
    let behind = match behind.split_first() {
        Some((_, behind)) if size % 2 == 1 => behind,
        _ => behind,
    };
    let member = Member {
        name,
        slashed: padded.len() != name.len(),
        plain: others.split_ascii_whitespace().all(|n| n == "0"),
        data,
    };
    Ok((member, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = write(&[("descriptor.xml", b"<vib/>x"), ("sig.pkcs7", b"")]).unwrap();
        let header =
            b"!<arch>\ndescriptor.xml  0           0     0     0       7         `\n<vib/>x\n";
        assert!(bytes.starts_with(header), "{}", bytes.escape_ascii());
        let members = read(&bytes).unwrap();
        let names: Vec<_> = members.iter().map(|m| (m.name, m.data)).collect();
        assert_eq!(
            names,
            [("descriptor.xml", &b"<vib/>x"[..]), ("sig.pkcs7", b"")]
        );
        assert!(members.iter().all(|m| m.plain && !m.slashed));
    }

    #[test]
    fn gnus_form_is_read_and_told_apart() {
        let text = "!<arch>\nsig.pkcs7/      1700000000  0     0     100644  2         `\nab";
        let members = read(text.as_bytes()).unwrap();
        let [member] = members[..] else {
            panic!("{members:?}")
        };
        assert!(member.slashed && !member.plain);
        assert_eq!((member.name, member.data), ("sig.pkcs7", &b"ab"[..]));
    }

    #[test]
    fn what_is_cut_or_promises_more_than_there_is_is_refused() {
        let bytes = write(&[("a", b"12345")]).unwrap();
        for end in 1..bytes.len() - 1 {
            let whole = end == MAGIC.len();
            assert_eq!(read(&bytes[..end]).is_ok(), whole, "{end}");
        }
        let long = String::from_utf8(bytes).unwrap().replace("5    ", "99999");
        assert!(matches!(
            read(long.as_bytes()),
            Err(ReadError::Truncated { .. })
        ));
        assert!(write(&[("a name", b"")]).is_err());
        assert!(write(&[("seventeen.letters", b"")]).is_err());
    }
}
