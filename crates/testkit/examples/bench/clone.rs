//! A clone of a sparse disk beside what a person would type.

use std::fs::{File, remove_file};
use std::io::{Read, Write};

use anyhow::Result;
use serde_json::json;
use vdvs_testkit::process::Cmd;

use crate::figures::{median, ms, timed};
use crate::mount::{extent_of, mount, unmount};
use crate::world::{FIRST, World};

const ROUNDS: usize = 5;
/// Data in a disk of a gigabyte.
const DATA: u64 = 192 << 20;

/// A clone through the plugin, and `cp --sparse=always` and `sync` of the same extent, in turn.
pub(crate) fn beside_cp(world: &World) -> Result<()> {
    let source = "b-clone";
    let mut plugin = world.plugin(FIRST)?;
    plugin.plugin("Create", &json!({"Name": source, "Opts": {"size": "1gb"}}))?;
    let at = mount(&mut plugin, source)?;
    let inside = world.node(FIRST)?.path_inside(&at)?.join("data");
    let mut file = File::create(&inside)?;
    let mut noise = Vec::new();
    File::open("/dev/urandom")?
        .take(DATA)
        .read_to_end(&mut noise)?;
    file.write_all(&noise)?;
    file.sync_all()?;
    drop(file);
    unmount(&mut plugin, source)?;
    let extent = extent_of(&world.datastore(), source)?;
    let copy = world.datastore().join("bench-copy");
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("b-clone-{round}");
        let ask = json!({"Name": name, "Opts": {"clone-from": source}});
        ours.push(ms(timed(|| plugin.plugin("Create", &ask))?.0));
        plugin.plugin("Remove", &json!({"Name": name}))?;
        let cp = || {
            Cmd::new("/usr/bin/cp")
                .arg("--sparse=always")
                .arg(&extent)
                .arg(&copy)
                .run()?;
            Ok(File::open(&copy)?.sync_all()?)
        };
        bare.push(ms(timed(cp)?.0));
        remove_file(&copy)?;
    }
    plugin.plugin("Remove", &json!({"Name": source}))?;
    let (ours, bare) = (median(&ours)?, median(&bare)?);
    let note = format!("{ours:.0} ms over {bare:.0} ms, {} MiB of data", DATA >> 20);
    world.figure("clone", ours / bare, &note)
}
