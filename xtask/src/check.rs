//! Checks of the sources themselves. Each reads the clone and returns what is wrong, one sentence a finding; the
//! decisions are pure functions of what was read, tested on planted faults.

mod dependencies;
mod files;
mod layering;
mod metadata;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::program;
use dependencies::Sources;
use metadata::Package;

/// Arrows between the rooms point one way.
pub(crate) fn layering() -> Result<Vec<String>> {
    Ok(layering::violations(&packages()?))
}

/// Every dependency of a room is used by it.
pub(crate) fn unused_dependencies() -> Result<Vec<String>> {
    let files = program::tracked_files()?;
    let root = program::root()?;
    let mut findings = Vec::new();
    for package in packages()? {
        let folder = package.folder(&root)?;
        let mut sources = Sources::default();
        for path in files.iter().filter(|path| is_rust(path)) {
            if let Ok(inside) = path.strip_prefix(&folder) {
                sources.add(inside, &read(&root, path)?);
            }
        }
        findings.extend(dependencies::unused(&package, &sources));
    }
    Ok(findings)
}

/// No source file grows past what a person can hold in mind.
pub(crate) fn file_length() -> Result<Vec<String>> {
    let root = program::root()?;
    let mut findings = Vec::new();
    for path in program::tracked_files()?
        .iter()
        .filter(|path| is_rust(path))
    {
        let lines = read(&root, path)?.lines().count();
        match files::length(path, lines) {
            files::Length::Fine => {}
            files::Length::Long => println!(
                "warning: {}: {lines} lines; split by concept soon",
                path.display()
            ),
            files::Length::TooLong => {
                findings.push(format!(
                    "{}: {lines} lines; split by concept",
                    path.display()
                ));
            }
        }
    }
    Ok(findings)
}

/// Nothing in the tree depends on where it was written or where packages come from.
pub(crate) fn hosts_and_paths() -> Result<Vec<String>> {
    let root = program::root()?;
    let forbidden = files::Forbidden::for_clone(&root);
    let mut findings = Vec::new();
    for path in program::tracked_files()? {
        if files::may_name_hosts(&path) {
            continue;
        }
        // What is not text has no lines to check.
        let Ok(text) = String::from_utf8(fs::read(root.join(&path))?) else {
            continue;
        };
        for (line, found) in forbidden.in_text(&text) {
            findings.push(format!("{}:{line}: names {found}", path.display()));
        }
    }
    Ok(findings)
}

/// The names of all integration tests' binaries.
pub(crate) fn test_binaries() -> Result<Vec<String>> {
    let packages = packages()?;
    Ok(packages
        .iter()
        .flat_map(Package::test_binaries)
        .map(str::to_owned)
        .collect())
}

fn packages() -> Result<Vec<Package>> {
    let args = ["metadata", "--locked", "--format-version", "1", "--no-deps"];
    metadata::parse(&program::cargo_output(&args)?)
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

fn read(root: &Path, path: &PathBuf) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("read {}", path.display()))
}
