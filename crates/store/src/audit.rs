//! The audit: append-only, bounded, with identical denials of one caller folded into one row.

use rusqlite::{Connection, OptionalExtension, params};
#[cfg(test)]
use vdvs_domain::Timestamp;
use vdvs_engine::ports::{AuditEntry, AuditOutcome, StoreError};

use crate::Limits;
use crate::writer::store_error;

/// A denial later than this after the last one like it begins a new row, so that a span stays telling.
const FOLD_WITHIN_MS: i64 = 3_600_000;
/// Longest text of a column in characters; guests choose some of them.
const MAX_TEXT: usize = 2_000;
/// Rows that go together when the audit takes too much room, so that not every new row costs an old one's look-up.
const PRUNED_AT_ONCE: i64 = 16;
/// What `outcome` says of a success.
pub(crate) const DONE: &str = "DONE";

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

/// The oldest rows go until both bounds hold. Ids have no gaps (a rolled-back insert gives its id back), so the newest id
/// says how many rows there are; triggers keep the count of bytes.
fn prune(db: &Connection, limits: Limits) -> Result<(), rusqlite::Error> {
    let newest = db.last_insert_rowid();
    let most = i64::from(limits.audit_rows);
    db.prepare_cached("DELETE FROM audit WHERE id <= ?1")?
        .execute([newest.saturating_sub(most)])?;
    let bound = i64::try_from(limits.audit_bytes).unwrap_or(i64::MAX);
    let mut size = db.prepare_cached("SELECT bytes FROM audit_size")?;
    let mut drop_some = db.prepare_cached(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE id < ?1 ORDER BY id LIMIT ?2)",
    )?;
    // The newest row stays, however long it is.
    while size.query_row([], |r| r.get::<_, i64>(0))? > bound {
        if drop_some.execute([newest, PRUNED_AT_ONCE])? == 0 {
            break;
        }
    }
    Ok(())
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

    use uuid::Uuid;
    use vdvs_domain::{ErrorKind, VolumeId};
    use vdvs_engine::ports::{AuditQuery, AuditRow};

    use super::*;
    use crate::{audit_page, migrate};

    const LIMITS: Limits = Limits {
        audit_rows: 5,
        audit_bytes: 1 << 20,
    };

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
        all(db)
    }

    fn all(db: &Connection) -> Vec<AuditRow> {
        let query = AuditQuery {
            limit: 100,
            ..AuditQuery::default()
        };
        audit_page::page(db, &query).unwrap().rows
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
        assert_eq!((row.number, row.count, row.first), (1, 1, written.at));
        assert_eq!((&row.who, row.verb.as_str()), (&written.who, written.verb));
        assert_eq!((row.volume, &row.detail), (written.volume, &written.detail));
        assert_eq!(row.outcome, AuditRow::DONE);
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
    fn the_oldest_rows_go_when_the_texts_take_too_much_room_and_the_newest_always_stays() {
        let db = memory();
        let limits = Limits {
            audit_rows: 1000,
            audit_bytes: 8192,
        };
        let size = || -> i64 {
            let sql = "SELECT bytes FROM audit_size";
            db.query_row(sql, [], |r| r.get(0)).unwrap()
        };
        for ms in 1..=100 {
            let row = AuditEntry {
                detail: "x".repeat(200),
                ..entry("a", ms)
            };
            append(&db, limits, &row).unwrap();
            assert!(size() <= 8192);
        }
        let rows = all(&db);
        assert!((10..=40).contains(&rows.len()), "{}", rows.len());
        assert_eq!(rows[0].first.millis(), 100);
        let numbers: Vec<_> = rows.iter().map(|r| r.number).collect();
        assert!(numbers.windows(2).all(|w| w[0] == w[1] + 1), "{numbers:?}");
        let huge = AuditEntry {
            detail: "ü".repeat(MAX_TEXT),
            object: "ü".repeat(MAX_TEXT),
            who: "ü".repeat(MAX_TEXT),
            ..entry("a", 101)
        };
        append(&db, limits, &huge).unwrap();
        assert_eq!(all(&db).len(), 1);
        db.execute("DELETE FROM audit", []).unwrap();
        assert_eq!(size(), 0);
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
