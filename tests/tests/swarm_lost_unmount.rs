//! A count that leaked: the engine loses the Unmount of a container that is removed by force while the plugin is down.
//! It takes minutes by design (a count is doubted only when it is old) and does next to nothing in them, so it runs
//! beside the other suites of the swarm stage (`.config/nextest.toml`).

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use vdvs_tests::rig::{Program, Rig, Setup, run_in};

/// Promised: elsewhere within four minutes.
const PROMISE: Duration = Duration::from_secs(240);

#[test]
fn after_a_forced_removal_with_the_plugin_down_the_volume_mounts_elsewhere_within_four_minutes()
-> Result<()> {
    // With the delays as shipped: they are what is promised.
    let setup = Setup {
        doubt_after: None,
        ..Setup::default()
    };
    let Some(mut rig) = Rig::up_with("lost", 2, setup)? else {
        return Ok(());
    };
    rig.watch_writers()?;
    let (one, two) = (rig.docker("swarm01"), rig.docker("swarm02"));
    rig.create("v1")?;
    let script = "echo x > /data/f; sync; sleep 600";
    one.run(&[
        "run", "-d", "--name", "first", "-v", "v1:/data", "bb:1", "sh", "-c", script,
    ])?;
    rig.wait_output("swarm01", &["exec", "first", "cat", "/data/f"], "x")?;
    rig.hold_plugin("swarm01")?;
    // 15 s, succeeds, and its Unmount is lost for ever.
    one.run(&["rm", "-f", "first"])?;
    let begun = Instant::now();
    rig.release_plugin("swarm01")?;
    rig.expect_complaint(
        Program::Plugin,
        "dockerd lost the Unmount",
        "the leaked count is cleared with a warning",
    );
    rig.expect_complaint(
        Program::Plugin,
        "is still attached to VM swarm01",
        "the other node's attempts are refused while the count is believed",
    );
    while begun.elapsed() < PROMISE {
        // Each attempt waits for the mount budget and then fails, as a swarm task would.
        if two
            .run(&run_in("v1", "cat /data/f"))
            .is_ok_and(|out| out == "x")
        {
            rig.note(
                "lost unmount",
                &format!("mounted elsewhere after {:?}", begun.elapsed()),
            );
            rig.wait_detached("v1")?;
            two.run(&["volume", "rm", "v1"])?;
            return rig.finish_empty();
        }
    }
    bail!("not mounted elsewhere within {PROMISE:?}")
}
