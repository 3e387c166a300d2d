//! Disks that fail under everything we do: reads and writes of a volume's own disk, a datastore without space, flushes of
//! records and of the journal. Each time the same is asked: is the error clear, is nothing believed that is not so, and
//! does everything work again when the disk does, without a restart of anything?
//!
//! ```text
//!   file system ─► /dev/loopN ─► <volume>-flat.vmdk ─► FUSE ─► a server that fails reads or writes when told ─► the extent
//! ```
//! The kernel of the machine needs no module for that: the server (nbdkit) is shown as a file (nbdfuse) in the extent's
//! place, and what lies on that is a real block device. Flushes fail by a tracer that injects the error into the call.
//! The other fault of storage, a path that is dead for a whole host, is among the schedules of several hosts.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

mod bare;
#[path = "faults_disks/disk.rs"]
mod disk;
#[path = "faults_disks/flushes.rs"]
mod flushes;
#[path = "faults_disks/space.rs"]
mod space;
#[path = "faults_disks/tools.rs"]
mod tools;

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vdvs_testkit::wait::until_true;

use bare::Bare;

/// What programs do by themselves after a fault, they do within a minute or two.
const HEALS: Duration = Duration::from_secs(180);
/// In seconds: a Mount that cannot work is tried again for ten less than it may take, and what could not be ended is
/// tried again at every look at reality, two in the age of a doubtful count. No process is in these mounts, so that age
/// is longer than any of them is needed.
const PATIENCE: [&str; 4] = ["--mount-budget", "15", "--doubt-after", "40"];
const VM: &str = "vm1";
const DATASTORE: &str = "ds1";

/// A host with two datastores and a VM with its plugin; none where it cannot run.
fn world() -> Result<Option<Bare>> {
    let Some(mut bare) = Bare::lab_of(&[(DATASTORE, "vmfs"), ("ds2", "nfs")], &[VM])? else {
        return Ok(None);
    };
    tools::ensure()?;
    start(&mut bare)?;
    Ok(Some(bare))
}

/// Starts the plugin in the VM.
fn start(bare: &mut Bare) -> Result<()> {
    bare.start_inside_with(VM, &PATIENCE)
}

/// What was begun and could not be ended is ended now.
fn settled(bare: &Bare) -> Result<()> {
    let mut last = Value::Null;
    until_true(HEALS, "nothing is unfinished", || {
        last = status(bare)?;
        Ok(last["unresolved_operations"] == 0)
    })
    .with_context(|| last.to_string())
}

fn status(bare: &Bare) -> Result<Value> {
    let said = bare.cli(&["status".into(), "--output".into(), "json".into()])?;
    serde_json::from_str(&said.stdout).with_context(|| format!("status: {}", said.stdout))
}

/// The volume as the administrator sees it.
fn volume(bare: &Bare, name: &str) -> Result<Value> {
    let said = bare.vdvs(&format!("volume inspect {name} --output json"))?;
    serde_json::from_str(&said).with_context(|| format!("{name}: {said}"))
}

/// Nobody has it, and nothing about it is unfinished.
fn wait_free(bare: &Bare, name: &str) -> Result<()> {
    let mut last = Value::Null;
    until_true(HEALS, &format!("{name} is free"), || {
        last = volume(bare, name)?;
        Ok(last["state"] == "free" && last["operation"].is_null())
    })
    .with_context(|| last.to_string())
}

/// What cannot be done now says why in words a person finds in a search, and names what it is about.
fn must_fail<T: Debug>(answer: Result<T>, words: &[&str]) -> Result<String> {
    let said = bare::team::said(answer)?;
    let lower = said.to_lowercase();
    let found = words
        .iter()
        .any(|word| lower.contains(&word.to_lowercase()));
    ensure!(found, "none of {words:?} in: {said}");
    eprintln!("said: {}", said.replace('\n', " / "));
    Ok(said)
}

/// Everything goes, and nothing is left: no volume, no operation, no claim on the totals.
fn all_gone(bare: &Bare, volumes: &[&str]) -> Result<()> {
    for name in volumes {
        wait_free(bare, name)?;
        bare.remove(VM, name)?;
    }
    settled(bare)?;
    let listed = bare.vdvs("volume ls --output json")?;
    let listed: Value = serde_json::from_str(&listed)?;
    ensure!(
        listed["volumes"].as_array().is_some_and(Vec::is_empty),
        "{listed}"
    );
    Ok(())
}
