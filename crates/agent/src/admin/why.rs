//! Why a volume is not where somebody wants it.

use tokio::time::Instant;
use tonic::Status;
use vdvs_api::{limits, v1};
use vdvs_engine::api::VolumeEvent;

use super::{AdminFront, unix_ms};
use crate::view;

/// A vmgroup's, a volume's and a datastore's name, each as long as it may be; what is longer names nothing.
const MAX_ADDRESS: usize = 1024;

fn event(event: VolumeEvent) -> v1::VolumeEvent {
    v1::VolumeEvent {
        at_unix_ms: unix_ms(event.at),
        host: event.host,
        kind: event.kind,
        who: event.who,
        epoch: event.epoch,
        text: event.text,
        count: u32::try_from(event.count).unwrap_or(u32::MAX),
    }
}

impl AdminFront {
    pub(super) async fn answer_why_volume(
        &self,
        deadline: Instant,
        wire: v1::WhyVolumeRequest,
    ) -> Result<v1::WhyVolumeReply, Status> {
        let address = limits::cut(&wire.address, MAX_ADDRESS);
        let found = self.look(deadline, self.engine.admin_why(address)).await?;
        Ok(v1::WhyVolumeReply {
            volume: found.volume.map(|v| view::admin_volume(v).into()),
            headline: found.headline,
            events: found.events.into_iter().map(event).collect(),
            proof: found.proof,
            resolves: found.resolves,
            command: found.command,
            missing: found.missing,
        })
    }
}
