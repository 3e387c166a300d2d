//! The audit: append-only, bounded, with identical denials of one caller folded into one row.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;
use vdvs_domain::{ErrorKind, Timestamp, VolumeId};
use vdvs_engine::ports::{AuditEntry, AuditOutcome, StoreError};

use crate::Limits;
use crate::writer::store_error;

/// A denial later than this after the last one like it begins a new row, so that a span stays telling.
const FOLD_WITHIN_MS: i64 = 3_600_000;
/// Longest text of a column in characters; guests choose some of them.
const MAX_TEXT: usize = 2_000;
/// What `outcome` says of a success.
const DONE: &str = "DONE";

/// A row of the audit: one request, or several identical denials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Grows with every row.
    pub id: i64,
    /// When it happened, or first happened.
    pub first: Timestamp,
    /// When it last happened.
    pub last: Timestamp,
    /// How often.
    pub count: u64,
    /// Who asked.
    pub who: String,
    /// What was asked.
    pub verb: String,
    /// Of what.
    pub object: String,
    /// The volume's id, where there is one.
    pub volume: Option<VolumeId>,
    /// What came of it.
    pub outcome: AuditOutcome,
    /// Facts in words.
    pub detail: String,
}

/// Appends the entry, or counts it on the caller's newest row when that is the same denial.
pub(crate) fn append(
    db: &Connection,
    limits: Limits,
    entry: &AuditEntry,
) -> Result<(), StoreError> {
    let entry = Bounded::new(entry);
    if entry.is_denial() && fold(db, &entry).map_err(store_error)? {
        return Ok(());
    }
    insert(db, &entry).map_err(store_error)?;
    prune(db, limits).map_err(store_error)
}

/// The newest `n` rows, newest first.
pub(crate) fn tail(db: &Connection, n: u32) -> Result<Vec<AuditRow>, StoreError> {
    let mut select = db
        .prepare_cached(
            "SELECT id, first_ms, last_ms, count, who, verb, object, volume, outcome, detail
             FROM audit ORDER BY id DESC LIMIT ?1",
        )
        .map_err(store_error)?;
    let raw = select
        .query_map([n], |r| Ok(read_row(r)))
        .map_err(store_error)?;
    raw.map(|row| row.map_err(store_error)?).collect()
}

/// An entry as it is written: texts cut, times in the column's type.
struct Bounded<'a> {
    at_ms: i64,
    who: &'a str,
    verb: &'static str,
    object: &'a str,
    volume: Option<String>,
    outcome: &'static str,
    detail: &'a str,
}

impl<'a> Bounded<'a> {
    fn new(entry: &'a AuditEntry) -> Self {
        Self {
            at_ms: i64::try_from(entry.at.millis()).unwrap_or(i64::MAX),
            who: cut(&entry.who),
            verb: entry.verb,
            object: cut(&entry.object),
            volume: entry.volume.map(|v| v.to_string()),
            outcome: match entry.outcome {
                AuditOutcome::Done => DONE,
                AuditOutcome::Refused(kind) => kind.row().reason,
            },
            detail: cut(&entry.detail),
        }
    }

    fn is_denial(&self) -> bool {
        self.outcome != DONE
    }
}

fn cut(text: &str) -> &str {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => text.get(..end).unwrap_or(text),
        None => text,
    }
}

/// Counts the entry on the caller's newest row. False: that is something else, or too long ago.
fn fold(db: &Connection, entry: &Bounded<'_>) -> Result<bool, rusqlite::Error> {
    let newest: Option<i64> = db
        .prepare_cached("SELECT id FROM audit WHERE who = ?1 ORDER BY id DESC LIMIT 1")?
        .query_row([entry.who], |r| r.get(0))
        .optional()?;
    let Some(newest) = newest else {
        return Ok(false);
    };
    // Clocks jump: the span only ever grows.
    let folded = db
        .prepare_cached(
            "UPDATE audit
             SET count = count + 1, first_ms = min(first_ms, ?2), last_ms = max(last_ms, ?2)
             WHERE id = ?1 AND verb = ?3 AND object = ?4 AND volume IS ?5 AND outcome = ?6
               AND detail = ?7 AND ?2 - last_ms <= ?8",
        )?
        .execute(params![
            newest,
            entry.at_ms,
            entry.verb,
            entry.object,
            entry.volume,
            entry.outcome,
            entry.detail,
            FOLD_WITHIN_MS,
        ])?;
    Ok(folded > 0)
}

fn insert(db: &Connection, entry: &Bounded<'_>) -> Result<(), rusqlite::Error> {
    db.prepare_cached(
        "INSERT INTO audit (first_ms, last_ms, count, who, verb, object, volume, outcome, detail)
         VALUES (?1, ?1, 1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        entry.at_ms,
        entry.who,
        entry.verb,
        entry.object,
        entry.volume,
        entry.outcome,
        entry.detail,
    ])?;
    Ok(())
}

/// Ids have no gaps (a rolled-back insert gives its id back), so the newest id says how many rows there are.
fn prune(db: &Connection, limits: Limits) -> Result<(), rusqlite::Error> {
    db.prepare_cached("DELETE FROM audit WHERE id <= ?1")?
        .execute([db
            .last_insert_rowid()
            .saturating_sub(i64::from(limits.audit_rows))])?;
    Ok(())
}

fn read_row(row: &Row<'_>) -> Result<AuditRow, StoreError> {
    let get = |i: usize| row.get::<_, String>(i).map_err(store_error);
    let number = |i: usize| -> Result<u64, StoreError> {
        let n: i64 = row.get(i).map_err(store_error)?;
        u64::try_from(n).map_err(|_| StoreError(format!("negative number {n} in the audit")))
    };
    let volume: Option<String> = row.get(7).map_err(store_error)?;
    let volume = volume
        .map(|text| Uuid::parse_str(&text).map(VolumeId::new))
        .transpose()
        .map_err(|e| StoreError(format!("volume id in the audit: {e}")))?;
    let outcome = match get(8)?.as_str() {
        DONE => AuditOutcome::Done,
        reason => AuditOutcome::Refused(
            ErrorKind::from_reason(reason)
                .ok_or_else(|| StoreError(format!("unknown outcome {reason} in the audit")))?,
        ),
    };
    Ok(AuditRow {
        id: row.get(0).map_err(store_error)?,
        first: Timestamp::from_millis(number(1)?),
        last: Timestamp::from_millis(number(2)?),
        count: number(3)?,
        who: get(4)?,
        verb: get(5)?,
        object: get(6)?,
        volume,
        outcome,
        detail: get(9)?,
    })
}

/// A success of `who` at `ms`, for tests.
#[cfg(test)]
pub(crate) fn entry(who: &str, ms: u64) -> AuditEntry {
    AuditEntry {
        at: Timestamp::from_millis(ms),
        who: who.to_owned(),
        verb: "create",
        object: "v@ds".to_owned(),
        volume: None,
        outcome: AuditOutcome::Done,
        detail: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::migrate;

    const LIMITS: Limits = Limits { audit_rows: 5 };

    fn memory() -> Connection {
        let mut db = Connection::open_in_memory().unwrap();
        migrate::migrate(&mut db, 0).unwrap();
        db
    }

    fn denial(who: &str, ms: u64) -> AuditEntry {
        AuditEntry {
            outcome: AuditOutcome::Refused(ErrorKind::PermissionDenied),
            detail: "No create privilege".to_owned(),
            ..entry(who, ms)
        }
    }

    fn write(db: &Connection, entries: &[AuditEntry]) -> Vec<AuditRow> {
        for entry in entries {
            append(db, LIMITS, entry).unwrap();
        }
        tail(db, 100).unwrap()
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let written = AuditEntry {
            volume: Some(VolumeId::new(Uuid::from_u128(7))),
            detail: "größe 1GB".to_owned(),
            ..entry("swarm01", 1_700_000_000_000)
        };
        let rows = write(&memory(), slice::from_ref(&written));
        let row = &rows[0];
        assert_eq!((row.id, row.count, row.first), (1, 1, written.at));
        assert_eq!((&row.who, row.verb.as_str()), (&written.who, written.verb));
        assert_eq!((row.volume, &row.detail), (written.volume, &written.detail));
        assert_eq!(row.outcome, AuditOutcome::Done);
    }

    #[test]
    fn identical_denials_of_one_caller_fold_even_when_another_caller_comes_between() {
        let rows = write(
            &memory(),
            &[
                denial("a", 10),
                denial("b", 11),
                denial("a", 20),
                denial("a", 30),
            ],
        );
        assert_eq!(rows.len(), 2);
        let a = &rows[1];
        assert_eq!((a.who.as_str(), a.count), ("a", 3));
        assert_eq!((a.first.millis(), a.last.millis()), (10, 30));
    }

    #[test]
    fn successes_never_fold_and_anything_between_two_denials_keeps_them_apart() {
        let db = memory();
        assert_eq!(write(&db, &[entry("a", 1), entry("a", 1)]).len(), 2);
        assert_eq!(
            write(&memory(), &[denial("a", 1), entry("a", 2), denial("a", 3)]).len(),
            3
        );
    }

    #[test]
    fn denials_that_differ_in_anything_are_rows_of_their_own() {
        let other_detail = AuditEntry {
            detail: "other".to_owned(),
            ..denial("a", 2)
        };
        let other_kind = AuditEntry {
            outcome: AuditOutcome::Refused(ErrorKind::InUse),
            ..denial("a", 3)
        };
        let other_volume = AuditEntry {
            volume: Some(VolumeId::new(Uuid::from_u128(1))),
            ..denial("a", 4)
        };
        let long_after = AuditEntry {
            at: Timestamp::from_millis(5 + 3_600_000),
            ..other_volume.clone()
        };
        let all = [
            denial("a", 1),
            other_detail,
            other_kind,
            other_volume,
            long_after,
        ];
        assert_eq!(write(&memory(), &all).len(), 5);
    }

    #[test]
    fn a_clock_that_jumps_back_widens_the_span() {
        let rows = write(&memory(), &[denial("a", 100), denial("a", 50)]);
        let row = &rows[0];
        assert_eq!(
            (row.count, row.first.millis(), row.last.millis()),
            (2, 50, 100)
        );
    }

    #[test]
    fn the_oldest_rows_go_beyond_the_bound_and_newest_come_first() {
        let entries: Vec<_> = (1..=12).map(|ms| entry("a", ms)).collect();
        let times: Vec<_> = write(&memory(), &entries)
            .iter()
            .map(|r| r.first.millis())
            .collect();
        assert_eq!(times, [12, 11, 10, 9, 8]);
    }

    #[test]
    fn a_written_row_cannot_be_changed() {
        let db = memory();
        write(&db, &[denial("a", 1)]);
        let err = db
            .execute("UPDATE audit SET who = 'b', count = 9", [])
            .unwrap_err();
        assert!(err.to_string().contains("append-only"), "{err}");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = AuditEntry {
            detail: "ü".repeat(3 * MAX_TEXT),
            ..entry("a", 1)
        };
        let rows = write(&memory(), &[long]);
        assert_eq!(rows[0].detail.chars().count(), MAX_TEXT);
    }
}
