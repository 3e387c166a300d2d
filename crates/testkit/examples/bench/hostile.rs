//! What one VM can do to another: `GetVolume` of a VM while another VM's connections to the same agent say nothing right,
//! beside the same call in the pauses between.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;
use vdvs_api::v1;
use vdvs_testkit::process::Cmd;

use crate::figures::{median, us};
use crate::world::{FIRST, Guest, SECOND, World};

/// Attack and pause alternate so often: whatever else the machine does falls on both.
const ROUNDS: usize = 16;
const ROUND: Duration = Duration::from_millis(500);
/// Connections at once; a VM has eight.
const ATTACKERS: usize = 6;
/// Between two calls of the neighbour.
const PAUSE: Duration = Duration::from_millis(1);

const SAID: [&[u8]; 4] = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x09\x01\xff\xff\xff\xff\xff noise",
    b"PRI * HTTP",
    b"\xef\xbe\xad\x0b\xff\xff\xff\xff no frame",
];

/// The ratio, budget 2 ×.
pub(crate) fn measure(world: &World) -> Result<()> {
    let name = "b-hostile";
    let mut plugin = world.plugin(FIRST)?;
    plugin.plugin("Create", &json!({"Name": name}))?;
    let socket = world.vsock(SECOND);
    let (attacked, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let made = AtomicUsize::new(0);
    let times = thread::scope(|scope| {
        for at in 0..ATTACKERS {
            let (socket, attacked, over, made) = (&socket, &attacked, &over, &made);
            scope.spawn(move || attack(socket, at, attacked, over, made));
        }
        let times = neighbour(world, name, &attacked);
        over.store(true, Ordering::SeqCst);
        times
    });
    let [calm, under] = times?;
    let attacks = made.into_inner();
    ensure!(attacks > ROUNDS, "only {attacks} attacks were made");
    let (calm_p50, under_p50) = (median(&calm)?, median(&under)?);
    let note = format!(
        "{under_p50:.0} over {calm_p50:.0} µs, {} and {} calls, {attacks} attacks",
        under.len(),
        calm.len()
    );
    world.figure("hostile.ratio", under_p50 / calm_p50, &note)?;
    plugin.plugin("Remove", &json!({"Name": name}))?;
    Ok(())
}

/// How long each call took, in the pauses and under attack.
fn neighbour(world: &World, name: &str, attacked: &AtomicBool) -> Result<[Vec<f64>; 2]> {
    world.runtime.block_on(async {
        let mut guest = world.guest(FIRST);
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS * 2 {
            attacked.store(round % 2 == 1, Ordering::SeqCst);
            let end = Instant::now() + ROUND;
            let list = times.get_mut(round % 2).context("there are two")?;
            while Instant::now() < end {
                list.push(ask(&mut guest, name).await?);
                sleep(PAUSE).await;
            }
        }
        Ok(times)
    })
}

async fn ask(guest: &mut Guest, name: &str) -> Result<f64> {
    let request = v1::GetVolumeRequest {
        name: name.to_owned(),
    };
    let begin = Instant::now();
    guest.get_volume(request).await?;
    Ok(us(begin.elapsed()))
}

/// Connections that say something wrong and go, while there is an attack.
fn attack(
    socket: &Path,
    from: usize,
    attacked: &AtomicBool,
    over: &AtomicBool,
    made: &AtomicUsize,
) -> Result<()> {
    // What attacks runs in a VM, which has processors of its own: it does not take the host's from the agent.
    let own = fs::read_link("/proc/thread-self")?;
    let own = own.file_name().context("a thread has a number")?;
    Cmd::new("/usr/bin/renice")
        .args(["--priority", "19", "--pid"])
        .arg(own)
        .run()?;
    let mut said = SAID.iter().cycle().skip(from);
    while !over.load(Ordering::SeqCst) {
        if !attacked.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let mut stream = UnixStream::connect(socket)?;
        // One that was shown out already is an answer too.
        let words = said.next().context("a cycle has no end")?;
        stream.write_all(words).ok();
        made.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
