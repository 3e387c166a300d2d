//! Reading the audit: the newest rows that fit a question, as many as asked for.

use rusqlite::types::ToSql;
use rusqlite::{Connection, Row};
use uuid::Uuid;
use vdvs_domain::{Timestamp, VolumeId};
use vdvs_engine::ports::{AuditPage, AuditQuery, AuditRow, StoreError};

use crate::audit::DONE;
use crate::writer::store_error;

/// The clauses of a question with their parameters.
#[derive(Default)]
struct Clauses {
    sql: Vec<String>,
    params: Vec<Box<dyn ToSql>>,
}

impl Clauses {
    /// Adds a clause; each `?` in it is one of `params`.
    fn and<const N: usize>(&mut self, sql: &str, params: [Box<dyn ToSql>; N]) {
        self.sql.push(sql.to_owned());
        self.params.extend(params);
    }

    fn part(&mut self, column: &'static str, part: &str) {
        if !part.is_empty() {
            let part = part.to_ascii_lowercase();
            self.and(&format!("instr(lower({column}), ?) > 0"), [Box::new(part)]);
        }
    }

    fn of(query: &AuditQuery) -> Self {
        let ms = |at: Timestamp| Box::new(i64::try_from(at.millis()).unwrap_or(i64::MAX));
        let mut clauses = Self::default();
        if let Some(since) = query.since {
            clauses.and("last_ms >= ?", [ms(since)]);
        }
        if let Some(until) = query.until {
            clauses.and("first_ms <= ?", [ms(until)]);
        }
        clauses.part("who", &query.who);
        clauses.part("verb", &query.verb);
        clauses.part("object", &query.object);
        if let Some((id, names)) = &query.volume {
            let places = vec!["?"; names.len()].join(", ");
            let sql = format!("(volume = ? OR (volume IS NULL AND object IN ({places})))");
            clauses.and(&sql, [Box::new(id.to_string())]);
            for name in names {
                clauses.params.push(Box::new(name.clone()));
            }
        }
        if query.denials_only {
            clauses.and("outcome <> ?", [Box::new(DONE)]);
        }
        if let Some(before) = query.before {
            let before = i64::try_from(before).unwrap_or(i64::MAX);
            clauses.and("id < ?", [Box::new(before)]);
        }
        clauses
    }
}

/// The newest rows that fit the question, newest first.
pub(crate) fn page(db: &Connection, query: &AuditQuery) -> Result<AuditPage, StoreError> {
    let mut clauses = Clauses::of(query);
    let fits = match clauses.sql.is_empty() {
        true => String::new(),
        false => format!("WHERE {}", clauses.sql.join(" AND ")),
    };
    // One more than asked for tells whether there are more.
    let ask = i64::try_from(query.limit.saturating_add(1)).unwrap_or(i64::MAX);
    clauses.params.push(Box::new(ask));
    let sql = format!(
        "SELECT id, first_ms, last_ms, count, who, verb, object, volume, outcome, detail
         FROM audit {fits} ORDER BY id DESC LIMIT ?"
    );
    let mut select = db.prepare_cached(&sql).map_err(store_error)?;
    let params = rusqlite::params_from_iter(clauses.params.iter());
    let raw = select
        .query_map(params, |r| Ok(read_row(r)))
        .map_err(store_error)?;
    let mut rows = raw
        .map(|row| row.map_err(store_error)?)
        .collect::<Result<Vec<_>, _>>()?;
    let more = rows.len() > query.limit;
    rows.truncate(query.limit);
    Ok(AuditPage { rows, more })
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
    let outcome = match get(8)? {
        done if done == DONE => AuditRow::DONE.to_owned(),
        reason => reason,
    };
    Ok(AuditRow {
        number: number(0)?,
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

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;
    use vdvs_domain::ErrorKind;
    use vdvs_engine::ports::{AuditEntry, AuditOutcome};

    use super::*;
    use crate::{Limits, audit, migrate};

    fn some_of<T: Clone + Debug + 'static>(of: &[T]) -> impl Strategy<Value = T> + use<T> {
        prop::sample::select(of.to_vec())
    }

    prop_compose! {
        fn entries()(
            at in 0u64..50,
            who in some_of(&["u1 Web", "u2 db", "user root (uid 0)"]),
            verb in some_of(&["create", "attach", "delete"]),
            object in some_of(&["v@ds", "V", "100%", "w_@ds"]),
            volume in prop::option::of(1u128..3),
            refused in any::<bool>(),
        ) -> AuditEntry {
            AuditEntry {
                at: Timestamp::from_millis(at),
                who: who.to_owned(),
                verb,
                object: object.to_owned(),
                volume: volume.map(|n| VolumeId::new(Uuid::from_u128(n))),
                outcome: match refused {
                    true => AuditOutcome::Refused(ErrorKind::PermissionDenied),
                    false => AuditOutcome::Done,
                },
                detail: String::new(),
            }
        }
    }

    prop_compose! {
        fn queries()(
            since in prop::option::of(0u64..50),
            until in prop::option::of(0u64..50),
            who in some_of(&["", "WEB", "uid 0", "%"]),
            verb in some_of(&["", "at", "create"]),
            object in some_of(&["", "v", "%", "_", "'"]),
            volume in prop::option::of((1u128..3, prop::collection::vec(some_of(&["V", "100%"]), 0..3))),
            denials_only in any::<bool>(),
            before in prop::option::of(0u64..20),
            limit in 0usize..6,
        ) -> AuditQuery {
            AuditQuery {
                since: since.map(Timestamp::from_millis),
                until: until.map(Timestamp::from_millis),
                who: who.to_owned(),
                verb: verb.to_owned(),
                object: object.to_owned(),
                volume: volume.map(|(n, names)| {
                    let names = names.into_iter().map(str::to_owned).collect();
                    (VolumeId::new(Uuid::from_u128(n)), names)
                }),
                denials_only,
                before,
                limit,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn the_store_answers_as_the_question_says(
            written in prop::collection::vec(entries(), 0..20),
            query in queries(),
        ) {
            let mut db = Connection::open_in_memory().unwrap();
            migrate::migrate(&mut db, 0).unwrap();
            for entry in &written {
                audit::append(&db, Limits::default(), entry).unwrap();
            }
            let everything = AuditQuery { limit: 100, ..AuditQuery::default() };
            let all = page(&db, &everything).unwrap();
            prop_assert!(!all.more);
            let fitting: Vec<_> = all.rows.into_iter().filter(|r| query.fits(r)).collect();
            let got = page(&db, &query).unwrap();
            prop_assert_eq!(got.more, fitting.len() > query.limit);
            let expected: Vec<_> = fitting.into_iter().take(query.limit).collect();
            prop_assert_eq!(got.rows, expected);
        }
    }
}
