//! Kept copies of configuration documents.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;
use vdvs_domain::Timestamp;
use vdvs_engine::ports::{KeptConfig, StoreError};

use crate::writer::store_error;

/// Keeps the copy unless a newer one is kept already, or the same that was confirmed later.
pub(crate) fn keep(db: &Connection, id: Uuid, config: &KeptConfig) -> Result<(), StoreError> {
    let seq = i64::try_from(config.seq).map_err(|_| {
        StoreError(format!(
            "configuration version {} is out of range",
            config.seq
        ))
    })?;
    let confirmed = i64::try_from(config.confirmed.millis()).unwrap_or(i64::MAX);
    let mut keep = db
        .prepare_cached(
            "INSERT INTO kept_config (id, seq, bytes, confirmed_ms) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE
             SET seq = excluded.seq, bytes = excluded.bytes, confirmed_ms = excluded.confirmed_ms
             WHERE (excluded.seq, excluded.confirmed_ms) > (kept_config.seq, kept_config.confirmed_ms)",
        )
        .map_err(store_error)?;
    keep.execute(params![id.to_string(), seq, config.bytes, confirmed])
        .map_err(store_error)?;
    Ok(())
}

/// The copy kept, if any.
pub(crate) fn kept(db: &Connection, id: Uuid) -> Result<Option<KeptConfig>, StoreError> {
    let mut select = db
        .prepare_cached("SELECT seq, bytes, confirmed_ms FROM kept_config WHERE id = ?1")
        .map_err(store_error)?;
    let row: Option<(i64, Vec<u8>, i64)> = select
        .query_row([id.to_string()], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .optional()
        .map_err(store_error)?;
    row.map(|(seq, bytes, confirmed)| {
        let seq = u64::try_from(seq).map_err(|_| StoreError(format!("kept version {seq}")))?;
        let confirmed = Timestamp::from_millis(u64::try_from(confirmed).unwrap_or(0));
        Ok(KeptConfig {
            seq,
            bytes,
            confirmed,
        })
    })
    .transpose()
}

/// The configurations of which a copy is kept.
pub(crate) fn all_kept(db: &Connection) -> Result<Vec<Uuid>, StoreError> {
    let mut select = db
        .prepare_cached("SELECT id FROM kept_config ORDER BY id")
        .map_err(store_error)?;
    let ids = select
        .query_map([], |r| r.get::<_, String>(0))
        .map_err(store_error)?;
    ids.map(|id| {
        let id = id.map_err(store_error)?;
        Uuid::parse_str(&id).map_err(|e| StoreError(format!("id of a kept configuration: {e}")))
    })
    .collect()
}
