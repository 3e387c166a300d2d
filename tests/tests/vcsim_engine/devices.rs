//! Controllers, units, identities, locks: what a VM's configuration holds.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;
use vdvs_domain::ownership::Locator;
use vdvs_engine::ports::{DiskLock, DiskPath, DsPath, Host, HostError};
use vdvs_testkit::vcsim::Mode;

use crate::rig::{Agent, LONG, Rig, disk, ds, fresh};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_beyond_the_first_controller_get_a_second_one_and_never_unit_seven() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    let vm = rig.vm(0);
    // The VM's own disk has a place already.
    let mut places = BTreeSet::new();
    for number in 0..17 {
        let name = format!("v{number}");
        let view = rig.agent.create(0, &name, &[("size", "1mb")]).await;
        let attached = rig.agent.attach(0, &name).await;
        let device = rig.device(0, &view);
        let (bus, unit) = (
            device["bus"].as_i64().unwrap(),
            device["unit"].as_i64().unwrap(),
        );
        assert!(unit != 7 && unit < 16, "{device}");
        assert!(places.insert((bus, unit)), "{device}");
        let slot = [160, 192][usize::try_from(bus).unwrap()];
        let target = u8::try_from(unit).unwrap();
        assert_eq!(
            attached.locator,
            Locator::Scsi {
                controller_pci_slot: slot,
                target
            }
        );
    }
    let controllers = rig
        .witness
        .ask(&json!({"do": "controllers", "vm": vm}))
        .unwrap();
    assert_eq!(controllers, json!([0, 1]));
    assert_eq!(places.iter().filter(|(bus, _)| *bus == 1).count(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_vms_attach_at_once_and_each_gets_its_own() {
    let Some(mut rig) = Rig::with(Mode::Esx, &["-vms", "8"]).await else {
        return;
    };
    let mut views = Vec::new();
    for vm in 0..8 {
        views.push(
            rig.agent
                .create(vm, &format!("v{vm}"), &[("size", "1mb")])
                .await,
        );
    }
    let names: Vec<String> = (0..8).map(|vm| format!("v{vm}")).collect();
    let attach = (0..8).map(|vm| rig.agent.attach(vm, &names[vm]));
    join_all(attach).await;
    for (vm, view) in views.iter().enumerate() {
        rig.device(vm, view);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_on_a_disk_is_held_free_or_unknown_and_never_guessed() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    let view = rig.agent.create(0, "data", &[]).await;
    let host = rig.agent.opened.host.clone();
    assert_eq!(host.lock(&disk(&view)).await, DiskLock::Free);
    rig.agent.attach(0, "data").await;
    let DiskLock::Held { by } = host.lock(&disk(&view)).await else {
        panic!("not held");
    };
    assert!(by.contains(&rig.vm(0)), "{by}");
    let direct = host
        .attach(rig.agent.vm(1), &disk(&view), false, Instant::now() + LONG)
        .await;
    assert!(
        matches!(direct, Err(HostError::Locked { .. })),
        "{direct:?}"
    );
    rig.sim.kill().unwrap();
    let unknown = host.lock(&disk(&view)).await;
    assert!(matches!(unknown, DiskLock::Unknown { .. }), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_without_lock_query_never_says_free() {
    let Some(mut rig) = Rig::with(Mode::Esx, &["-plain"]).await else {
        return;
    };
    let host = rig.agent.opened.host.clone();
    let vm = rig.vm(0);
    let own = rig.witness.disks(&vm).unwrap()[0]["file"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = DiskPath {
        datastore: ds("LocalDS_0"),
        path: DsPath::new(own.split_once("] ").unwrap().1).unwrap(),
    };
    assert_eq!(host.lock(&path).await, DiskLock::Held { by: vm.clone() });
    rig.witness.power(&vm, "off").unwrap();
    let unknown = host.lock(&path).await;
    assert!(matches!(unknown, DiskLock::Unknown { .. }), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cartel_id_names_its_vm_and_no_other() {
    for mode in [Mode::Esx, Mode::Vcenter] {
        let Some(mut rig) = Rig::new(mode).await else {
            return;
        };
        let host = rig.agent.opened.host.clone();
        for number in 0..3 {
            let name = rig.vm(number);
            let cartel = rig
                .sim
                .order(&format!("cartel {name}"))
                .unwrap()
                .parse()
                .unwrap();
            let vm = host.vm_of_cartel(cartel).await.unwrap().unwrap();
            assert_eq!((vm.name, &vm.id), (name, rig.agent.vm(number)));
        }
        assert_eq!(host.vm_of_cartel(77).await.unwrap(), None);
        let name = rig.vm(0);
        let cartel = rig
            .sim
            .order(&format!("cartel {name}"))
            .unwrap()
            .parse()
            .unwrap();
        rig.witness.power(&name, "off").unwrap();
        assert_eq!(
            host.vm_of_cartel(cartel).await.unwrap(),
            None,
            "its process ended"
        );
        if mode == Mode::Vcenter {
            let other = mode.vm(1, 0);
            let cartel = rig
                .sim
                .order(&format!("cartel {other}"))
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(
                host.vm_of_cartel(cartel).await.unwrap(),
                None,
                "another host's"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_moved_with_its_vm_is_still_the_volumes() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    let view = rig.agent.create(0, "data", &[]).await;
    let attached = rig.agent.attach(0, "data").await;
    let vm = rig.vm(0);
    let moved = format!("[LocalDS_1] {vm}_1.vmdk");
    let ask =
        json!({"do": "rename_backing", "vm": vm, "from": disk(&view).to_string(), "to": moved});
    assert_eq!(rig.witness.ask(&ask).unwrap(), json!(true));
    rig.restart_agent().await;
    let disks = rig.agent.opened.host.disks(rig.agent.vm(0)).await.unwrap();
    assert!(disks.iter().any(|d| d.disk == disk(&view)), "{disks:?}");
    let refused = rig
        .agent
        .try_attach(1, fresh(), "data", Duration::ZERO)
        .await;
    assert!(refused.is_err(), "it is still the first VM's");
    let again = rig.agent.attach(0, "data").await;
    assert_eq!(again.locator, attached.locator);
    rig.agent.detach(0, &again).await;
    assert!(!rig.witness.has_disk(&vm, &moved).unwrap());
    let lost = rig
        .agent
        .try_attach(1, fresh(), "data", Duration::ZERO)
        .await
        .unwrap_err();
    assert!(!rig.is_attached(1, &view), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_of_one_vcenter_hand_a_volume_over() {
    let Some(mut rig) = Rig::new(Mode::Vcenter).await else {
        return;
    };
    let other = Agent::start(&rig.sim, &rig.dir, 1).await;
    let view = rig.agent.create(0, "data", &[]).await;
    let attached = rig.agent.attach(0, "data").await;
    let held = other
        .try_attach(0, fresh(), "data", Duration::ZERO)
        .await
        .unwrap_err();
    assert!(held.to_string().contains(&rig.vm(0)), "{held}");
    let theirs = rig.sim.mode().vm(1, 0);
    assert!(
        !rig.witness
            .has_disk(&theirs, &disk(&view).to_string())
            .unwrap()
    );
    rig.agent.detach(0, &attached).await;
    other.attach(0, "data").await;
    assert!(
        rig.witness
            .has_disk(&theirs, &disk(&view).to_string())
            .unwrap()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_is_prepared_once_and_left_alone_the_second_time() {
    let Some(mut rig) = Rig::new(Mode::Esx).await else {
        return;
    };
    let host = rig.agent.opened.host.clone();
    let vm = rig.vm(0);
    let done = host
        .prepare(rig.agent.vm(0), 4, Instant::now() + LONG)
        .await
        .unwrap();
    assert_eq!((done.controllers, done.added), (4, 3));
    assert!(done.enabled_uuid && done.needs_power_cycle);
    assert_eq!(
        rig.witness
            .ask(&json!({"do": "controllers", "vm": vm}))
            .unwrap(),
        json!([0, 1, 2, 3])
    );
    let extra: Value = rig.witness.ask(&json!({"do": "extra", "vm": vm})).unwrap();
    assert_eq!(extra["disk.EnableUUID"], json!("TRUE"));
    let again = host
        .prepare(rig.agent.vm(0), 4, Instant::now() + LONG)
        .await
        .unwrap();
    assert_eq!(
        (again.controllers, again.added, again.enabled_uuid),
        (4, 0, false)
    );
}
