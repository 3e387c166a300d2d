//! The agent on a lab host: real files, and a hypervisor that comes and goes.

use std::fs;
use std::path::Path;
use std::thread;

use tempfile::{TempDir, tempdir};
use vdvs_api::{model, v1};
use vdvs_host_lab::hv;

use crate::process::{Vdvsd, create, head, reason, until};

/// A lab host with one datastore and no VM. Its hypervisor does not run yet.
fn lab() -> TempDir {
    let dir = tempdir().expect("a temporary folder can be made");
    let folder = dir.path().join("datastore");
    for folder in [&folder, &dir.path().join("vms")] {
        fs::create_dir(folder).expect("the folder is ours");
    }
    let config = format!(
        r#"{{"name":"esx01","host_id":"7d1c3a7e-1111-4222-8333-444455556666",
            "datastores":[{{"name":"vsanDatastore","type":"vsan","path":"{}"}}]}}"#,
        folder.display()
    );
    fs::write(dir.path().join("host.json"), config).expect("the folder is ours");
    dir
}

fn register(lab: &Path, vm: &str) {
    let folder = lab.join("vms").join(vm);
    fs::create_dir(&folder).expect("the folder is ours");
    let config = format!(
        r#"{{"name":"{vm}","instance_uuid":"7d1c3a7e-1111-4222-8333-444455556667",
            "config_path":"[vsanDatastore] {vm}/{vm}.vmx","init":null}}"#
    );
    fs::write(folder.join("vm.json"), config).expect("the folder is ours");
}

/// Runs the hypervisor on a thread that ends with this process.
fn start_hypervisor(lab: &Path) {
    let lab = lab.to_owned();
    thread::spawn(move || hv::serve(&lab));
}

/// Descriptors of virtual disks below the datastore.
fn descriptors(dir: &Path) -> usize {
    let mut found = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if path.is_dir() {
            found += descriptors(&path);
        } else if name.ends_with(".vmdk") && !name.ends_with("-flat.vmdk") {
            found += 1;
        }
    }
    found
}

#[tokio::test]
async fn an_agent_that_is_there_before_its_host_serves_each_vm_as_it_appears() {
    let agent = Vdvsd::start_lab(lab());
    let host = agent.dir().to_owned();
    until("it says that the hypervisor is not there", || {
        agent.log().contains("does not say which VMs it has")
    });
    start_hypervisor(&host);
    until("the hypervisor answers", || {
        agent.log().contains("the host answers again")
    });
    assert!(!agent.lab_socket("swarm01").exists());
    register(&host, "swarm01");
    // The socket is there a moment before somebody listens at it.
    until("it listens", || {
        agent.log().contains("listening vm=swarm01")
    });

    let mut guest = agent.lab_guest("swarm01");
    guest.create_volume(create("v")).await.unwrap();
    let datastore = host.join("datastore");
    assert_eq!(descriptors(&datastore), 1);

    let agent = Vdvsd::start_lab(agent.kill());
    until("it listens again", || {
        agent.log().contains("listening vm=swarm01")
    });
    let mut guest = agent.lab_guest("swarm01");
    let name = "v".to_owned();
    let got = guest
        .get_volume(v1::GetVolumeRequest { name: name.clone() })
        .await
        .unwrap();
    let volume = model::Volume::try_from(got.into_inner()).unwrap();
    assert_eq!(volume.created_by.as_deref(), Some("swarm01"));

    let delete = |name: &str| v1::DeleteVolumeRequest {
        head: head(),
        name: name.to_owned(),
        volume_id: String::new(),
    };
    // Another one of this name is what a request means that comes late, or once more.
    let mut other = delete("v");
    other.volume_id = "0192aaaa-bbbb-7ccc-8ddd-eeee12345678".to_owned();
    assert_eq!(reason(guest.delete_volume(other).await), "NOT_FOUND");
    assert_eq!(descriptors(&datastore), 1);
    let mut this = delete("v");
    this.volume_id = volume.id.to_string();
    guest.delete_volume(this).await.unwrap();
    assert_eq!(descriptors(&datastore), 0);
    assert_eq!(reason(guest.delete_volume(delete("v")).await), "NOT_FOUND");
    agent.assert_quiet();

    fs::remove_dir_all(host.join("vms/swarm01")).unwrap();
    until("it listens no longer", || {
        agent.log().contains("no longer listening vm=swarm01")
    });
}
