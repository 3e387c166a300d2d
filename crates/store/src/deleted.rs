//! Deletes that were answered.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;
use vdvs_domain::{RequestId, VolumeId};
use vdvs_engine::ports::StoreError;

use crate::writer::store_error;

/// Deletes that are remembered; a retry comes within minutes.
const MOST: i64 = 4096;

/// Remembers that `request` deleted `volume`.
pub(crate) fn remember(
    db: &Connection,
    request: RequestId,
    volume: VolumeId,
) -> Result<(), StoreError> {
    let insert = || {
        db.prepare_cached("INSERT OR IGNORE INTO deleted (request, volume) VALUES (?1, ?2)")?
            .execute(params![request.to_string(), volume.to_string()])?;
        db.prepare_cached("DELETE FROM deleted WHERE number <= ?1")?
            .execute([db.last_insert_rowid().saturating_sub(MOST)])
    };
    insert().map(drop).map_err(store_error)
}

/// What `request` deleted.
pub(crate) fn recall(db: &Connection, request: RequestId) -> Result<Option<VolumeId>, StoreError> {
    let select = || {
        db.prepare_cached("SELECT volume FROM deleted WHERE request = ?1")?
            .query_row([request.to_string()], |r| r.get::<_, String>(0))
            .optional()
    };
    let text = select().map_err(store_error)?;
    text.map(|t| Uuid::parse_str(&t).map(VolumeId::new))
        .transpose()
        .map_err(|e| StoreError(format!("a deleted volume's id: {e}")))
}
