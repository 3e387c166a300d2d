//! Where on a VM's controllers the next disk goes. Pure.
//!
//! Disks go to PVSCSI controllers only, of which a VM has at most four SCSI controllers in all. Unit 7 is the
//! controller's own. The first sixteen units of every controller there is are used first, since they work on every
//! release; then a controller is added, which stuns the VM for a moment; and units 16 to 63, which virtual hardware 14
//! brought, come last.

use std::collections::BTreeSet;

use vdvs_vim::{Controller, ControllerKind, Hardware};

/// SCSI controllers of a VM.
const BUSES: i32 = 4;
/// Units of a controller on any virtual hardware.
const NARROW: i32 = 16;
/// Units of a PVSCSI controller from [`WIDE_SINCE`] on.
const WIDE: i32 = 64;
/// Virtual hardware with 64 units.
const WIDE_SINCE: u32 = 14;
/// The controller's own unit.
const OWN: i32 = 7;

/// A unit of a controller, by the controller's key.
pub(crate) type Unit = (i32, i32);

/// Where the next disk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Here.
    At { controller: i32, unit: i32 },
    /// A controller has to be added first, alone.
    AddController { bus: i32 },
    /// Nowhere.
    Full,
}

/// The number in `vmx-14`. What cannot be read counts as old.
fn hardware_version(text: &str) -> u32 {
    text.strip_prefix("vmx-")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

/// Where the next disk goes. `refused`: units the host would not take, though they look free.
pub(crate) fn next(hardware: &Hardware, refused: &BTreeSet<Unit>) -> Place {
    let controllers: Vec<&Controller> = {
        let mut all: Vec<_> = hardware
            .controllers()
            .filter(|c| c.kind == ControllerKind::ParaVirtual)
            .collect();
        all.sort_by_key(|c| c.bus);
        all
    };
    let free = |from: i32, to: i32| {
        controllers.iter().find_map(|c| {
            let taken = hardware.units_taken(c);
            (from..to)
                .find(|u| *u != OWN && !taken.contains(u) && !refused.contains(&(c.key, *u)))
                .map(|unit| Place::At {
                    controller: c.key,
                    unit,
                })
        })
    };
    if let Some(place) = free(0, NARROW) {
        return place;
    }
    if let Some(bus) = free_bus(hardware) {
        return Place::AddController { bus };
    }
    let wide = hardware_version(&hardware.version) >= WIDE_SINCE;
    wide.then(|| free(NARROW, WIDE))
        .flatten()
        .unwrap_or(Place::Full)
}

/// A number no SCSI controller has.
pub(crate) fn free_bus(hardware: &Hardware) -> Option<i32> {
    let scsi = |c: &&Controller| !matches!(c.kind, ControllerKind::Other(_));
    let taken: BTreeSet<i32> = hardware
        .controllers()
        .filter(scsi)
        .filter_map(|c| c.bus)
        .collect();
    (0..BUSES).find(|bus| !taken.contains(bus))
}

#[cfg(test)]
mod tests {
    use vdvs_vim::{Device, Disk};

    use super::*;

    fn hardware(version: &str, controllers: i32) -> Hardware {
        let controller = |bus: i32| {
            Device::Controller(Controller {
                key: 1000 + bus,
                kind: ControllerKind::ParaVirtual,
                bus: Some(bus),
                own_unit: Some(7),
                devices: Vec::new(),
                pci_slot: None,
            })
        };
        Hardware {
            version: version.to_owned(),
            devices: (0..controllers).map(controller).collect(),
            ..Hardware::default()
        }
    }

    fn fill(hardware: &mut Hardware) -> Vec<Unit> {
        let mut got = Vec::new();
        while let Place::At { controller, unit } = next(hardware, &BTreeSet::new()) {
            got.push((controller, unit));
            hardware.devices.push(Device::Disk(Disk {
                key: 2000 + i32::try_from(got.len()).unwrap(),
                controller_key: Some(controller),
                unit: Some(unit),
                ..Disk::default()
            }));
        }
        got
    }

    #[test]
    fn unit_seven_is_the_controllers_own() {
        let got = fill(&mut hardware("vmx-13", 4));
        assert_eq!(got.len(), 4 * 15);
        assert!(got.iter().all(|(_, unit)| *unit != 7 && *unit < 16));
    }

    #[test]
    fn a_controller_is_added_when_the_others_are_full_and_before_the_wide_units() {
        let mut one = hardware("vmx-19", 1);
        assert_eq!(fill(&mut one).len(), 15);
        let none = BTreeSet::new();
        assert_eq!(next(&one, &none), Place::AddController { bus: 1 });
        assert_eq!(
            next(&hardware("vmx-19", 0), &none),
            Place::AddController { bus: 0 }
        );
    }

    #[test]
    fn virtual_hardware_14_has_sixty_three_places_on_each_controller() {
        let mut full = hardware("vmx-14", 4);
        assert_eq!(fill(&mut full).len(), 4 * 63);
        assert_eq!(next(&full, &BTreeSet::new()), Place::Full);
        let mut old = hardware("vmx-13", 4);
        fill(&mut old);
        assert_eq!(next(&old, &BTreeSet::new()), Place::Full);
    }

    #[test]
    fn a_unit_the_host_refused_is_passed_over() {
        let refused: BTreeSet<Unit> = (0..64).map(|unit| (1000, unit)).collect();
        let place = next(&hardware("vmx-19", 2), &refused);
        assert_eq!(
            place,
            Place::At {
                controller: 1001,
                unit: 0
            }
        );
    }

    #[test]
    fn other_scsi_controllers_take_a_bus_and_no_disks_of_ours() {
        let mut mixed = hardware("vmx-19", 0);
        mixed.devices.push(Device::Controller(Controller {
            key: 1000,
            kind: ControllerKind::OtherScsi("VirtualLsiLogicController".to_owned()),
            bus: Some(0),
            own_unit: Some(7),
            devices: Vec::new(),
            pci_slot: None,
        }));
        assert_eq!(
            next(&mixed, &BTreeSet::new()),
            Place::AddController { bus: 1 }
        );
    }
}
