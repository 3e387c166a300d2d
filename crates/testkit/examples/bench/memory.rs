//! What the agent weighs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::time::timeout;
use tonic::Request;
use uuid::Uuid;
use vdvs_api::v1;
use vdvs_testkit::lab::DEFAULT_DATASTORE;
use vdvs_testkit::process::{Cmd, ProcId};
use vdvs_testkit::wait::until_true;

use crate::world::{FIRST, World, hello};

const GUESTS: usize = 64;
/// The host looks for new VMs every so often, and the agent follows.
const SOON: Duration = Duration::from_secs(60);
/// Longer than anybody waits for a list.
const LIST: Duration = Duration::from_secs(120);

/// A new agent that two plugins talk to.
pub(crate) fn idle(world: &World) -> Result<()> {
    world.restart_agent(|| Ok(()))?;
    world.wait_plugin(FIRST)?;
    world.figure(
        "memory.idle",
        world.agent_memory("VmRSS")?,
        "2 guests, no volumes",
    )?;
    Ok(())
}

/// 64 guests are connected and each has asked for a volume; one of them lists all.
pub(crate) fn full(world: &World, planted: usize) -> Result<()> {
    let mut vms = vec![FIRST.to_owned()];
    let mut processes = Vec::new();
    for n in 1..GUESTS {
        let name = format!("idle{n:02}");
        processes.push(register(world, &name)?);
        vms.push(name);
    }
    power_on(world, &vms, &processes)?;
    let listed = world.runtime.block_on(connect_all(world, &vms))?;
    let note = format!(
        "{GUESTS} guests, {planted} volumes, {}",
        if listed {
            "after a list"
        } else {
            "no list came"
        }
    );
    world.figure("memory.full", world.agent_memory("VmRSS")?, &note)?;
    world.figure(
        "memory.peak",
        world.agent_memory("VmHWM")?,
        "most it ever had",
    )?;
    for (vm, _) in vms.iter().skip(1).zip(&processes) {
        world.host().hypervisor().power_off(vm)?;
    }
    Ok(())
}

/// Registers a VM with the host, and starts what stands for its first process.
fn register(world: &World, name: &str) -> Result<ProcId> {
    let layout = world.lab().layout();
    let host = world.host();
    fs::create_dir_all(layout.vsock_dir(host.name(), name))?;
    let json = json!({
        "name": name,
        "instance_uuid": Uuid::new_v4(),
        "config_path": format!("[{DEFAULT_DATASTORE}] {name}/{name}.vmx"),
        "init": null,
    });
    fs::write(
        layout.vm_dir(host.name(), name).join("vm.json"),
        json.to_string(),
    )?;
    Cmd::new("/usr/bin/sleep")
        .arg("infinity")
        // What a killed bench leaves is found by it.
        .env("VDVS_LAB_OWNER", layout.prefix())
        .daemon(&layout.root().join("idle.log"))
}

fn power_on(world: &World, vms: &[String], processes: &[ProcId]) -> Result<()> {
    let host = world.host();
    until_true(SOON, "the host knows the new VMs", || {
        Ok(host.hypervisor().vms()?.len() >= vms.len())
    })?;
    for (vm, process) in vms.iter().skip(1).zip(processes) {
        let pid = i32::try_from(process.pid).context("pid out of range")?;
        host.hypervisor().power_on(vm, pid, process.start_time)?;
    }
    until_true(SOON, "the agent listens for the new VMs", || {
        let socket = |vm: &String| world.lab().layout().vsock_dir(host.name(), vm).join("1019");
        Ok(vms.iter().all(|vm| socket(vm).exists()))
    })
}

/// As 64 plugins do: hello, a watch that stays, a volume. True: the list came.
async fn connect_all(world: &World, vms: &[String]) -> Result<bool> {
    let mut kept = Vec::new();
    for vm in vms {
        let mut guest = world.guest(vm);
        guest
            .hello(hello())
            .await
            .with_context(|| format!("hello of {vm}"))?;
        let watch = guest.watch(v1::WatchRequest {}).await?.into_inner();
        let request = v1::GetVolumeRequest {
            name: "p-00000".to_owned(),
        };
        guest.get_volume(request).await?;
        kept.push((guest, watch));
    }
    let (guest, _) = kept.first_mut().context("no guest")?;
    let mut request = Request::new(v1::ListVolumesRequest {});
    request.set_timeout(LIST);
    let listed = timeout(LIST, guest.list_volumes(request)).await;
    Ok(matches!(listed, Ok(Ok(reply)) if reply.get_ref().unreadable_datastores.is_empty()))
}
