//! Container images without a registry: small root file systems put together from this machine's packages, kept as
//! tar files beside the labs, and imported into each node's engine.
//!
//! A tar file's name carries a hash of the recipe and of the versions of the packages it was made from, so a changed
//! recipe or an upgraded package makes a new one. It appears under its name only when it is complete.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::docker::Docker;
use super::layout::{fnv1a, labs_dir};
use super::state::{lock, rename};
use crate::process::{Cmd, tool};

/// The busybox image's name.
pub const BUSYBOX: &str = "bb:1";
/// The PostgreSQL image's name.
pub const POSTGRES: &str = "pg:15";

const RECIPE: &str = include_str!("images.sh");

/// The images' tar files.
#[derive(Debug, Clone)]
pub struct Images {
    busybox: PathBuf,
    postgres: PathBuf,
}

impl Images {
    /// Makes what is missing, both at a time.
    ///
    /// # Errors
    /// A package is missing or a recipe fails.
    pub fn prepare() -> Result<Self> {
        let dir = labs_dir()?.join("images");
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let _only_one = lock(&dir.join(".lock"))?;
        let recipe = dir.join("images.sh");
        fs::write(&recipe, RECIPE)?;
        thread::scope(|scope| {
            let busybox = scope.spawn(|| make(&dir, &recipe, "busybox", "busybox-static"));
            let postgres = make(&dir, &recipe, "postgres", "postgresql-15");
            let busybox = busybox
                .join()
                .map_err(|_| anyhow!("the recipe's thread panicked"))?;
            Ok(Self {
                busybox: busybox?,
                postgres: postgres?,
            })
        })
    }

    /// Imports the busybox image as [`BUSYBOX`] if the engine has not got it.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn import_busybox(&self, docker: &Docker) -> Result<()> {
        import(
            docker,
            &self.busybox,
            BUSYBOX,
            &["CMD [\"/bin/sh\"]", "ENV PATH=/bin"],
        )
    }

    /// Imports the PostgreSQL image as [`POSTGRES`] if the engine has not got it. Its database is at `$PGDATA`, unless
    /// set `/var/lib/postgresql/data`; the image declares no volume, so that a forgotten one is an empty folder of the
    /// container and not a silent local volume.
    ///
    /// # Errors
    /// The engine refuses.
    pub fn import_postgres(&self, docker: &Docker) -> Result<()> {
        import(
            docker,
            &self.postgres,
            POSTGRES,
            &["ENTRYPOINT [\"/entry.sh\"]", "EXPOSE 5432"],
        )
    }

    /// Imports both images into all these engines at a time.
    ///
    /// # Errors
    /// One of them refuses.
    pub fn import_all(&self, engines: &[Docker]) -> Result<()> {
        thread::scope(|scope| {
            let each = engines.iter().map(|docker| {
                scope.spawn(|| {
                    self.import_busybox(docker)
                        .and_then(|()| self.import_postgres(docker))
                })
            });
            let all: Vec<_> = each.collect();
            all.into_iter().try_for_each(|one| {
                one.join()
                    .map_err(|_| anyhow!("the import's thread panicked"))?
            })
        })
    }
}

fn make(dir: &Path, recipe: &Path, kind: &str, package: &str) -> Result<PathBuf> {
    let version = Cmd::new(tool::DPKG_QUERY)
        .args(["--show", "--showformat", "${Version}", package])
        .run()
        .with_context(|| format!("package {package} is needed for an image"))?;
    let key = fnv1a(format!("{RECIPE}{version}").as_bytes());
    let tarball = dir.join(format!("{kind}-{key:08x}.tar"));
    if tarball.exists() {
        return Ok(tarball);
    }
    let temp = dir.join(format!("{kind}.new"));
    Cmd::new(tool::BASH)
        .clean_env()
        .arg(recipe)
        .arg(kind)
        .arg(dir.join(format!("{kind}.root")))
        .arg(&temp)
        .limit(Duration::from_secs(300))
        .run()?;
    rename(&temp, &tarball)?;
    Ok(tarball)
}

fn import(docker: &Docker, tarball: &Path, name: &str, changes: &[&str]) -> Result<()> {
    if docker.has_image(name)? {
        return Ok(());
    }
    let changes = changes.iter().flat_map(|change| ["--change", change]);
    let args = ["import"].into_iter().chain(changes).chain(["-", name]);
    docker
        .cmd(args)
        .input_file(tarball)
        .limit(Duration::from_secs(300))
        .run()?;
    Ok(())
}
