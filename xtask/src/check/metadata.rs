//! The part of `cargo metadata` the checks look at.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// One crate of the workspace.
#[derive(Debug, Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) manifest_path: PathBuf,
    pub(super) dependencies: Vec<Dependency>,
    #[serde(default)]
    targets: Vec<Target>,
}

/// One thing cargo builds of it.
#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// One line of its manifest.
#[derive(Debug, Deserialize)]
pub(super) struct Dependency {
    pub(super) name: String,
    #[serde(default)]
    pub(super) rename: Option<String>,
    #[serde(default)]
    pub(super) kind: Kind,
}

/// Which section of the manifest it stands in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Option<String>")]
pub(super) enum Kind {
    #[default]
    Normal,
    Build,
    Dev,
}

impl From<Option<String>> for Kind {
    fn from(name: Option<String>) -> Self {
        match name.as_deref() {
            Some("dev") => Self::Dev,
            Some("build") => Self::Build,
            _ => Self::Normal,
        }
    }
}

impl Package {
    /// The names of its integration tests' binaries.
    pub(super) fn test_binaries(&self) -> impl Iterator<Item = &str> {
        let is_test = |target: &&Target| target.kind.iter().any(|kind| kind == "test");
        self.targets
            .iter()
            .filter(is_test)
            .map(|target| target.name.as_str())
    }

    #[cfg(test)]
    pub(super) fn planted(name: &str, dependencies: Vec<Dependency>) -> Self {
        let manifest_path = "/clone/Cargo.toml".into();
        Self {
            name: name.to_owned(),
            manifest_path,
            dependencies,
            targets: Vec::new(),
        }
    }

    /// Its folder, relative to the clone.
    pub(super) fn folder(&self, root: &Path) -> Result<PathBuf> {
        let folder = self
            .manifest_path
            .parent()
            .context("a manifest lies in a folder")?;
        let inside = folder
            .strip_prefix(root)
            .with_context(|| format!("{} lies outside the clone", folder.display()))?;
        Ok(inside.to_path_buf())
    }
}

impl Dependency {
    /// The name the sources use.
    pub(super) fn extern_name(&self) -> String {
        self.rename.as_ref().unwrap_or(&self.name).replace('-', "_")
    }
}

/// Reads what `cargo metadata --no-deps` prints.
pub(super) fn parse(json: &[u8]) -> Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let metadata: Metadata = serde_json::from_slice(json).context("read cargo's metadata")?;
    Ok(metadata.packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_renamed_dependencies_are_read() {
        let json = br#"{"packages":[{"name":"a","manifest_path":"/clone/crates/a/Cargo.toml","dependencies":[
            {"name":"tokio-util","kind":null},{"name":"b","rename":"old-b","kind":"dev"},{"name":"c","kind":"build"}],
            "targets":[{"name":"a","kind":["lib"]},{"name":"engine_one","kind":["test"]}]}]}"#;
        let packages = parse(json).unwrap();
        let kinds: Vec<_> = packages[0]
            .dependencies
            .iter()
            .map(|dep| dep.kind)
            .collect();
        assert_eq!(kinds, [Kind::Normal, Kind::Dev, Kind::Build]);
        let names: Vec<_> = packages[0]
            .dependencies
            .iter()
            .map(Dependency::extern_name)
            .collect();
        assert_eq!(names, ["tokio_util", "old_b", "c"]);
        assert_eq!(
            packages[0].folder(Path::new("/clone")).unwrap(),
            Path::new("crates/a")
        );
    }
}
