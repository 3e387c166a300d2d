//! The main job's workload: PostgreSQL as a stack in a swarm, and a client outside every node that notes what it was
//! promised. The demo tells a story with it, the swarm suite asserts with it.

mod client;

use std::fs;

use anyhow::{Context, Result};

pub use client::{Kept, Lan, Told, Writer};

use crate::lab::{Lab, Swarm};

/// The stack file.
pub const STACK: &str = include_str!("stack.yml");
/// Name the stack is deployed under.
pub const STACK_NAME: &str = "postgres";
/// The only service, under its full name.
pub const SERVICE: &str = "postgres_postgres";
/// The only volume, under its full name.
pub const VOLUME: &str = "postgres_postgres_vol";

/// Deploys a stack file, or changes the deployed stack to it.
///
/// # Errors
/// The manager refuses.
pub fn deploy(lab: &Lab, swarm: &Swarm, stack: &str) -> Result<()> {
    let file = lab.layout().root().join("stack.yml");
    fs::write(&file, stack).with_context(|| format!("write {}", file.display()))?;
    let file = file.to_str().context("the lab's path is not UTF-8")?;
    // There is no registry to ask which image the name stands for.
    let args = [
        "stack",
        "deploy",
        "--resolve-image",
        "never",
        "-c",
        file,
        STACK_NAME,
    ];
    swarm.docker().run(&args).map(drop)
}
