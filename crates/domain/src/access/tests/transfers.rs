//! What is on its way between two vmgroups.

use super::*;
use crate::ids::VolumeId;
use crate::names::VolumeName;

fn name(text: &str) -> VolumeName {
    VolumeName::new(text).unwrap()
}

/// vm1 with `orders` from `dev` to `test`.
fn on_its_way() -> AccessConfig {
    let mut config = two_groups();
    config.transfers.push(Transfer {
        id: Uuid::from_u128(1),
        vms: vec![vm(1)],
        from: id(1),
        to: id(2),
        volumes: vec![TransferredVolume {
            id: VolumeId::new(Uuid::from_u128(5)),
            name: name("orders"),
            datastore: ds("ds1"),
        }],
        exact: false,
        back: false,
        host: HostId::new(Uuid::from_u128(9)),
        began: Timestamp::default(),
    });
    config
}

#[test]
fn a_volume_on_its_way_is_found_at_either_end_by_its_name() {
    let config = on_its_way();
    let found = |group, text: &str| config.transfer_of(group, &name(text)).is_some();
    assert!(found(id(1), "orders") && found(id(2), "orders"));
    assert!(!found(id(1), "other") && !found(id(2), "other"));
    assert!(!found(GroupId::DEFAULT, "orders") && !found(GroupId::DEFAULT, "other"));
}

#[test]
fn a_vm_is_on_its_way_by_itself_and_no_other_is() {
    let config = on_its_way();
    let found = |n| config.transfer_of_vm(vm(n).uuid).is_some();
    assert!(found(1) && !found(2));
}
