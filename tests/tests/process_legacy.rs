//! The protocol of the archived volume service, spoken by a client that shares nothing with ours: a Python program
//! written from how that product behaved on the wire (`process_legacy/original_client.py`). Each scenario runs against
//! real agents.
//!
//! What our own tests of the frames cannot show is that both ends are wrong in the same way; this can.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

mod bare;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use vdvs_testkit::process::Cmd;

use bare::Bare;

/// Debian's interpreter, whatever others the machine has.
const PYTHON: &str = "/usr/bin/python3";
/// A thousand connections on a busy machine take some seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a scenario as a guest of `vm`, with `other` beside it.
fn scenario(bare: &Bare, name: &str, vm: &str, other: &str) -> Result<()> {
    let client =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/process_legacy/original_client.py");
    let said = Cmd::new(PYTHON)
        .arg(client)
        .arg(name)
        .args([bare.vsock(vm), bare.vsock(other)])
        .limit(LIMIT)
        .run()?;
    for figure in said.lines().filter(|line| line.starts_with("figure: ")) {
        eprintln!("{figure}");
    }
    ensure!(said.trim_end().ends_with("ok"), "{name}: {said}");
    Ok(())
}

fn on_a_simulated_host(name: &str) -> Result<()> {
    let bare = Bare::sim(&["vm1", "vm2"])?;
    scenario(&bare, name, "vm1", "vm2")?;
    bare.assert_quiet()
}

#[test]
fn an_independent_client_makes_attaches_reads_lists_detaches_and_removes() -> Result<()> {
    on_a_simulated_host("life")
}

#[test]
fn a_request_in_pieces_is_one_request_and_a_long_reply_is_one_reply() -> Result<()> {
    on_a_simulated_host("pieces")
}

#[test]
fn what_is_wrong_with_a_frame_is_said_and_the_next_one_is_served() -> Result<()> {
    on_a_simulated_host("wrong")
}

#[test]
fn another_version_is_refused_for_every_verb_and_nothing_is_done() -> Result<()> {
    on_a_simulated_host("versions")
}

#[test]
fn a_thousand_silent_clients_delay_neither_their_own_vm_nor_another() -> Result<()> {
    on_a_simulated_host("silent")
}

#[test]
fn behind_one_door_each_connection_is_its_vms_and_a_crowd_of_one_keeps_nobody_out() -> Result<()> {
    let bare = Bare::door(&["vm1", "vm2"])?;
    scenario(&bare, "life", "vm1", "vm2")?;
    scenario(&bare, "silent", "vm1", "vm2")?;
    bare.assert_quiet()
}

#[test]
fn on_a_host_with_real_disks_the_same_gate_judges_and_writes_it_down() -> Result<()> {
    let Some(bare) = Bare::lab(&["ds1"], &["vm1", "vm2"])? else {
        return Ok(());
    };
    scenario(&bare, "life", "vm1", "vm2")?;
    let audit: Value = serde_json::from_str(&bare.vdvs("audit ls --output json")?)?;
    let text = audit.to_string();
    for verb in ["create", "attach", "detach", "delete"] {
        ensure!(text.contains(verb), "no {verb} in the audit: {text}");
    }
    ensure!(text.contains("vm1") && text.contains("vm2"), "{text}");
    bare.assert_quiet()
}
