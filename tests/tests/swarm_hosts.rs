//! A real swarm of three over two hosts, and what happens to hosts, machines, programs and cables: two services follow
//! their volumes, every row and line that was acknowledged stays, and a program that knows nothing of ours watches that
//! no disk ever has two writers.
//!
//! ```text
//!   esx01: swarm01 (manager), swarm02 (worker)      home vsanDatastore      both hosts see both datastores;
//!   esx02: swarm03 (worker)                         home nfsDatastore       locks outlive a dead host by 3 s
//! ```
//! *postgres* keeps its volume until its node lets go or is proven dead (`failover=wait`); *lines* loses it to whoever
//! asks when its node has not let go after eight seconds (`failover=fence`). Each takes its turn on either host.

#[path = "swarm_hosts/acts.rs"]
mod acts;
#[path = "swarm_hosts/network.rs"]
mod network;
#[path = "swarm_hosts/story.rs"]
mod story;

use std::time::Duration;

use anyhow::Result;
use story::Story;

/// One lab for all of it: half of the time would otherwise be spent on making labs.
#[test]
fn services_over_two_hosts_lose_nothing_whatever_happens_to_machines_hosts_programs_and_cables()
-> Result<()> {
    let Some(story) = Story::begin("hosts")? else {
        return Ok(());
    };
    acts::a_power_cut_moves_the_volumes_to_the_other_host(&story)?;
    acts::a_host_crashes_with_all_its_machines(&story)?;
    acts::programs_are_killed_under_running_writers(&story)?;
    acts::drained_and_forced_nobody_is_fenced(&story)?;
    network::a_partition_heals(&story)?;
    network::nobody_takes_the_volume_of_a_suspended_machine(&story)?;
    network::two_nodes_ask_for_one_name_at_once(&story)?;
    story.end()
}

/// `fence-after` of the lines' volume, as the stack file says.
const FENCE_AFTER: Duration = Duration::from_secs(8);
