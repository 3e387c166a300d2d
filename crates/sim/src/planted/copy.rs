//! The copy of the sources with all mistakes in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Instead, MISTAKES, Mistake};

/// What of the workspace a build needs.
const PARTS: [&str; 12] = [
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "clippy.toml",
    "crates",
    "docs",
    "esx-vib",
    "guest-plugin",
    "proto",
    "rust-toolchain.toml",
    "tests",
    "xtask",
];
/// The crate that all others know: the switch is there.
const SWITCH_HOME: &str = "crates/domain/src/lib.rs";
/// The switch. Also read from the environment, for test programs.
const SWITCH: &str = r#"
/// Which mistake is awake.
#[allow(missing_docs, clippy::all)]
pub mod planted_mistakes {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
    static AWAKE: OnceLock<AtomicUsize> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    fn awake() -> &'static AtomicUsize {
        AWAKE.get_or_init(|| {
            let given = std::env::var("VDVS_PLANTED").ok();
            AtomicUsize::new(given.and_then(|n| n.parse().ok()).unwrap_or(0))
        })
    }
    pub fn wake(number: usize) {
        awake().store(number, SeqCst);
        PASSED.store(0, SeqCst);
    }
    pub fn passed() -> u64 {
        PASSED.load(SeqCst)
    }
    pub fn is(number: usize) -> bool {
        let is = awake().load(SeqCst) == number;
        if is {
            PASSED.fetch_add(1, SeqCst);
        }
        is
    }
}
"#;
/// Where the simulation itself takes hold of the switch.
const HANDLES: [(&str, &str); 3] = [
    (
        "pub const IS_PLANTED: bool = false;",
        "pub const IS_PLANTED: bool = true;",
    ),
    (
        "    let _ = number;\n",
        "    vdvs_domain::planted_mistakes::wake(number);\n",
    ),
    (
        "u64 {\n    0\n}",
        "u64 {\n    vdvs_domain::planted_mistakes::passed()\n}",
    ),
];
const HANDLES_HOME: &str = "crates/sim/src/planted/mod.rs";

/// Copies the workspace at `root` to `to`, with all mistakes in it. Files that are the same are left alone, so that a
/// second build is short; files that are in the copy only are removed.
///
/// # Errors
/// A place of the table is not there exactly once; files cannot be read or written.
pub fn plant(root: &Path, to: &Path) -> Result<usize> {
    let mut changed = BTreeMap::new();
    for file in MISTAKES.iter().map(|m| m.file).collect::<BTreeSet<_>>() {
        changed.insert(PathBuf::from(file), mistaken(root, file)?);
    }
    let home = changed.remove(Path::new(SWITCH_HOME));
    let home = home.map_or_else(|| read(root, SWITCH_HOME), Ok)?;
    changed.insert(PathBuf::from(SWITCH_HOME), home + SWITCH);
    let mut handles = read(root, HANDLES_HOME)?;
    for (original, instead) in HANDLES {
        ensure!(
            handles.matches(original).count() == 1,
            "{HANDLES_HOME} has no handle {original:?}"
        );
        handles = handles.replace(original, instead);
    }
    changed.insert(PathBuf::from(HANDLES_HOME), handles);
    let mut kept = BTreeSet::new();
    for part in PARTS {
        copy(root, Path::new(part), to, &changed, &mut kept)?;
    }
    forget_others(to, Path::new(""), &kept)?;
    Ok(MISTAKES.len())
}

fn read(root: &Path, file: &str) -> Result<String> {
    fs::read_to_string(root.join(file)).with_context(|| format!("read {file}"))
}

/// A file with all its mistakes.
fn mistaken(root: &Path, file: &str) -> Result<String> {
    let text = read(root, file)?;
    let mut places = Vec::new();
    for (number, mistake) in (1..).zip(MISTAKES).filter(|(_, m)| m.file == file) {
        places.push((place(&text, mistake)?, number, mistake));
    }
    // From the end, so that places stay where they were found.
    places.sort_by_key(|(at, ..)| usize::MAX - at);
    let mut changed = text;
    for (at, number, mistake) in places {
        let end = at + mistake.original.len();
        changed.replace_range(at..end, &mistake.wrong(file, number));
    }
    Ok(changed)
}

/// Where a mistake's original begins.
pub(super) fn place(text: &str, mistake: &Mistake) -> Result<usize> {
    let Mistake {
        before,
        original,
        after,
        name,
        file,
        ..
    } = mistake;
    let whole = format!("{before}{original}{after}");
    let mut found = text.match_indices(&whole);
    let at = found.next().map(|(at, _)| at + before.len());
    let at = at.with_context(|| format!("'{name}': {file} does not say {whole:?}"))?;
    ensure!(
        found.next().is_none(),
        "'{name}': {file} says {whole:?} more than once"
    );
    Ok(at)
}

impl Mistake {
    /// What stands in the copy.
    fn wrong(&self, file: &str, number: usize) -> String {
        let home = match file.starts_with("crates/domain/") {
            true => "crate",
            false => "vdvs_domain",
        };
        let condition = format!("{home}::planted_mistakes::is({number})");
        match self.instead {
            Instead::Expression(wrong) => {
                let right = self.original;
                format!("match {condition} {{ true => {wrong}, false => {right} }}")
            }
            Instead::Text(both) => both.replace("PLANTED", &condition),
        }
    }
}

fn copy(
    root: &Path,
    part: &Path,
    to: &Path,
    changed: &BTreeMap<PathBuf, String>,
    kept: &mut BTreeSet<PathBuf>,
) -> Result<()> {
    let from = root.join(part);
    if from.is_dir() {
        fs::create_dir_all(to.join(part)).with_context(|| format!("make {}", part.display()))?;
        for entry in fs::read_dir(&from).with_context(|| format!("list {}", part.display()))? {
            copy(root, &part.join(entry?.file_name()), to, changed, kept)?;
        }
        return Ok(());
    }
    if !from.is_file() {
        return Ok(());
    }
    kept.insert(part.to_path_buf());
    let bytes = match changed.get(part) {
        Some(text) => text.clone().into_bytes(),
        None => fs::read(&from).with_context(|| format!("read {}", part.display()))?,
    };
    let target = to.join(part);
    if fs::read(&target).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    fs::write(&target, bytes).with_context(|| format!("write {}", target.display()))
}

fn forget_others(to: &Path, part: &Path, kept: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(to.join(part)).with_context(|| format!("list {}", to.display()))? {
        let entry = entry?;
        let inside = part.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            forget_others(to, &inside, kept)?;
        } else if !kept.contains(&inside) {
            fs::remove_file(entry.path())
                .with_context(|| format!("remove {}", inside.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        own.parent().and_then(Path::parent).unwrap()
    }

    #[test]
    fn every_place_is_there_once() {
        assert!(MISTAKES.len() >= 25, "{}", MISTAKES.len());
        for mistake in MISTAKES {
            let text = read(root(), mistake.file).unwrap();
            place(&text, mistake).unwrap();
        }
    }

    #[test]
    fn no_two_mistakes_are_one() {
        let names: BTreeSet<_> = MISTAKES.iter().map(|m| m.name).collect();
        assert_eq!(names.len(), MISTAKES.len());
        for mistake in MISTAKES {
            let text = read(root(), mistake.file).unwrap();
            let at = place(&text, mistake).unwrap();
            let overlap = MISTAKES.iter().filter(|m| m.file == mistake.file).any(|m| {
                let other = place(&text, m).unwrap();
                m.name != mistake.name && (other..other + m.original.len()).contains(&at)
            });
            assert!(!overlap, "{}", mistake.name);
        }
    }

    #[test]
    fn each_mistake_is_written_once_under_its_number() {
        for (number, mistake) in (1..).zip(MISTAKES) {
            let text = mistaken(root(), mistake.file).unwrap();
            let condition = format!("planted_mistakes::is({number})");
            assert_eq!(text.matches(&condition).count(), 1, "{}", mistake.name);
        }
    }

    #[test]
    fn the_copy_has_a_hold_on_its_switch() {
        let handles = read(root(), HANDLES_HOME).unwrap();
        for (original, _) in HANDLES {
            assert_eq!(handles.matches(original).count(), 1, "{original}");
        }
    }
}
