//! P-1 and P-2: containers that every reader takes, the host's own among them, and the checksums of releases 6.7 to 9.

use super::Findings;
use crate::ar;
use crate::descriptor::Checksum;
use crate::error::ReadError;
use crate::tar::{Dialect, EPOCH, Kind, NAME};
use crate::vib::Vib;

/// (kind, process) of the checksums a payload has.
const CHECKSUMS: [(&str, Option<&str>); 3] = [
    ("sha-256", None),
    ("sha-256", Some("gunzip")),
    ("sha-1", Some("gunzip")),
];

pub(super) fn check(bytes: &[u8], vib: &Vib, found: &mut Findings) -> Result<(), ReadError> {
    for member in ar::read(bytes)? {
        let name = member.name;
        found.must(member.plain && !member.slashed, "P-1", || {
            format!("{name}: its header has a time, an owner, a mode or a name with '/'")
        });
    }
    let signed = !vib.signature.is_empty();
    let community = vib.descriptor.acceptance == "community";
    found.must(signed || community, "P-1", || {
        format!("level {} without a signature", vib.descriptor.acceptance)
    });
    for payload in &vib.payloads {
        let name = &payload.info.name;
        let small = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        found.must(name.len() <= 8 && name.bytes().all(small), "P-2", || {
            format!("payload {name}: its file in the boot bank takes at most eight small letters")
        });
        found.must(payload.info.kind == "tgz", "P-2", || {
            format!("payload {name} is {}, not tgz", payload.info.kind)
        });
        for (kind, process) in CHECKSUMS {
            let sums = &payload.info.checksums;
            let there = |s: &Checksum| s.kind == kind && s.process.as_deref() == process;
            found.must(sums.iter().any(there), "P-2", || {
                format!(
                    "payload {name} has no {kind} {}",
                    process.unwrap_or("as stored")
                )
            });
        }
        let paths: Vec<&str> = payload.entries.iter().map(|e| e.path.as_str()).collect();
        found.must(paths.is_sorted(), "P-2", || {
            format!("payload {name}: its entries are not in order")
        });
        for entry in &payload.entries {
            let plain = entry.dialect == Dialect::Ustar
                && entry.path.len() <= NAME
                && matches!(entry.kind, Kind::File | Kind::Folder);
            found.must(plain, "P-2", || {
                format!("{}: no plain ustar entry of a file or folder", entry.path)
            });
            found.must(
                entry.owner == (0, 0) && entry.changed == EPOCH,
                "P-2",
                || format!("{}: its owner or time is a machine's", entry.path),
            );
        }
    }
    Ok(())
}
