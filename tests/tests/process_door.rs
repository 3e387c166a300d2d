//! One door for all virtual machines: the hypervisor says of each connection whose it is. Here a simulated host does, and
//! one whose service does not answer.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says where, and fails"
)]

mod bare;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, ensure};
use tokio::runtime::{Builder, Runtime};
use tonic::Request;
use vdvs_api::{RemoteError, v1};
use vdvs_domain::ErrorKind;
use vdvs_testkit::wait::until_true;

use bare::{Bare, SOON, head, hello};

fn runtime() -> Result<Runtime> {
    Ok(Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?)
}

fn create(name: &str) -> v1::CreateVolumeRequest {
    v1::CreateVolumeRequest {
        head: head(),
        name: name.to_owned(),
        ..Default::default()
    }
}

#[test]
fn two_vms_of_one_door_are_told_apart_and_a_stranger_is_refused_and_written_down() -> Result<()> {
    let bare = Bare::door(&["vm1", "vm2"])?;
    let runtime = runtime()?;
    for vm in ["vm1", "vm2"] {
        // A connection made before the host named its VMs is ended, and the next one is served.
        until_true(SOON, "the host names its VMs", || {
            let hello = async { bare.guest(vm).hello(Request::new(hello())).await.is_ok() };
            Ok(runtime.block_on(hello))
        })?;
        runtime.block_on(async {
            let asked = create(&format!("of-{vm}"));
            bare.guest(vm).create_volume(Request::new(asked)).await
        })?;
    }
    let audit = bare.vdvs("audit ls --output json")?;
    for vm in ["vm1", "vm2"] {
        ensure!(
            audit.contains(vm) && audit.contains(&format!("of-{vm}")),
            "{audit}"
        );
    }
    // A folder that no VM has: the host lists no such process group.
    let stranger = bare.vsock("stranger");
    fs::create_dir_all(stranger.parent().context("a folder")?)?;
    until_true(SOON, "the door is there", || {
        Ok(UnixStream::connect(&stranger).is_ok())
    })?;
    let mut stream = UnixStream::connect(&stranger)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut said = Vec::new();
    // Closed, with or without what was sent being read.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").ok();
    stream.read_to_end(&mut said).ok();
    ensure!(said.is_empty(), "{said:?}");
    until_true(SOON, "it is in the audit", || {
        let audit = bare.vdvs("audit ls --output json")?;
        Ok(audit.contains("process group 1999") && audit.contains("UNKNOWN_CALLER"))
    })?;
    bare.assert_quiet_but(&["lists no VM of process group 1999"])
}

#[test]
fn while_the_hosts_service_does_not_answer_every_guest_hears_so_and_comes_again() -> Result<()> {
    let bare = Bare::deaf(&["vm1"])?;
    let runtime = runtime()?;
    for _ in 0..2 {
        let refused = runtime.block_on(async {
            let mut guest = bare.guest("vm1");
            guest.hello(Request::new(hello())).await.map(drop)
        });
        let refused = RemoteError::from(refused.unwrap_err());
        ensure!(refused.kind == ErrorKind::HostFailed, "{refused:?}");
        ensure!(refused.to_string().contains("starting"), "{refused}");
    }
    let mut stream = UnixStream::connect(bare.vsock("vm1"))?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(b"\xef\xbe\xad\x0b\x05\0\0\0null\0")?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(said.contains("Service is presently unavailable"), "{said}");
    ensure!(bare.agent()?.is_alive(), "it goes on asking");
    bare.assert_quiet_but(&["cannot be used", "hostd"])
}
