//! What must hold of the world whenever no request is under way: nothing lost, nothing leaked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use vdvs_domain::VolumeId;
use vdvs_engine::api::{AdminVolume, VolumeView};

use crate::support::{Lab, disk, ds};

fn json(bytes: &[u8]) -> Option<Value> {
    let text = str::from_utf8(bytes).ok()?;
    serde_json::from_str(text.split_once('\n')?.1).ok()
}

/// The ledger's volumes with their bytes.
pub(crate) fn ledger(lab: &Lab) -> BTreeMap<String, u64> {
    let files = lab.world.files(&ds("ds"));
    let mut slots: Vec<_> = files
        .iter()
        .filter(|f| f.contains("/ledger."))
        .filter_map(|f| Some((f.rsplit_once('.')?.1.parse::<u64>().ok()?, f)))
        .collect();
    slots.sort();
    let newest = slots
        .iter()
        .rev()
        .find_map(|(_, f)| json(&lab.world.file(&ds("ds"), f)?));
    let entries = newest.map(|l| l["entries"].clone()).unwrap_or_default();
    let entries = entries.as_object().cloned().unwrap_or_default();
    entries
        .into_iter()
        .map(|(id, bytes)| (id, bytes.as_u64().unwrap()))
        .collect()
}

/// Panics, with `when` in the text, unless files, ledger, records and devices agree.
pub(crate) async fn check(lab: &Lab, when: &str) -> Vec<VolumeView> {
    let listing = lab.engine.admin_volumes().await.unwrap();
    let volumes: Vec<VolumeView> = listing.volumes.iter().map(|v| v.view.clone()).collect();
    for AdminVolume {
        view, operation, ..
    } in &listing.volumes
    {
        assert_eq!(*operation, None, "{when}: {} is unfinished", view.name);
    }
    check_files(lab, when, &volumes);
    let entries: BTreeMap<String, u64> = volumes
        .iter()
        .map(|v| (v.id.to_string(), v.capacity.bytes()))
        .collect();
    assert_eq!(ledger(lab), entries, "{when}: ledger");
    check_devices(lab, when, &volumes);
    volumes
}

fn check_files(lab: &Lab, when: &str, volumes: &[VolumeView]) {
    let files = lab.world.files(&ds("ds"));
    let group = "dockvols/11111111-1111-1111-1111-111111111111/";
    let mut expected = BTreeSet::new();
    for view in volumes {
        let stem = format!("{group}{}.{}", view.name, view.id.id8());
        expected.insert(format!("{group}{}.vdvs", view.name));
        expected.insert(format!("{stem}.vmdk"));
        expected.insert(format!("{stem}-flat.vmdk"));
    }
    let found: BTreeSet<String> = files
        .into_iter()
        .filter(|f| f.starts_with(group))
        .filter(|f| !volumes.iter().any(|v| is_record_of(f, v)))
        .collect();
    assert_eq!(found, expected, "{when}: files");
}

fn is_record_of(file: &str, view: &VolumeView) -> bool {
    file.contains(&format!("/{}.{}.vdvs.", view.name, view.id.id8()))
}

fn check_devices(lab: &Lab, when: &str, volumes: &[VolumeView]) {
    for view in volumes {
        let has: Vec<_> = lab
            .vms
            .iter()
            .filter(|vm| lab.world.devices(vm).iter().any(|d| d.disk == disk(view)))
            .collect();
        let says: Vec<_> = view
            .ownership
            .owner()
            .map(|o| &o.vm.id)
            .into_iter()
            .collect();
        assert_eq!(has, says, "{when}: who has {}", view.name);
        assert!(
            lab.world.writers(&disk(view)).len() <= 1,
            "{when}: one writer"
        );
    }
    let known: BTreeSet<_> = volumes.iter().map(disk).collect();
    for vm in &lab.vms {
        for device in lab.world.devices(vm) {
            assert!(
                known.contains(&device.disk),
                "{when}: {} has no record",
                device.disk
            );
        }
    }
}

/// The one volume of that id, if it is there.
pub(crate) fn with_id(volumes: &[VolumeView], id: VolumeId) -> Option<&VolumeView> {
    volumes.iter().find(|v| v.id == id)
}
