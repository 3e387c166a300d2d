//! The programs of an ESXi host: the agent and the command line, as they are packed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use vdvs_testkit::lab::target_dir;

use super::build::{self, ADMIN, AGENT, Program, Quality};
use super::{shown, size};

/// Where they are.
#[derive(Debug)]
pub(crate) struct HostPrograms {
    pub(crate) agent: PathBuf,
    pub(crate) cli: PathBuf,
    /// What is linked into them.
    pub(crate) third_party: String,
}

/// Builds both, one by one: what one of them asks of a crate the other need not carry. None: cargo failed and said why.
pub(crate) fn host_programs() -> Result<Option<HostPrograms>> {
    let libc = build::libc();
    let folder = target_dir()?.join("dist/host");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let make = |what: Program| -> Result<Option<PathBuf>> {
        let Some(built) = build::build(what, libc, Quality::Release)? else {
            return Ok(None);
        };
        let program = folder.join(what.bin);
        let bytes = build::strip(&built, &program)?;
        println!("{:<52} {:>9}", shown(&program)?, size(bytes));
        Ok(Some(program))
    };
    let Some(agent) = make(AGENT)? else {
        return Ok(None);
    };
    let Some(cli) = make(ADMIN)? else {
        return Ok(None);
    };
    let third_party = [build::crates(AGENT, libc)?, build::crates(ADMIN, libc)?].join("\n");
    Ok(Some(HostPrograms {
        agent,
        cli,
        third_party,
    }))
}
