//! Which files we ship, and where: only where a package of community level installs without force.
//!
//! Everything that runs is in the package, nothing is unpacked or written later: a host with `execInstalledOnly` runs nothing
//! else. The command line's other names are small scripts, since a package's list of files knows no links.

use crate::descriptor::{Acceptance, Constraint, Version};
use crate::error::BuildError;
use crate::vib::{About, File};

/// The package, and the names of its files.
pub const PRODUCT: &str = "vdvs";
/// Who makes it.
pub const VENDOR: &str = "vDVS";
/// The same, as bundles abbreviate it.
pub const VENDOR_CODE: &str = "vdvs";
/// As people read it where components are chosen.
pub const TITLE: &str = "vDVS, volumes for containers in virtual machines";
/// The original's package: both would answer on the same port.
pub const ORIGINAL: &str = "esx-vmdkops-service";
/// The oldest ESXi.
pub const OLDEST: &str = "7.0.0";

/// Where the agent is.
pub const AGENT: &str = "opt/vdvs/bin/vdvsd";
/// Where the administrator's command line is.
pub const CLI: &str = "opt/vdvs/bin/vdvs";
/// Where the init script is.
pub const INIT: &str = "etc/init.d/vdvs";
/// Where the host looks for services.
pub const SERVICE: &str = "etc/vmware/service/vdvs.xml";
/// Where esxcli looks for commands.
pub const PLUGIN: &str = "usr/lib/vmware/esxcli/ext/vdvs.xml";
/// What an administrator may change.
pub const SETTINGS: &str = "opt/vdvs/etc/vdvsd.toml";

/// Largest package that may ship.
pub const LARGEST: u64 = 7_000_000;

const RUNS: u32 = 0o555;
const READ: u32 = 0o444;
/// May be changed, and is kept over reboots.
const KEPT: u32 = 0o1644;

/// What is built elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// The agent.
    pub agent: Vec<u8>,
    /// The administrator's command line.
    pub cli: Vec<u8>,
    /// What that says when it is asked for esxcli's definition, so that the two cannot differ.
    pub plugin: Vec<u8>,
    /// The licence.
    pub licence: Vec<u8>,
    /// What is linked into the programs.
    pub third_party: Vec<u8>,
}

/// All files.
#[must_use]
pub fn files(programs: Programs) -> Vec<File> {
    let file = |path: &str, mode, data: &[u8]| File {
        path: path.to_owned(),
        mode,
        data: data.to_vec(),
    };
    let made = |path: &str, mode, data| File {
        path: path.to_owned(),
        mode,
        data,
    };
    vec![
        made(AGENT, RUNS, programs.agent),
        made(CLI, RUNS, programs.cli),
        made(PLUGIN, READ, programs.plugin),
        made("opt/vdvs/doc/LICENSE", READ, programs.licence),
        made("opt/vdvs/doc/THIRD-PARTY", READ, programs.third_party),
        file(INIT, RUNS, include_bytes!("../payload/init.sh")),
        file(SERVICE, READ, include_bytes!("../payload/service.xml")),
        file(SETTINGS, KEPT, include_bytes!("../payload/vdvsd.toml")),
        file(
            "opt/vdvs/bin/run-vdvsd",
            RUNS,
            include_bytes!("../payload/run-vdvsd"),
        ),
        file(
            "opt/vdvs/bin/settings.sh",
            RUNS,
            include_bytes!("../payload/settings.sh"),
        ),
        file(
            "opt/vdvs/bin/vmdkops_admin.py",
            RUNS,
            include_bytes!("../payload/vmdkops_admin.py"),
        ),
    ]
}

/// What the package says about itself.
///
/// # Errors
/// [`BuildError`] when product and build number are no version.
pub fn about(
    version: &str,
    build: u64,
    released: i64,
    acceptance: Acceptance,
) -> Result<About, BuildError> {
    Ok(About {
        name: PRODUCT.to_owned(),
        version: Version::new(format!("{version}-1.0.{build}"))?,
        vendor: VENDOR.to_owned(),
        summary: TITLE.to_owned(),
        description: "The agent that serves the volumes of this host's datastores to the virtual machines that run \
                      here, and its command line."
            .to_owned(),
        released,
        acceptance,
        depends: vec![Constraint::at_least("esx-version", OLDEST)],
        conflicts: vec![Constraint::at_least(ORIGINAL, "0.0.0")],
    })
}
