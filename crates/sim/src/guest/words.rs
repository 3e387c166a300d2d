//! The engine's types in the plugin's words, as the contract carries them from one to the other.

use vdvs_api::model::options_map;
use vdvs_domain::Ownership;
use vdvs_engine::api;
use vdvs_plugin::agent::{Attached, Attachment, Volume};

pub(crate) fn volume(view: api::VolumeView) -> Volume {
    let attachment = match &view.ownership {
        Ownership::Attaching { .. } | Ownership::Attached { .. } | Ownership::Detaching { .. } => {
            view.ownership.owner().map(|owner| Attachment {
                vm: owner.vm.name.clone(),
                vm_uuid: owner.vm.id.instance_uuid.to_string(),
                locator: owner.locator.clone(),
            })
        }
        _ => None,
    };
    Volume {
        id: view.id,
        options: options_map(view.capacity, &view.options),
        name: view.name,
        datastore: view.datastore,
        group: view.group.to_string(),
        capacity: view.capacity.bytes(),
        allocated: view.allocated_bytes,
        filesystem: view.filesystem,
        layout: view.layout,
        created: view.created.at,
        created_by: view.created.by.map(|vm| vm.name).unwrap_or_default(),
        state: state(&view.ownership).to_owned(),
        attachment,
        epoch: view.epoch,
        waiting: view.waiting.unwrap_or_default(),
    }
}

fn state(ownership: &Ownership) -> &'static str {
    match ownership {
        Ownership::Attaching { .. } => "attaching",
        Ownership::Attached { .. } => "attached",
        Ownership::Detaching { .. } => "detaching",
        Ownership::Reading { .. } => "reading",
        _ => "free",
    }
}

pub(crate) fn attached(attached: api::Attached) -> Attached {
    Attached {
        volume: volume(attached.view),
        epoch: attached.epoch,
        locator: attached.locator,
        disk_uuid: attached.disk_uuid,
    }
}
