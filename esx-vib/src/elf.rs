//! Whether a program starts without loader and libraries: there are none of ours on a host, and whether its kernel loads
//! position-independent programs is not known. So: 64 bits, x86-64, at a fixed address, static.

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
/// Kinds of files: at a fixed address.
const EXEC: u16 = 2;
const X86_64: u16 = 62;
/// Segments that ask for a loader or for libraries.
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;
/// Size of a program header.
const SEGMENT: usize = 56;

/// Whether the bytes begin like an ELF file of any kind.
#[must_use]
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x7fELF")
}

/// What keeps the program from starting on a host; none: nothing.
#[must_use]
pub fn unfit(bytes: &[u8]) -> Option<&'static str> {
    if !bytes.starts_with(MAGIC) {
        return Some("it is no 64-bit program");
    }
    let short = "its header is cut off";
    let (Some(kind), Some(machine)) = (half(bytes, 16), half(bytes, 18)) else {
        return Some(short);
    };
    if machine != X86_64 {
        return Some("it is for another processor");
    }
    if kind != EXEC {
        return Some("it has no fixed address; build it with relocation-model=static");
    }
    let (Some(table), Some(count)) = (place(bytes, 32), half(bytes, 56)) else {
        return Some(short);
    };
    for at in 0..usize::from(count) {
        let segment = at
            .checked_mul(SEGMENT)
            .and_then(|skip| table.checked_add(skip))
            .and_then(|from| word(bytes, from));
        match segment {
            None => return Some(short),
            Some(INTERPRETER) => return Some("it wants a loader"),
            Some(DYNAMIC) => return Some("it wants libraries"),
            Some(_) => {}
        }
    }
    None
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn place(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(array(bytes, at)?)).ok()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A program for tests: a header that says static, and nothing to run.
#[must_use]
pub fn stand_in(text: &str) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.resize(16, 0);
    bytes.extend(EXEC.to_le_bytes());
    bytes.extend(X86_64.to_le_bytes());
    bytes.resize(64, 0);
    bytes.extend(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;

    use super::*;

    #[test]
    fn programs_that_want_something_are_told_apart() {
        assert_eq!(unfit(&stand_in("x")), None);
        assert!(unfit(b"#!/bin/sh").is_some());
        // This very test is an ordinary program of this machine.
        let own = fs::read(env::args_os().next().unwrap()).unwrap();
        assert!(is_elf(&own));
        assert!(unfit(&own).is_some());
        let mut program = stand_in("");
        (program[56], program[32]) = (1, 200);
        assert_eq!(unfit(&program), Some("its header is cut off"));
        program[32] = 64;
        program.extend([0; SEGMENT]);
        assert_eq!(unfit(&program), None);
        program[64] = 3;
        assert_eq!(unfit(&program), Some("it wants a loader"));
        program[64] = 2;
        assert_eq!(unfit(&program), Some("it wants libraries"));
        for end in 0..program.len() {
            assert!(unfit(&program[..end]).is_some(), "{end}");
        }
    }
}
