//! What is only asked: `GetVolume` and `ListVolumes`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::Request;
use vdvs_api::v1;

use crate::figures::{median, ms, percentile, us};
use crate::plant;
use crate::world::{FIRST, World, hello};

const WARM_UP: usize = 500;
const GETS: usize = 5_000;
const LISTS: usize = 5;
const VISIBLE: usize = 3;
/// Longer than anybody waits for a list.
const LIMIT: Duration = Duration::from_secs(120);

/// `GetVolume`, one in flight.
pub(crate) fn get(world: &World) -> Result<()> {
    let name = "b-get";
    let mut plugin = world.plugin(FIRST)?;
    plugin.plugin("Create", &json!({"Name": name}))?;
    let times = world.runtime.block_on(async {
        let mut guest = world.guest(FIRST);
        let mut times = Vec::with_capacity(GETS);
        for round in 0..WARM_UP + GETS {
            let request = v1::GetVolumeRequest {
                name: name.to_owned(),
            };
            let begin = Instant::now();
            guest.get_volume(request).await?;
            if round >= WARM_UP {
                times.push(us(begin.elapsed()));
            }
        }
        anyhow::Ok(times)
    })?;
    world.figure("get.p50", median(&times)?, &format!("{GETS} calls"))?;
    world.figure("get.p99", percentile(&times, 99)?, "")?;
    let hellos = world.runtime.block_on(async {
        let mut guest = world.guest(FIRST);
        let mut times = Vec::with_capacity(GETS);
        for _ in 0..GETS {
            let begin = Instant::now();
            guest.hello(hello()).await?;
            times.push(us(begin.elapsed()));
        }
        anyhow::Ok(times)
    })?;
    world.figure(
        "get.hello",
        median(&hellos)?,
        "same connection, nothing looked up",
    )?;
    plugin.plugin("Remove", &json!({"Name": name}))?;
    Ok(())
}

/// `ListVolumes` of the agent and `List` of the plugin, with `planted` volumes there. `mark` tells the keys of several
/// sizes apart.
pub(crate) fn list(world: &World, planted: usize, mark: &str) -> Result<()> {
    let key = |name: &str| format!("list.{name}{mark}");
    // The agent has just been started: the first list is the cold one.
    let cold = match agent_list(world, planted)? {
        Ok(cold) => cold,
        Err(why) => {
            for name in ["cold", "agent", "plugin"] {
                world.none(&key(name), &why)?;
            }
            return Ok(());
        }
    };
    let note = format!("{planted} volumes");
    world.figure(&key("cold"), cold, "first list of a new agent")?;
    let mut agent = Vec::new();
    for _ in 0..LISTS {
        agent.extend(agent_list(world, planted)?.ok());
    }
    world.figure(&key("agent"), median(&agent)?, &note)?;
    let mut plugin = world.plugin(FIRST)?;
    let mut times = Vec::new();
    for _ in 0..LISTS {
        let begin = Instant::now();
        let answer = plugin.plugin("List", &json!({}))?;
        times.push(ms(begin.elapsed()));
        let volumes = answer.get("Volumes").and_then(Value::as_array);
        let listed = volumes.context("a list without volumes")?.len();
        if listed < planted {
            let why = format!("the plugin lists {listed} of {planted}");
            return world.none(&key("plugin"), &why);
        }
    }
    world.figure(&key("plugin"), median(&times)?, &note)
}

/// How long a volume that another host made stays unseen by somebody who lists all the time.
pub(crate) fn visible(world: &World) -> Result<()> {
    let mut times = Vec::new();
    for round in 0..VISIBLE {
        let name = format!("q-{round}");
        let mut seen = false;
        let begin = Instant::now();
        plant::beside_the_agent(world, &name)?;
        while !seen && begin.elapsed() < LIMIT {
            seen = world.runtime.block_on(async {
                let mut guest = world.guest(FIRST);
                let reply = guest.list_volumes(v1::ListVolumesRequest {}).await?;
                anyhow::Ok(reply.get_ref().volumes()?.iter().any(|v| v.name == name))
            })?;
        }
        ensure!(seen, "{name} was never listed");
        times.push(ms(begin.elapsed()));
    }
    world.figure("list.visible", percentile(&times, 100)?, "the longest")
}

/// One list of the agent, or why there was none.
fn agent_list(world: &World, planted: usize) -> Result<Result<f64, String>> {
    let (took, answer) = world.runtime.block_on(async {
        let mut guest = world.guest(FIRST);
        guest.hello(hello()).await?;
        let begin = Instant::now();
        let mut request = Request::new(v1::ListVolumesRequest {});
        request.set_timeout(LIMIT);
        let answer = timeout(LIMIT, guest.list_volumes(request)).await;
        anyhow::Ok((begin.elapsed(), answer))
    })?;
    let after = format!("after {:.1} s", took.as_secs_f64());
    let listing = match answer {
        Err(_) => return Ok(Err(format!("no answer {after}"))),
        Ok(Err(status)) => return Ok(Err(format!("{after}: {}", status.message()))),
        Ok(Ok(reply)) => reply.into_inner(),
    };
    let unreadable = listing.unreadable_datastores.join(", ");
    if !unreadable.is_empty() {
        return Ok(Err(format!("{after}: not readable: {unreadable}")));
    }
    let listed = listing.encoded.len();
    ensure!(listed >= planted, "the agent lists {listed} of {planted}");
    Ok(Ok(ms(took)))
}
