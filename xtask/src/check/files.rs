//! Rules about single files: their length, and what their text must not name.

use std::path::{Component, Path};

/// Past this a file is split by concept at the next occasion.
const LONG: usize = 500;
/// Past this the check fails.
const TOO_LONG: usize = 600;

/// Hosts of package registries; a mirror serves the same packages elsewhere. In two parts, for the check reads itself.
const REGISTRIES: &[(&str, &str)] = &[
    ("crates", ".io"),
    ("pypi", ".org"),
    ("pythonhosted", ".org"),
    ("npmjs", ".com"),
    ("npmjs", ".org"),
    ("debian", ".org"),
];

/// Top folders every Linux machine has; naming one says nothing about this machine.
const STANDARD: &[&str] = &[
    "bin", "boot", "dev", "etc", "lib", "media", "mnt", "opt", "proc", "root", "run", "sbin",
    "srv", "sys", "tmp", "usr", "var",
];

/// Verdict on a file's length.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Length {
    Fine,
    Long,
    TooLong,
}

/// Judges a source file; generated code may be as long as it likes.
pub(super) fn length(path: &Path, lines: usize) -> Length {
    let generated = path
        .components()
        .any(|part| part == Component::Normal("generated".as_ref()));
    if generated || lines <= LONG {
        Length::Fine
    } else if lines <= TOO_LONG {
        Length::Long
    } else {
        Length::TooLong
    }
}

/// Cargo writes the registry's address into its own files.
pub(super) fn may_name_hosts(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "Cargo.lock")
}

/// What no tracked text may name.
#[derive(Debug)]
pub(super) struct Forbidden {
    anywhere: Vec<String>,
    /// Paths: only where one starts, `/x/` in `a/x/b` being no such place.
    paths: Vec<String>,
}

impl Forbidden {
    /// For a clone at `root`: its path, the top folder it lies in unless every machine has that, and home folders.
    pub(super) fn for_clone(root: &Path) -> Self {
        let anywhere = REGISTRIES
            .iter()
            .map(|(name, end)| format!("{name}{end}"))
            .collect();
        let mut paths = vec![
            concat!("/ho", "me/").to_owned(),
            concat!("/Us", "ers/").to_owned(),
        ];
        let depth = root
            .components()
            .filter(|part| matches!(part, Component::Normal(_)))
            .count();
        if depth > 1 {
            paths.push(root.display().to_string());
        }
        let top = root
            .components()
            .nth(1)
            .map(|part| part.as_os_str().to_string_lossy().into_owned());
        if let Some(top) = top.filter(|top| !STANDARD.contains(&top.as_str())) {
            paths.push(format!("/{top}/"));
        }
        Self { anywhere, paths }
    }

    /// Line numbers and what they name.
    pub(super) fn in_text<'a>(&'a self, text: &str) -> Vec<(usize, &'a str)> {
        let mut found = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let hosts = self
                .anywhere
                .iter()
                .filter(|host| line.contains(host.as_str()));
            let paths = self.paths.iter().filter(|path| starts_a_path(line, path));
            found.extend(hosts.chain(paths).map(|what| (number, what.as_str())));
        }
        found
    }
}

/// Whether `path` stands in `line` with nothing before it that would make it the middle of another.
fn starts_a_path(line: &str, path: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '}' | '>');
    line.match_indices(path).any(|(at, _)| {
        !line
            .get(..at)
            .and_then(|before| before.chars().next_back())
            .is_some_and(inside)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_above_six_hundred_lines_is_too_long_unless_generated() {
        assert_eq!(length(Path::new("src/a.rs"), 500), Length::Fine);
        assert_eq!(length(Path::new("src/a.rs"), 600), Length::Long);
        assert_eq!(length(Path::new("src/a.rs"), 601), Length::TooLong);
        assert_eq!(length(Path::new("src/generated/a.rs"), 5000), Length::Fine);
    }

    #[test]
    fn registry_hosts_are_found_wherever_they_stand() {
        let forbidden = Forbidden::for_clone(Path::new("/"));
        let text = format!("fine\nsee https://index.{}{}/x", "crates", ".io");
        let lines: Vec<_> = forbidden
            .in_text(&text)
            .into_iter()
            .map(|(line, _)| line)
            .collect();
        assert_eq!(lines, [2]);
    }

    #[test]
    fn the_folder_the_clone_lies_in_is_found_and_relative_paths_are_not() {
        let forbidden = Forbidden::for_clone(Path::new("/yard/vdvs"));
        assert_eq!(forbidden.in_text("run /yard/x").len(), 1);
        assert_eq!(forbidden.in_text("in \"/yard/vdvs/a\"").len(), 2);
        assert!(
            forbidden
                .in_text("a/yard/x, {root}/yard/x and /var/lib")
                .is_empty()
        );
    }

    #[test]
    fn a_standard_folder_is_no_machine_path_but_the_clone_in_it_is() {
        let forbidden = Forbidden::for_clone(Path::new("/tmp/clone"));
        assert!(forbidden.in_text("/tmp/other").is_empty());
        assert_eq!(forbidden.in_text("/tmp/clone/a").len(), 1);
    }
}
