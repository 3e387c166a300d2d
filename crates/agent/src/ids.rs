//! Fresh identities from the system's randomness. The only place of this program that asks for it.

use uuid::Uuid;
use vdvs_domain::VolumeId;
use vdvs_engine::ports::Ids;

/// Random UUIDs.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn volume_id(&self) -> VolumeId {
        VolumeId::new(Uuid::now_v7())
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }
}
