//! What a volume was ordered with, read from its options. The agent checked them; whatever comes is read or refused.

use std::collections::BTreeMap;

use vdvs_blockdev::Birth;

/// `mount-options`, a comma list.
pub(crate) fn mount_options(options: &BTreeMap<String, String>) -> Vec<String> {
    let all = options.get("mount-options").map_or("", String::as_str);
    all.split(',')
        .filter(|option| !option.is_empty())
        .map(str::to_owned)
        .collect()
}

/// `uid`, `gid`, `mode`.
pub(crate) fn birth(options: &BTreeMap<String, String>) -> Result<Birth, String> {
    let read = |key: &str, radix: u32, default: u32| match options.get(key) {
        None => Ok(default),
        Some(text) => u32::from_str_radix(text, radix)
            .map_err(|e| format!("option {key} = '{text}' cannot be read: {e}")),
    };
    let default = Birth::default();
    let mode = read("mode", 8, default.mode)?;
    if mode > 0o7777 {
        return Err(format!("option mode = {mode:o} has more than twelve bits"));
    }
    let (uid, gid) = (read("uid", 10, default.uid)?, read("gid", 10, default.gid)?);
    // chown(2) takes this number for "leave it as it is".
    if uid == u32::MAX || gid == u32::MAX {
        return Err("4294967295 is nobody's number".to_owned());
    }
    Ok(Birth { uid, gid, mode })
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing {
    use super::*;

    /// What is read can be handed to the kernel, and is what was written.
    pub(crate) fn ordered(options: &BTreeMap<String, String>) {
        if let Ok(birth) = birth(options) {
            assert!(birth.mode <= 0o7777 && birth.uid < u32::MAX && birth.gid < u32::MAX);
            let spelled = [
                ("uid", birth.uid.to_string()),
                ("gid", birth.gid.to_string()),
                ("mode", format!("{:o}", birth.mode)),
            ];
            let spelled = spelled.map(|(key, value)| (key.to_owned(), value));
            assert_eq!(super::birth(&BTreeMap::from(spelled)), Ok(birth));
        }
        for option in mount_options(options) {
            assert!(!option.is_empty() && !option.contains(','));
        }
    }
}
