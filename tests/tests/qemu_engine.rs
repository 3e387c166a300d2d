//! Debian with its own container engine in QEMU VMs: what a person runs, on a kernel, a SCSI driver and a vSocket that
//! nobody here wrote.

use std::time::Duration;

use anyhow::{Result, ensure};
use vdvs_testkit::lab::qemu::{Guest, Machine};
use vdvs_testkit::wait::until_true;
use vdvs_tests::qemu::{SOON, VirtualRig};

/// A first `docker run` takes five seconds on an idle machine.
const RUN_LIMIT: Duration = Duration::from_secs(150);

/// An image of one program, made in the guest.
const IMAGE: &str = "mkdir -p /tmp/image/bin && cp /usr/bin/busybox /tmp/image/bin/ && \
                     ln -s busybox /tmp/image/bin/sh && tar -C /tmp/image -c . | docker import - bb:1";

fn docker(machine: &Machine, args: &str) -> Result<String> {
    machine.sh_within(&format!("docker {args}"), RUN_LIMIT)
}

/// Runs a line of shell in a container with the volume at `/data`.
fn run(machine: &Machine, volume: &str, line: &str) -> Result<String> {
    docker(
        machine,
        &format!("run --rm --network none -v {volume}:/data bb:1 sh -c '{line}'"),
    )
}

#[test]
fn a_container_writes_its_vm_loses_power_and_a_container_in_the_next_vm_reads() -> Result<()> {
    let Some(rig) = VirtualRig::up("engine", 2, Guest::Engine)? else {
        return Ok(());
    };
    rig.each(|machine| {
        machine.start_engine()?;
        machine.sh_within(IMAGE, RUN_LIMIT).map(drop)
    })?;
    let (first, second) = (rig.machine("vm01")?, rig.machine("vm02")?);
    docker(
        &first,
        "volume create -d vsphere --name orders -o size=20mb",
    )?;
    let listed = docker(&second, "volume ls --format '{{.Driver}} {{.Name}}'")?;
    ensure!(listed.contains("orders@"), "{listed}");

    run(
        &first,
        "orders",
        "echo acknowledged >/data/a && busybox sync",
    )?;
    until_true(SOON, "the disk leaves the first VM", || {
        Ok(rig.disks(&first)?.is_empty())
    })?;
    // Now a container that lives on, until its VM does not.
    docker(
        &first,
        "run -d --name writer --network none --volume-driver vsphere -v orders:/data bb:1 \
         sh -c 'echo again >/data/b && busybox sync && echo safe && busybox sleep 3600'",
    )?;
    until_true(SOON, "the container was told that its data is safe", || {
        Ok(docker(&first, "logs writer")?.contains("safe"))
    })?;
    rig.power_cut(&first)?;

    let read = run(&second, "orders", "busybox cat /data/a /data/b")?;
    ensure!(read == "acknowledged\nagain", "{read}");
    until_true(SOON, "the volume is removed", || {
        Ok(docker(&second, "volume rm orders").is_ok())
    })?;
    rig.finish()
}
