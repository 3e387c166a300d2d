//! The engine's types in the contract's words.

use vdvs_api::model;
use vdvs_domain::ownership::Ownership;
use vdvs_engine::api;
use vdvs_engine::ports::Power;

/// A volume.
#[must_use]
pub fn volume(view: api::VolumeView) -> model::Volume {
    model::Volume {
        id: view.id,
        options: model::options_map(view.capacity, &view.options),
        access: view.options.access,
        name: view.name,
        datastore: view.datastore,
        group: view.group,
        capacity: view.capacity,
        allocated_bytes: view.allocated_bytes,
        filesystem: view.filesystem,
        layout: view.layout,
        created_at: view.created.at,
        created_by: view.created.by.map(|vm| vm.name),
        state: state(&view.ownership, &view.host_name),
        epoch: view.epoch,
        waiting: view.waiting,
    }
}

fn state(ownership: &Ownership, host_name: &str) -> model::State {
    let attachment = ownership.owner().map(|owner| model::Attachment {
        vm_name: owner.vm.name.clone(),
        vm_uuid: owner.vm.id.instance_uuid,
        host_name: host_name.to_owned(),
        since: owner.since,
        read_only: owner.read_only,
        locator: owner.locator.clone(),
    });
    match (ownership, attachment) {
        (Ownership::Attaching { .. }, Some(owner)) => model::State::Attaching(owner),
        (Ownership::Attached { .. }, Some(owner)) => model::State::Attached(owner),
        (Ownership::Detaching { .. }, Some(owner)) => model::State::Detaching(owner),
        (Ownership::Reading { .. }, _) => model::State::Reading,
        (_, _) => model::State::Free,
    }
}

/// An attachment.
#[must_use]
pub fn attached(attached: api::Attached) -> model::Attached {
    model::Attached {
        volume: volume(attached.view),
        epoch: attached.epoch,
        locator: attached.locator,
        disk_uuid: attached.disk_uuid,
        waited: attached.waited,
    }
}

/// What the records say to an inventory.
#[must_use]
pub fn inventory(answer: api::InventoryAnswer) -> model::InventoryAnswer {
    model::InventoryAnswer {
        attached: answer.attached.into_iter().map(volume).collect(),
        superseded: answer.superseded,
        wanted: answer.wanted,
    }
}

/// A notice.
#[must_use]
pub fn notice(notice: api::Notice) -> model::Notice {
    match notice {
        api::Notice::Wanted { volume, by_vm } => model::Notice::Wanted { volume, by_vm },
        api::Notice::Superseded { volume, epoch } => model::Notice::Superseded { volume, epoch },
    }
}

/// A volume for an administrator.
#[must_use]
pub fn admin_volume(admin: api::AdminVolume) -> model::AdminVolume {
    model::AdminVolume {
        volume: volume(admin.view),
        operation: admin
            .operation
            .map(|(kind, since)| (kind.name().to_owned(), since)),
        attention: admin.attention,
        disk_path: admin.disk_path,
        policy: admin.policy,
        protected: admin.protected,
        orphan: admin.orphan,
        told: admin.told,
    }
}

/// A VM.
#[must_use]
pub fn vm(vm: api::AdminVm) -> model::AdminVm {
    model::AdminVm {
        name: vm.vm.name,
        uuid: vm.vm.id.instance_uuid.to_string(),
        config_path: vm.vm.id.config_path,
        power: match vm.power {
            Power::On => "on",
            Power::Off => "off",
            Power::Suspended => "suspended",
        }
        .to_owned(),
        connected: vm.guest.0,
        plugin: vm.guest.1,
        group: vm.group.map(String::from).unwrap_or_default(),
        volumes: vm.volumes,
        host: vm.host,
        told_at: vm.told_at,
    }
}

/// A datastore.
#[must_use]
pub fn datastore(ds: api::AdminDatastore) -> model::DatastoreStatus {
    model::DatastoreStatus {
        name: ds.info.name.into(),
        kind: ds.info.kind.to_string(),
        accessible: ds.info.accessible,
        capacity_bytes: ds.info.capacity_bytes,
        free_bytes: ds.info.free_bytes,
        provisioned_bytes: ds.provisioned_bytes,
        used_bytes: ds.used_bytes,
        volumes: ds.volumes,
        problem: ds.problem,
    }
}
