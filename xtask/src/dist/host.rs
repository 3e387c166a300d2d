//! The programs of an ESXi host, to be packed: the agent and the command line.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::build::{self, Quality};
use super::{admin, agent, folder, host};

/// Where they are.
#[derive(Debug)]
pub(crate) struct HostPrograms {
    pub(crate) agent: PathBuf,
    pub(crate) cli: PathBuf,
    /// What is linked into them.
    pub(crate) third_party: String,
}

/// Builds both. None: cargo failed and said why.
pub(crate) fn host_programs() -> Result<Option<HostPrograms>> {
    let admin = folder(Quality::Release)?.join("admin");
    if !(host()? && admin::make(&admin, build::libc())?) {
        return Ok(None);
    }
    let agent = agent()?;
    let linked = |program: &Path| {
        let list = program.with_file_name("THIRD-PARTY");
        fs::read_to_string(&list).with_context(|| format!("read {}", list.display()))
    };
    let cli = admin.join("vdvs");
    let third_party = [linked(&agent)?, linked(&cli)?].join("\n");
    Ok(Some(HostPrograms {
        agent,
        cli,
        third_party,
    }))
}
