//! Opening the file: lock, check, migrate; set aside what is damaged.
//!
//! The settings, and why:
//! * `locking_mode = EXCLUSIVE`: one process, and no lock traffic between transactions. The lock goes with the
//!   process, so a killed agent leaves nothing behind.
//! * `journal_mode = WAL`: a transaction is one sync instead of four. In exclusive mode it needs no shared memory, which
//!   not every host's file system maps coherently.
//! * `synchronous = FULL`: the log is synced with every commit, so an answered audit row survives a power cut; `NORMAL`
//!   would sync it at checkpoints only.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, ffi};
use vdvs_domain::Timestamp;

use crate::migrate;

/// `vDVS` in ASCII: marks the file as ours (`PRAGMA application_id`).
pub(crate) const APPLICATION_ID: i32 = 0x7644_5653;
/// How long opening waits for a predecessor that is on its way out.
const PREDECESSOR: Duration = Duration::from_secs(2);

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{} is in use by another process; only one vdvsd may run on a state folder: stop the other one, or give this one a folder of its own",
        .path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error(
        "{} was written by a newer version (schema {found}, this program knows {known}) and was left untouched; run that version, or move the file away: it is built anew, without the audit",
        .path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// A database of some other program.
    #[error(
        "{} is a database of another program and was left untouched; move it away, or give vdvsd another state folder",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file or its folder cannot be made, read or renamed.
    #[error("cannot use {}; check that its folder exists, is writable and has room", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// SQLite failed.
    #[error("cannot use {}", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// SQLite's words.
        #[source]
        source: rusqlite::Error,
    },
    /// No thread could be started.
    #[error("cannot start the store's writer")]
    Thread(#[source] io::Error),
    /// The writer ended while opening.
    #[error("the store's writer ended while opening; its panic is in the log")]
    WriterGone,
}

/// Opens the file; a damaged one is set aside once and a new one begun.
pub(crate) fn open(path: &Path, now: Timestamp) -> Result<Connection, OpenError> {
    match open_as_is(path) {
        Err(OpenError::Sqlite { source, .. }) if is_damage(&source) => {
            let aside = set_aside(path, now).map_err(|source| OpenError::File {
                path: path.to_owned(),
                source,
            })?;
            tracing::warn!(
                path = %path.display(), aside = %aside.display(), why = %source,
                "the local store is damaged: it was set aside and a new one begun; the audit before now is in the old file only"
            );
            open_as_is(path)
        }
        other => other,
    }
}

fn open_as_is(path: &Path) -> Result<Connection, OpenError> {
    create_private(path).map_err(|source| OpenError::File {
        path: path.to_owned(),
        source,
    })?;
    let sqlite = |source: rusqlite::Error| {
        if source.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) {
            OpenError::Locked {
                path: path.to_owned(),
            }
        } else {
            OpenError::Sqlite {
                path: path.to_owned(),
                source,
            }
        }
    };
    let mut db = Connection::open(path).map_err(sqlite)?;
    configure_and_lock(&db).map_err(sqlite)?;
    let (application, version) = read_header(&db).map_err(sqlite)?;
    let fresh = application == 0 && version == 0 && is_empty(&db).map_err(sqlite)?;
    if !fresh && application != APPLICATION_ID {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    }
    if version > migrate::newest() {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: version,
            known: migrate::newest(),
        });
    }
    check(&db).map_err(sqlite)?;
    // Writes into the file, so it comes after everything that may refuse it.
    db.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .map_err(sqlite)?;
    migrate::migrate(&mut db, version).map_err(sqlite)?;
    Ok(db)
}

/// Makes the file, readable by its owner only, and its name durable.
fn create_private(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => sync_folder(path),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
    }
}

fn configure_and_lock(db: &Connection) -> Result<(), rusqlite::Error> {
    db.busy_timeout(PREDECESSOR)?;
    db.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    // In exclusive mode the first lock taken is kept until the connection closes.
    db.execute_batch("BEGIN EXCLUSIVE; COMMIT;")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "trusted_schema", false)
}

fn read_header(db: &Connection) -> Result<(i32, i64), rusqlite::Error> {
    let application = db.pragma_query_value(None, "application_id", |r| r.get(0))?;
    let version = db.pragma_query_value(None, "user_version", |r| r.get(0))?;
    Ok((application, version))
}

fn is_empty(db: &Connection) -> Result<bool, rusqlite::Error> {
    db.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |r| r.get(0))
}

/// Reads every page once. The file is small (bounded audit), so this is milliseconds.
fn check(db: &Connection) -> Result<(), rusqlite::Error> {
    let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |r| r.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        let corrupt = ffi::Error::new(ffi::SQLITE_CORRUPT);
        Err(rusqlite::Error::SqliteFailure(corrupt, Some(verdict)))
    }
}

fn is_damage(e: &rusqlite::Error) -> bool {
    matches!(
        e.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

/// Renames the file, and its journals with it, so that none can be taken for the new one's.
fn set_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let aside = with_suffix(path, &format!(".damaged-{}", now.millis()));
    // An earlier version kept a rollback journal.
    for suffix in ["-wal", "-journal"] {
        let journal = with_suffix(path, suffix);
        if journal.exists() {
            rename(&journal, &with_suffix(&aside, suffix))?;
        }
    }
    rename(path, &aside)?;
    sync_folder(path)?;
    Ok(aside)
}

#[expect(
    clippy::disallowed_methods,
    reason = "moves a damaged file out of the way; nothing is written, so there is nothing to make durable first"
)]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => File::open(dir)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
