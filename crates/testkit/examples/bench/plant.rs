//! Thousands of volumes for the measurements of lists and memory.

use std::ops::Range;

use anyhow::Result;
use serde_json::json;
use vdvs_testkit::planting;

use crate::world::{FIRST, World};

const TEMPLATE: &str = "b-template";

/// Plants the volumes of these numbers, called `p-00000` and so on; the agent is new afterwards.
pub(crate) fn volumes(world: &World, numbers: Range<usize>) -> Result<()> {
    eprintln!("planting volumes {numbers:?}");
    if numbers.start == 0 {
        let mut plugin = world.plugin(FIRST)?;
        plugin.plugin("Create", &json!({"Name": TEMPLATE}))?;
    }
    let names = numbers.map(|n| format!("p-{n:05}"));
    world.restart_agent(|| planting::copies(&world.datastore(), TEMPLATE, names))
}

/// A volume as another host would have made it.
pub(crate) fn beside_the_agent(world: &World, name: &str) -> Result<()> {
    planting::beside_the_agent(&world.datastore(), TEMPLATE, name)
}
