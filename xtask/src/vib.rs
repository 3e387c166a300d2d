//! `cargo xtask vib`: the package for ESXi hosts and its offline bundle.
//!
//! ```text
//! target/dist/esxi/vdvs-<version>.vib                       esxcli software vib install -v /absolute/path
//! target/dist/esxi/vdvs-<version>-offline-bundle.zip        for vSphere Lifecycle Manager, as a component
//! target/dist/esxi/descriptor.xml                           what a signature is made over
//! ```
//! The same commit gives the same bytes: the release date and the build number are the commit's time, and all is packed twice
//! and compared. A package that breaks one of the rules by which hosts take packages without force is not written.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use vdvs_esx_vib::bundle::{self, Component};
use vdvs_esx_vib::descriptor::Acceptance;
use vdvs_esx_vib::payload::{self, LARGEST, Programs};
use vdvs_esx_vib::vib::{self, DESCRIPTOR};
use vdvs_esx_vib::{digest, rules};
use vdvs_testkit::lab::target_dir;
use vdvs_testkit::process::Cmd;

use crate::dist::{self, HostPrograms, shown};
use crate::program;

/// A signature is a few kilobytes; this is for the wrong file.
const LARGEST_SIGNATURE: usize = 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct VibArgs {
    /// The signature, a PKCS #7 file made elsewhere over descriptor.xml
    #[arg(long, value_name = "FILE")]
    sign: Option<PathBuf>,
    /// How far a host has to trust the package. Above community needs a signature
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::Community)]
    acceptance: Level,
    /// Where to write; otherwise target/dist/esxi
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    Community,
    Partner,
    Accepted,
    Certified,
}

impl Level {
    fn acceptance(self) -> Acceptance {
        match self {
            Self::Community => Acceptance::Community,
            Self::Partner => Acceptance::Partner,
            Self::Accepted => Acceptance::Accepted,
            Self::Certified => Acceptance::Certified,
        }
    }
}

/// False: the build failed and said why.
pub(crate) fn run(args: &VibArgs) -> Result<bool> {
    let Some(built) = dist::host_programs()? else {
        return Ok(false);
    };
    let released = released()?;
    let build = u64::try_from(released).context("a commit before 1970")?;
    let level = args.acceptance.acceptance();
    let about = payload::about(&dist::version()?, build, released, level)?;
    let programs = programs(&built)?;
    let unsigned = vib::pack(&about, &payload::files(programs.clone()))?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => target_dir()?.join("dist/esxi"),
    };
    fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;
    write(&out.join(DESCRIPTOR), &unsigned.descriptor)?;
    let signature = match &args.sign {
        None if level == Acceptance::Community => Vec::new(),
        None => {
            println!(
                "No package yet: level {} needs a signature. Have {DESCRIPTOR} signed, then run this again at the same \
                 commit with --sign FILE.",
                level.text()
            );
            return Ok(true);
        }
        Some(file) => signature(file)?,
    };
    let package = unsigned.sign(&signature)?;
    let component = Component {
        vendor_code: payload::VENDOR_CODE.to_owned(),
        title: payload::TITLE.to_owned(),
    };
    let bundle = bundle::write(&component, &package)?;
    let again = vib::build(&about, &payload::files(programs), &signature)?;
    ensure!(
        again == package && bundle::write(&component, &again)? == bundle,
        "packed twice, the bytes differ"
    );
    let mut broken = rules::package(&package)?;
    broken.extend(rules::bundle(&bundle)?);
    let broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
    ensure!(
        broken.is_empty(),
        "no host would take the package:\n{}",
        broken.join("\n")
    );
    let size = package.len() as u64;
    ensure!(
        size <= LARGEST,
        "the package has {size} bytes, more than {LARGEST}"
    );
    let name = format!("{}-{}", about.name, about.version);
    write(&out.join(format!("{name}.vib")), &package)?;
    write(&out.join(format!("{name}-offline-bundle.zip")), &bundle)?;
    Ok(true)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("write {}", path.display()))?;
    println!(
        "{:<64} {:>9} bytes  sha256 {}",
        shown(path)?,
        bytes.len(),
        digest::sha256(bytes)
    );
    Ok(())
}

/// What is packed. The command line itself says what esxcli has to know, so that the two cannot differ.
fn programs(built: &HostPrograms) -> Result<Programs> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
    let definition = Cmd::new(&built.cli)
        .args(["esxcli", "--plugin-definition"])
        .run()?;
    Ok(Programs {
        agent: read(&built.agent)?,
        cli: read(&built.cli)?,
        plugin: definition.into_bytes(),
        licence: read(&program::root()?.join("LICENSE"))?,
        third_party: built.third_party.clone().into_bytes(),
    })
}

fn signature(file: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    ensure!(
        (1..=LARGEST_SIGNATURE).contains(&bytes.len()),
        "{} is no signature: it has {} bytes",
        file.display(),
        bytes.len()
    );
    Ok(bytes)
}

/// The moment of the commit, which is the release's date and its build number: a later build has a higher one, in whatever
/// clone it is made.
fn released() -> Result<i64> {
    let said = match env::var("SOURCE_DATE_EPOCH") {
        Ok(said) => said,
        Err(_) => program::toolchain_output("git", &["show", "--no-patch", "--format=%ct", "HEAD"])
            .context("no commit to date the package by; set SOURCE_DATE_EPOCH")?,
    };
    let said = said.trim();
    said.parse()
        .with_context(|| format!("'{said}' is no number of seconds since 1970"))
}
