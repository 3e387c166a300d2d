//! The ten schedules in which volumes are most easily lost or written twice, with real engines, real disks and real
//! power cuts: one engine on each of two hosts that share a datastore, and a program that knows nothing of ours watching
//! every disk all the while.
//!
//! ```text
//!   esx01: swarm01 ── engine, plugin        vsanDatastore, a VMFS for both; locks outlive a dead host by 6 s
//!   esx02: swarm02 ── engine, plugin
//! ```
//! The same schedules run by the thousand in the simulator; here nothing is simulated but the hypervisor. Each begins
//! with both hosts in order and ends so, with its volumes removed; what it left anywhere is found at the end.
//! `VDVS_SCHEDULE` names one of them by a part of its name, for whoever works on it.

#[path = "schedules_hosts/agents.rs"]
mod agents;
#[path = "schedules_hosts/formats.rs"]
mod formats;
#[path = "schedules_hosts/owners.rs"]
mod owners;
#[path = "schedules_hosts/relay.rs"]
mod relay;
#[path = "schedules_hosts/stage.rs"]
mod stage;
#[path = "schedules_hosts/wanting.rs"]
mod wanting;

use std::env;
use std::time::Instant;

use anyhow::{Context, Result};
use stage::Stage;

type Schedule = fn(&Stage) -> Result<()>;

/// In an order in which what one leaves for the next to clean up is nothing.
const SCHEDULES: [(&str, Schedule); 10] = [
    ("owner on a dead host", owners::the_owners_host_dies),
    (
        "restarted on another host by high availability",
        owners::the_old_machine_restarts_on_another_host,
    ),
    (
        "powered on while its disk belongs to another",
        owners::the_old_machine_is_powered_on_while_its_disk_belongs_to_another,
    ),
    (
        "isolated, but alive",
        owners::the_owners_host_is_silent_but_alive,
    ),
    (
        "a host that lost the datastore",
        owners::the_owners_host_loses_the_datastore,
    ),
    (
        "agents killed in the middle of attach and detach",
        agents::the_agent_dies_in_the_middle_of_attach_and_of_detach,
    ),
    ("replies lost", agents::replies_are_lost),
    (
        "plugin killed between mkfs and ready",
        formats::the_plugin_dies_between_mkfs_and_ready,
    ),
    (
        "two guests that each hold what the other wants",
        wanting::each_holds_what_the_other_wants,
    ),
    ("fence under load", wanting::a_fence_under_load),
];

#[test]
fn ten_schedules_of_faults_and_takeovers_keep_one_writer_and_every_line() -> Result<()> {
    let Some(stage) = Stage::begin()? else {
        return Ok(());
    };
    // While working on one of them.
    let only = env::var("VDVS_SCHEDULE").unwrap_or_default();
    let chosen = SCHEDULES.iter().filter(|(name, _)| name.contains(&only));
    for (name, schedule) in chosen {
        let begun = Instant::now();
        schedule(&stage).with_context(|| format!("schedule '{name}'"))?;
        stage
            .in_order()
            .with_context(|| format!("after '{name}'"))?;
        let took = format!("{:.1?}", begun.elapsed());
        stage.rig.note(&format!("schedule '{name}'"), &took);
    }
    stage.end()
}
