//! What a Linux program needs to start: its loader and its libraries, read from the ELF file itself. Running the
//! machine's `ldd` would execute the file's loader; reading is enough.
//!
//! 64-bit little-endian only, which every machine we build on and for is. A file that is cut short or lies about its
//! offsets is an error, never a panic.

use anyhow::{Context, Result, bail, ensure};

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
/// Where the header says how many program headers there are, of what size, from where on.
const PHOFF: usize = 0x20;
const PHENTSIZE: usize = 0x36;
const PHNUM: usize = 0x38;
/// Where the header says what kind of file it is, and the kind that is a program at a fixed address.
const TYPE: usize = 0x10;
const ET_EXEC: u16 = 2;
/// Kinds of segments.
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
/// Tags of the dynamic section.
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
/// More than any program has.
const TEXT_MAX: usize = 4096;

/// What is of interest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Elf {
    /// The loader that starts the program.
    pub(super) interpreter: Option<String>,
    /// There is a dynamic section: something is relocated or looked up at the start.
    pub(super) dynamic: bool,
    /// It is a program that starts at the address it was linked to (`ET_EXEC`).
    pub(super) fixed: bool,
    /// Libraries, by name.
    pub(super) needed: Vec<String>,
}

/// Whether this is an ELF file at all, and not a script.
pub(super) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads a program or library.
pub(super) fn read(bytes: &[u8]) -> Result<Elf> {
    ensure!(is_elf(bytes), "not a 64-bit little-endian ELF file");
    let segments = segments(bytes)?;
    let mut elf = Elf {
        fixed: half(bytes, TYPE)? == ET_EXEC,
        ..Elf::default()
    };
    for segment in &segments {
        match segment.kind {
            PT_INTERP => elf.interpreter = Some(text(bytes, segment.offset)?),
            PT_DYNAMIC => {
                elf.dynamic = true;
                elf.needed = needed(bytes, segment, &segments)?;
            }
            _ => {}
        }
    }
    Ok(elf)
}

#[derive(Debug)]
struct Segment {
    kind: u32,
    offset: usize,
    address: u64,
    size: usize,
}

fn segments(bytes: &[u8]) -> Result<Vec<Segment>> {
    let start = word(bytes, PHOFF)?;
    let (size, count) = (half(bytes, PHENTSIZE)?, half(bytes, PHNUM)?);
    (0..count)
        .map(|index| {
            let at = usize::from(index)
                .checked_mul(usize::from(size))
                .and_then(|skip| skip.checked_add(usize::try_from(start).ok()?))
                .context("program headers out of range")?;
            Ok(Segment {
                kind: u32::from_le_bytes(array(bytes, at)?),
                offset: usize::try_from(word(bytes, at + 8)?)?,
                address: word(bytes, at + 16)?,
                size: usize::try_from(word(bytes, at + 32)?)?,
            })
        })
        .collect()
}

fn needed(bytes: &[u8], dynamic: &Segment, segments: &[Segment]) -> Result<Vec<String>> {
    let entries: Vec<(u64, u64)> = (0..dynamic.size / 16)
        .map(|index| {
            let at = dynamic.offset + index * 16;
            Ok((word(bytes, at)?, word(bytes, at + 8)?))
        })
        .collect::<Result<_>>()?;
    let names: Vec<u64> = of_tag(&entries, DT_NEEDED).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let table = of_tag(&entries, DT_STRTAB).next();
    let table = table.context("libraries without a table of names")?;
    // The table is named by its address in memory; the file has it in the segment loaded there.
    let at = segments
        .iter()
        .filter(|segment| segment.kind == PT_LOAD)
        .find_map(|segment| {
            let inside = usize::try_from(table.checked_sub(segment.address)?).ok()?;
            (inside < segment.size).then(|| segment.offset + inside)
        });
    let at = at.context("the table of names is in no segment")?;
    names
        .into_iter()
        .map(|name| text(bytes, at + usize::try_from(name)?))
        .collect()
}

fn of_tag(entries: &[(u64, u64)], tag: u64) -> impl Iterator<Item = u64> {
    entries
        .iter()
        .filter(move |(found, _)| *found == tag)
        .map(|(_, value)| *value)
}

fn text(bytes: &[u8], at: usize) -> Result<String> {
    let rest = bytes.get(at..).context("a name out of range")?;
    let rest = rest.get(..TEXT_MAX).unwrap_or(rest);
    let Some(end) = rest.iter().position(|byte| *byte == 0) else {
        bail!("a name without an end");
    };
    let name = rest.get(..end).unwrap_or_default();
    String::from_utf8(name.to_vec()).context("a name that is not UTF-8")
}

fn half(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(array(bytes, at)?))
}

fn word(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(array(bytes, at)?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    at.checked_add(N)
        .and_then(|end| bytes.get(at..end))
        .and_then(|part| part.try_into().ok())
        .with_context(|| format!("the file ends before {at:#x}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_loader_and_the_libraries_of_a_program_of_this_machine_are_found() {
        let elf = read(&fs::read("/usr/bin/env").unwrap()).unwrap();
        assert!(elf.dynamic && !elf.fixed);
        assert!(elf.interpreter.unwrap().contains("ld-linux"));
        assert!(
            elf.needed.contains(&"libc.so.6".to_owned()),
            "{:?}",
            elf.needed
        );
    }

    #[test]
    fn a_script_is_no_program_and_half_a_program_is_an_error() {
        assert!(read(b"#!/bin/sh\n").is_err());
        let whole = fs::read("/usr/bin/env").unwrap();
        for length in (0..2000).chain([whole.len() / 2]) {
            // Never a panic; short of the last segment's names it cannot be right.
            let half = read(&whole[..length]);
            assert!(length > 1000 || half.is_err(), "{length} bytes: {half:?}");
        }
    }
}
