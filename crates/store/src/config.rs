//! Kept copies of configuration documents.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;
use vdvs_engine::ports::{KeptConfig, StoreError};

use crate::writer::store_error;

/// Keeps the copy unless a newer or the same version is kept already.
pub(crate) fn keep(db: &Connection, id: Uuid, config: &KeptConfig) -> Result<(), StoreError> {
    let seq = i64::try_from(config.seq).map_err(|_| {
        StoreError(format!(
            "configuration version {} is out of range",
            config.seq
        ))
    })?;
    let mut keep = db
        .prepare_cached(
            "INSERT INTO kept_config (id, seq, bytes) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, bytes = excluded.bytes
             WHERE excluded.seq > kept_config.seq",
        )
        .map_err(store_error)?;
    keep.execute(params![id.to_string(), seq, config.bytes])
        .map_err(store_error)?;
    Ok(())
}

/// The copy kept, if any.
pub(crate) fn kept(db: &Connection, id: Uuid) -> Result<Option<KeptConfig>, StoreError> {
    let mut select = db
        .prepare_cached("SELECT seq, bytes FROM kept_config WHERE id = ?1")
        .map_err(store_error)?;
    let row: Option<(i64, Vec<u8>)> = select
        .query_row([id.to_string()], |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()
        .map_err(store_error)?;
    row.map(|(seq, bytes)| {
        let seq = u64::try_from(seq).map_err(|_| StoreError(format!("kept version {seq}")))?;
        Ok(KeptConfig { seq, bytes })
    })
    .transpose()
}
