//! P-4, P-10, S-3 and L-2: where files are, which of them are kept, and that what runs can.

use super::Findings;
use crate::elf;
use crate::payload::PRODUCT;
use crate::tar::{Entry, Kind, STICKY};
use crate::vib::Vib;

/// Writing for group and others, set-user and set-group: never.
const NEVER: u32 = 0o6022;

pub(super) fn check(vib: &Vib, found: &mut Findings) {
    for entry in vib.entries() {
        found.must(may_be(entry), "P-4", || {
            format!(
                "{}: no package of community level may put it there",
                entry.path
            )
        });
        found.must(entry.mode & NEVER == 0, "P-4", || {
            format!(
                "{}: mode {:o} lets others write, or act as another",
                entry.path, entry.mode
            )
        });
        let settings = entry.path.starts_with(&format!("opt/{PRODUCT}/etc/"));
        let kept = entry.mode & STICKY != 0;
        found.must(
            kept == (settings && entry.kind == Kind::File),
            "P-10",
            || {
                format!(
                    "{}: files with the sticky bit, and only settings, are kept over reboots",
                    entry.path
                )
            },
        );
        let runs = entry.kind == Kind::File && entry.mode & 0o111 != 0;
        if runs && elf::is_elf(&entry.data) {
            let unfit = elf::unfit(&entry.data);
            found.must(unfit.is_none(), "L-2", || {
                format!("{}: {}", entry.path, unfit.unwrap_or_default())
            });
        } else if runs {
            found.must(entry.data.starts_with(b"#!/bin/sh\n"), "S-3", || {
                format!(
                    "{}: what runs is a program or begins with #!/bin/sh",
                    entry.path
                )
            });
        }
        let script = entry.data.starts_with(b"#!");
        found.must(!script || runs, "S-3", || {
            format!("{}: a script that may not run", entry.path)
        });
    }
}

/// Whether a package may put a file, or a folder on the way to one, there.
fn may_be(entry: &Entry) -> bool {
    let files = [
        format!("etc/init.d/{PRODUCT}"),
        format!("etc/vmware/service/{PRODUCT}.xml"),
        format!("usr/lib/vmware/esxcli/ext/{PRODUCT}.xml"),
    ];
    let own = format!("opt/{PRODUCT}/");
    let path = entry.path.as_str();
    match entry.kind {
        Kind::File => files.iter().any(|file| file == path) || path.starts_with(&own),
        Kind::Folder => {
            path.starts_with(&own)
                || own.starts_with(path)
                || files.iter().any(|file| file.starts_with(path))
        }
        Kind::Link(_) | Kind::Other(_) => false,
    }
}
