//! Finds dependencies that no source of the crate names.
//!
//! Sound enough for us without a compiler: a crate that is used is the head of a path somewhere (`serde::Serialize`,
//! `#[tokio::test]`, `::prost::Message`). A name inside a longer path, in a comment or as a variable does not count.
//! A dependency that is there only for its features stands in the list of exceptions with its reason.

use std::collections::BTreeSet;
use std::path::Path;

use super::metadata::{Kind, Package};

/// (crate, dependency, why it is there although nothing names it).
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("vdvs-explore", "crc32fast", SWAP),
    ("vdvs-explore", "serde", SWAP),
    ("vdvs-explore", "serde_json", SWAP),
    ("vdvs-explore", "tracing", SWAP),
];
const SWAP: &str = "the engine's source of `swap`, which is compiled there once more, names it";

/// The heads of paths that a crate's sources name.
#[derive(Debug, Default)]
pub(super) struct Sources {
    library: BTreeSet<String>,
    tests: BTreeSet<String>,
    build: BTreeSet<String>,
}

impl Sources {
    /// Adds one file, `path` being relative to the crate's folder.
    pub(super) fn add(&mut self, path: &Path, text: &str) {
        let heads = heads(text);
        if path == Path::new("build.rs") {
            self.build.extend(heads);
        } else if path.starts_with("src") {
            self.library.extend(heads);
        } else {
            self.tests.extend(heads);
        }
    }

    fn name(&self, kind: Kind, name: &str) -> bool {
        match kind {
            Kind::Normal => self.library.contains(name),
            Kind::Build => self.build.contains(name),
            // Unit tests stand in the library's files.
            Kind::Dev => self.tests.contains(name) || self.library.contains(name),
        }
    }
}

/// Every dependency of the package that its sources do not use.
pub(super) fn unused(package: &Package, sources: &Sources) -> Vec<String> {
    let excepted = |name: &str| {
        EXCEPTIONS
            .iter()
            .any(|(from, to, _)| *from == package.name && *to == name)
    };
    package
        .dependencies
        .iter()
        // A crate depends on itself only to switch on its own features for its tests.
        .filter(|dependency| dependency.name != package.name && !excepted(&dependency.name))
        .filter(|dependency| !sources.name(dependency.kind, &dependency.extern_name()))
        .map(|dependency| {
            let section = match dependency.kind {
                Kind::Normal => "[dependencies]",
                Kind::Build => "[build-dependencies]",
                Kind::Dev => "[dev-dependencies]",
            };
            format!(
                "{}: {} in {section} is used nowhere",
                package.name, dependency.name
            )
        })
        .collect()
}

/// Identifiers that start a path, or that a `use` names alone.
fn heads(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in text.lines() {
        let code = line.split_once("//").map_or(line, |(code, _)| code);
        let mut rest = code;
        let mut before = String::new();
        while let Some(start) = rest.find(is_identifier) {
            let (gap, tail) = rest.split_at(start);
            let end = tail.find(|c| !is_identifier(c)).unwrap_or(tail.len());
            let (word, after) = tail.split_at(end);
            before.push_str(gap);
            let path = after.trim_start().starts_with("::");
            let import =
                before.trim_end().ends_with("use") || before.trim_end().ends_with("extern crate");
            if (path || import) && !continues_a_path(&before) {
                found.insert(word.to_owned());
            }
            before.push_str(word);
            rest = after;
        }
    }
    found
}

/// Whether the text before an identifier ends inside a path (`codegen::`), a leading `::` not being one.
fn continues_a_path(before: &str) -> bool {
    before
        .trim_end()
        .strip_suffix("::")
        .and_then(|head| head.chars().next_back())
        .is_some_and(|last| is_identifier(last) || last == '>')
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Dependency;
    use super::*;

    fn package(dependencies: &[(&str, Option<&str>, Kind)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, rename, kind)| Dependency {
                name: (*name).to_owned(),
                rename: rename.map(str::to_owned),
                kind: *kind,
            })
            .collect();
        Package::planted("me", dependencies)
    }

    fn sources(files: &[(&str, &str)]) -> Sources {
        let mut sources = Sources::default();
        for (path, text) in files {
            sources.add(Path::new(path), text);
        }
        sources
    }

    #[test]
    fn a_planted_unused_dependency_is_found() {
        let package = package(&[
            ("serde", None, Kind::Normal),
            ("planted", None, Kind::Normal),
        ]);
        let found = unused(
            &package,
            &sources(&[("src/lib.rs", "use serde::Serialize;")]),
        );
        assert_eq!(found, ["me: planted in [dependencies] is used nowhere"]);
    }

    #[test]
    fn all_ways_to_name_a_crate_count() {
        let text = "use tokio_util::sync;\n#[tokio::test]\nfn f(x: ::prost::Message) {}\nuse anyhow as a;\n";
        let names: Vec<_> = heads(text).into_iter().collect();
        assert_eq!(names, ["anyhow", "prost", "tokio", "tokio_util"]);
    }

    #[test]
    fn a_comment_a_variable_and_the_middle_of_a_path_do_not_count() {
        let text = "// http::Uri\nlet bytes = tonic::codegen::http::Uri;\nuse crate::uuid::Id;\n<A>::nix();";
        let names: Vec<_> = heads(text).into_iter().collect();
        assert_eq!(names, ["crate", "tonic"]);
    }

    #[test]
    fn a_dependency_of_the_library_that_only_tests_use_is_in_the_wrong_section() {
        let package = package(&[("tempfile", None, Kind::Normal), ("insta", None, Kind::Dev)]);
        let files = [
            ("src/lib.rs", ""),
            ("tests/a.rs", "use tempfile::x; use insta::y;"),
        ];
        let found = unused(&package, &sources(&files));
        assert_eq!(found, ["me: tempfile in [dependencies] is used nowhere"]);
    }

    #[test]
    fn a_renamed_dependency_is_looked_for_under_its_new_name() {
        let package = package(&[("old-name", Some("new-name"), Kind::Normal)]);
        assert!(unused(&package, &sources(&[("src/lib.rs", "new_name::f();")])).is_empty());
        assert_eq!(
            unused(&package, &sources(&[("src/lib.rs", "old_name::f();")])).len(),
            1
        );
    }

    #[test]
    fn every_exception_has_a_reason() {
        assert!(EXCEPTIONS.iter().all(|(_, _, why)| !why.is_empty()));
    }
}
