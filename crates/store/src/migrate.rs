//! The schema and how it got there. `PRAGMA user_version` counts the steps taken.
//!
//! A step that was released is never edited: a change is a new file with the next number. Each step and its number are
//! one transaction, so a crash in the middle leaves the step before.

use rusqlite::{Connection, TransactionBehavior};

use crate::file::APPLICATION_ID;

/// All steps, in order; step n leads to version n.
const STEPS: &[&str] = &[
    include_str!("migrations/0001_audit_and_kept_configurations.sql"),
    include_str!("migrations/0002_deleted.sql"),
    include_str!("migrations/0003_audit_size.sql"),
    include_str!("migrations/0004_confirmed_configurations.sql"),
];

/// The version this program writes.
pub(crate) fn newest() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Takes the steps after `version`.
pub(crate) fn migrate(db: &mut Connection, version: i64) -> Result<(), rusqlite::Error> {
    for (number, step) in (1i64..).zip(STEPS) {
        if number > version {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.execute_batch(step)?;
            tx.pragma_update(None, "application_id", APPLICATION_ID)?;
            tx.pragma_update(None, "user_version", number)?;
            tx.commit()?;
        }
    }
    Ok(())
}
