//! `/proc/<pid>/mountinfo`, as far as the lab needs it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::ProcId;

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor` of the file system.
    pub device: String,
    /// Where, as seen by that process.
    pub path: PathBuf,
    /// `ext4`, `xfs` …
    pub kind: String,
}

/// The mounts strictly below a folder, as a process sees them.
///
/// # Errors
/// The process is gone.
pub(super) fn below(process: ProcId, folder: &Path) -> Result<Vec<Mount>> {
    let path = format!("/proc/{}/mountinfo", process.pid);
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(parse(&text, folder))
}

fn parse(text: &str, folder: &Path) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut fields = left.split(' ');
            let device = fields.nth(2)?.to_owned();
            let path = PathBuf::from(unescape(fields.nth(1)?));
            let kind = right.split(' ').next()?.to_owned();
            (path.starts_with(folder) && path != folder).then_some(Mount { device, path, kind })
        })
        .collect()
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    let mut text = field.to_owned();
    for (code, char) in [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ] {
        text = text.replace(code, char);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_folder_counts() {
        let text = "36 35 7:0 / /mnt/vdvs/a\\040b rw,noatime master:1 - ext4 /dev/loop0 rw\n\
                    37 35 0:30 / /mnt/vdvs rw - tmpfs tmpfs rw\n\
                    38 35 7:1 / /mnt/vdvsx rw shared:2 - xfs /dev/loop1 rw\n";
        let wanted = Mount {
            device: "7:0".into(),
            path: "/mnt/vdvs/a b".into(),
            kind: "ext4".into(),
        };
        assert_eq!(parse(text, Path::new("/mnt/vdvs")), [wanted]);
    }
}
