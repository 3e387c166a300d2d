//! `mount-options`: which of a file system's own options a volume may ask for.
//!
//! Only what cannot break a promise is let through. Options that would (a second writer, lost flushes, a file system
//! mounted under another identity) are named with the reason; anything else is unknown until somebody shows that it
//! is safe. The plugin puts these behind its own and checks nothing again.

use super::{OptionError, cut};
use crate::names::FsType;
use crate::suggest;

/// More than anybody asks for; the kernel reads a page of options.
const MAX_MOUNT_OPTIONS: usize = 16;

/// Of the kernel, for every file system.
const EVERYWHERE: [&str; 10] = [
    "noatime",
    "nodiratime",
    "relatime",
    "strictatime",
    "lazytime",
    "nodev",
    "nosuid",
    "noexec",
    "sync",
    "dirsync",
];

/// Of one file system; a trailing `=` stands for an option with a value.
const BY_TYPE: [(&str, &[&str]); 3] = [
    (
        "ext4",
        &[
            "discard",
            "nodiscard",
            "commit=",
            "data=ordered",
            "data=journal",
            "nodelalloc",
            "delalloc",
        ],
    ),
    (
        "xfs",
        &[
            "discard",
            "nodiscard",
            "inode64",
            "largeio",
            "nolargeio",
            "swalloc",
            "prjquota",
            "logbsize=",
            "allocsize=",
        ],
    ),
    (
        "btrfs",
        &[
            "discard",
            "nodiscard",
            "discard=sync",
            "discard=async",
            "compress",
            "compress=",
            "ssd",
            "nossd",
            "autodefrag",
            "noautodefrag",
            "commit=",
            "space_cache=v2",
        ],
    ),
];

/// What would break a promise, and what to do instead.
const HARMFUL: [(&str, &str); 18] = [
    ("ro", "use -o access=read-only"),
    ("rw", "use -o access=read-write"),
    ("remount", "the plugin alone mounts volumes"),
    ("bind", "the plugin alone mounts volumes"),
    ("rbind", "the plugin alone mounts volumes"),
    ("move", "the plugin alone mounts volumes"),
    ("loop", "the volume is a disk already"),
    ("uuid", "the volume's record holds its identity"),
    ("nouuid", "the plugin sets it where a clone needs it"),
    ("errors", "a volume with errors must stop, not go on"),
    ("nobarrier", "what was flushed could be lost"),
    ("barrier", "what was flushed could be lost; it is on anyway"),
    ("norecovery", "the journal must be replayed"),
    ("noload", "the journal must be replayed"),
    ("subvol", "the volume is mounted whole"),
    ("subvolid", "the volume is mounted whole"),
    ("degraded", "the volume is one disk"),
    ("device", "the volume is one disk"),
];

/// Splits a comma list; an option given twice counts once.
pub(super) fn split(text: &str) -> Result<Vec<String>, OptionError> {
    let mut options: Vec<String> = Vec::new();
    for option in text.split(',').map(str::trim) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"=_-.:".contains(&b);
        if option.is_empty() || !option.bytes().all(plain) {
            return Err(refused(
                option,
                "it is a comma list such as noatime,discard",
            ));
        }
        if let Some((_, why)) = HARMFUL.iter().find(|(name, _)| *name == name_of(option)) {
            return Err(refused(option, why));
        }
        if !options.iter().any(|known| known == option) {
            options.push(option.to_owned());
        }
    }
    if options.len() > MAX_MOUNT_OPTIONS {
        return Err(refused(text, "at most 16 are read"));
    }
    Ok(options)
}

/// Whether every option may be used with `fstype`.
///
/// # Errors
/// [`OptionError::MountOption`] naming the first that may not, and the nearest that may.
pub fn check(fstype: &FsType, options: &[String]) -> Result<(), OptionError> {
    let own = BY_TYPE
        .iter()
        .find(|(name, _)| *name == fstype.as_str())
        .map_or([].as_slice(), |(_, own)| own);
    let allowed = || EVERYWHERE.iter().chain(own).copied();
    for option in options {
        if !allowed().any(|pattern| is_of(option, pattern)) {
            let hint = suggest::did_you_mean(option, allowed().filter(|p| !p.ends_with('=')));
            let valid = allowed()
                .map(|p| {
                    if p.ends_with('=') {
                        format!("{p}N")
                    } else {
                        p.to_owned()
                    }
                })
                .collect::<Vec<_>>()
                .join(", ");
            return Err(refused(
                option,
                &format!("valid with {fstype} are: {valid}.{hint}"),
            ));
        }
    }
    Ok(())
}

fn refused(option: &str, why: &str) -> OptionError {
    OptionError::MountOption {
        option: cut(option),
        why: why.to_owned(),
    }
}

fn name_of(option: &str) -> &str {
    option.split_once('=').map_or(option, |(name, _)| name)
}

/// Whether `option` is what `pattern` stands for. A value is a number with a unit, or a word such as `zstd:3`.
fn is_of(option: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('=') {
        None => option == pattern,
        Some(name) => option
            .split_once('=')
            .is_some_and(|(key, value)| key == name && is_value(name, value)),
    }
}

fn is_value(name: &str, value: &str) -> bool {
    let number =
        |text: &str| (1..=6).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    match name {
        // Seconds between two writes of the journal. Flushes do not wait for it.
        "commit" => number(value) && value.parse().is_ok_and(|n: u32| (1..=300).contains(&n)),
        "compress" => {
            let (method, level) = value.split_once(':').unwrap_or((value, "1"));
            ["zlib", "lzo", "zstd"].contains(&method) && number(level)
        }
        _ => number(value.strip_suffix(['k', 'm']).unwrap_or(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(fstype: &str, text: &str) -> Result<Vec<String>, String> {
        let options = split(text).map_err(|e| e.to_string())?;
        check(&FsType::new(fstype).unwrap(), &options).map_err(|e| e.to_string())?;
        Ok(options)
    }

    #[test]
    fn safe_options_pass_each_once() {
        assert_eq!(
            ask("ext4", "noatime, discard,noatime").unwrap(),
            ["noatime", "discard"]
        );
        assert!(ask("ext4", "commit=60,data=journal").is_ok());
        assert!(ask("xfs", "allocsize=64m,logbsize=256k").is_ok());
        assert!(ask("btrfs", "compress=zstd:3,discard=async").is_ok());
        assert!(ask("ext3", "noatime").is_ok());
    }

    #[test]
    fn what_breaks_a_promise_is_refused_with_the_reason() {
        for text in [
            "ro",
            "rw",
            "uuid=1",
            "loop",
            "remount",
            "bind",
            "errors=continue",
            "nobarrier",
            "barrier=0",
        ] {
            let why = ask("ext4", text).unwrap_err();
            assert!(
                why.starts_with(&format!("Mount option '{text}' is not supported: ")),
                "{why}"
            );
        }
        for (fstype, text) in [
            ("ext4", "noatim"),
            ("ext4", "compress=zstd"),
            ("xfs", "commit=5"),
            ("ext4", "commit=0"),
            ("ext4", "data=writeback"),
            ("btrfs", "compress=gzip"),
            ("ext4", ""),
            ("ext4", "a b"),
            ("ext4", "noatime,,discard"),
        ] {
            assert!(ask(fstype, text).is_err(), "{fstype} {text}");
        }
        let why = ask("ext4", "noatim").unwrap_err();
        assert!(why.ends_with("Did you mean 'noatime'?"), "{why}");
    }
}
