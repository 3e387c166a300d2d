//! Creates: one after the other, 64 at once, and through the engine beside its own local driver.

use std::fs::{self, File};
use std::io::Write;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use vdvs_testkit::lab::DRIVER;

use crate::figures::{median, ms, timed};
use crate::http::Http;
use crate::world::{FIRST, World};

const MANY: usize = 64;
const ROUNDS: usize = 3;
const BESIDE: usize = 20;

/// All of it.
pub(crate) fn measure(world: &World) -> Result<()> {
    let mut ours = Vec::new();
    let (mut alone, mut together, mut slowest, mut ratios) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut bare = Vec::new();
    for round in 0..ROUNDS {
        bare.extend(file_writes(world)?);
        let begin = Instant::now();
        let mut plugin = world.plugin(FIRST)?;
        for n in 0..MANY {
            ours.push(create(&mut plugin, &format!("b-s{round}-{n}"))?);
        }
        let sequence = ms(begin.elapsed());
        remove_all(world, &format!("b-s{round}-"))?;
        let (total, each) = at_once(world, round)?;
        remove_all(world, &format!("b-p{round}-"))?;
        slowest.push(each.iter().copied().fold(0.0, f64::max));
        alone.push(sequence);
        together.push(total);
        ratios.push(total / sequence);
    }
    let note = format!("{} creates", ours.len());
    world.figure("create.p50", median(&ours)?, &note)?;
    world.figure("create.each64", median(&slowest)?, "slowest of 64")?;
    let note = format!(
        "{:.0} ms over {:.0} ms",
        median(&together)?,
        median(&alone)?
    );
    world.figure("create.ratio64", median(&ratios)?, &note)?;
    world.figure(
        "create.fsync",
        median(&bare)?,
        "same disk, file and folder synced",
    )?;
    through_the_engine(world)
}

fn create(plugin: &mut Http, name: &str) -> Result<f64> {
    let ask = json!({"Name": name, "Opts": {"size": "1gb", "diskformat": "thin"}});
    Ok(ms(timed(|| plugin.plugin("Create", &ask))?.0))
}

/// 64 creators that start together: how long until the last is done, and how long each took.
fn at_once(world: &World, round: usize) -> Result<(f64, Vec<f64>)> {
    let connections = (0..MANY)
        .map(|_| world.plugin(FIRST))
        .collect::<Result<Vec<_>>>()?;
    let start = Barrier::new(MANY + 1);
    thread::scope(|scope| {
        let creators: Vec<_> = connections
            .into_iter()
            .enumerate()
            .map(|(n, mut plugin)| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    create(&mut plugin, &format!("b-p{round}-{n}"))
                })
            })
            .collect();
        start.wait();
        let begin = Instant::now();
        let each = creators
            .into_iter()
            .map(|c| c.join().map_err(|_| anyhow!("a creator panicked"))?)
            .collect::<Result<Vec<_>>>()?;
        Ok((ms(begin.elapsed()), each))
    })
}

fn remove_all(world: &World, prefix: &str) -> Result<()> {
    let mut plugin = world.plugin(FIRST)?;
    for n in 0..MANY {
        plugin.plugin("Remove", &json!({"Name": format!("{prefix}{n}")}))?;
    }
    Ok(())
}

/// What the disk below costs: a small file written, and it and its folder synced.
fn file_writes(world: &World) -> Result<Vec<f64>> {
    let root = world.lab().layout().root().to_owned();
    let path = root.join("fsync-probe");
    let mut times = Vec::new();
    for _ in 0..BESIDE {
        let (took, ()) = timed(|| {
            let mut file = File::create(&path)?;
            file.write_all(&[0; 1024])?;
            file.sync_all()?;
            File::open(&root)?.sync_all()?;
            Ok(())
        })?;
        times.push(ms(took));
        fs::remove_file(&path)?;
    }
    Ok(times)
}

/// `docker volume create` without the CLI: our driver and the engine's local one in turn.
fn through_the_engine(world: &World) -> Result<()> {
    let node = world.node(FIRST)?;
    let mut engine = Http::connect(&node.path_inside("/run/docker.sock")?)?;
    let mut make = |name: &str, driver: &str| -> Result<f64> {
        let ask = json!({"Name": name, "Driver": driver});
        Ok(ms(timed(|| engine.post("/volumes/create", &ask))?.0))
    };
    let (mut ours, mut local) = (Vec::new(), Vec::new());
    for n in 0..BESIDE {
        ours.push(make(&format!("b-d{n}"), DRIVER)?);
        local.push(make(&format!("b-l{n}"), "local")?);
    }
    world.figure("create.docker", median(&ours)?, "POST /volumes/create")?;
    world.figure("create.local", median(&local)?, "POST /volumes/create")?;
    for n in 0..BESIDE {
        for prefix in ["b-d", "b-l"] {
            let name = format!("{prefix}{n}");
            node.docker()
                .run(&["volume", "rm", &name])
                .with_context(|| format!("remove {name}"))?;
        }
    }
    Ok(())
}
