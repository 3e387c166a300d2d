//! The store as the agent sees it: a file that is opened, killed, damaged, and opened again.
#![expect(clippy::unwrap_used, reason = "a test: a failure here is the report")]

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use futures_util::future::join_all;
use rusqlite::Connection;
use uuid::Uuid;
use vdvs_domain::{RequestId, Timestamp, VolumeId};
use vdvs_engine::ports::{AuditEntry, AuditOutcome, KeptConfig, Store};
use vdvs_store::{Limits, OpenError, SqliteStore};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn entry(detail: String) -> AuditEntry {
    AuditEntry {
        at: NOW,
        who: "swarm01".to_owned(),
        verb: "create",
        object: "v@vsanDatastore".to_owned(),
        volume: None,
        outcome: AuditOutcome::Done,
        detail,
    }
}

fn fresh() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.sqlite");
    (dir, path)
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The process that writes until it is killed (`tests/second/writer.rs`).
#[expect(
    clippy::disallowed_methods,
    reason = "the tests' own second process: a program of this crate, without a shell"
)]
fn start_child(path: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vdvs-store-second-writer"))
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The last number the child acknowledged after it acknowledged at least `at_least`.
fn read_until(child: &mut Child, at_least: u64) -> BufReader<ChildStdout> {
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    loop {
        line.clear();
        assert!(
            out.read_line(&mut line).unwrap() > 0,
            "the child ended early"
        );
        if acknowledged(&line).is_some_and(|n| n >= at_least) {
            return out;
        }
    }
}

fn acknowledged(line: &str) -> Option<u64> {
    line.trim().strip_prefix("acknowledged ")?.parse().ok()
}

#[tokio::test]
async fn every_acknowledged_row_is_there_after_kill_9_in_the_middle_of_writing() {
    let (_dir, path) = fresh();
    let mut in_all = 0;
    for round in 1u64..=4 {
        let mut child = start_child(&path);
        let out = read_until(&mut child, round * 7);
        child.kill().unwrap();
        child.wait().unwrap();
        let last = out
            .lines()
            .filter_map(|l| acknowledged(&l.ok()?))
            .last()
            .unwrap_or(round * 7);
        in_all += last;
        let store = SqliteStore::open(&path, NOW).await.unwrap();
        let rows = store.audit_tail(u32::MAX).await.unwrap();
        let found = u64::try_from(rows.len()).unwrap();
        // One more per round may have been committed without its line having been printed.
        assert!(
            (in_all..=in_all + 1).contains(&found),
            "{found} rows, {in_all} acknowledged"
        );
        assert!(rows.windows(2).all(|w| w[0].number == w[1].number + 1));
        in_all = found;
    }
}

#[tokio::test]
async fn a_second_process_is_told_that_the_file_is_in_use() {
    let (_dir, path) = fresh();
    let mut child = start_child(&path);
    let _out = read_until(&mut child, 1);
    let err = SqliteStore::open(&path, NOW).await.unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(err, OpenError::Locked { .. }), "{err}");
    assert!(err.to_string().contains("only one vdvsd"), "{err}");
    // The lock went with the process.
    SqliteStore::open(&path, NOW).await.unwrap();
}

#[tokio::test]
async fn a_second_store_in_one_process_is_refused_too_until_the_first_is_dropped() {
    let (_dir, path) = fresh();
    let first = SqliteStore::open(&path, NOW).await.unwrap();
    let err = SqliteStore::open(&path, NOW).await.unwrap_err();
    assert!(matches!(err, OpenError::Locked { .. }), "{err}");
    drop(first);
    SqliteStore::open(&path, NOW).await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_untouched_with_advice() {
    let (dir, path) = fresh();
    drop(SqliteStore::open(&path, NOW).await.unwrap());
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    drop(db);
    let before = fs::read(&path).unwrap();
    let err = SqliteStore::open(&path, NOW).await.unwrap_err();
    assert!(
        matches!(
            err,
            OpenError::Newer {
                found: 99,
                known: 4,
                ..
            }
        ),
        "{err}"
    );
    assert!(err.to_string().contains("run that version"), "{err}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names_in(dir.path()), ["store.sqlite"]);
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_untouched() {
    let (_dir, path) = fresh();
    let db = Connection::open(&path).unwrap();
    db.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(db);
    let before = fs::read(&path).unwrap();
    let err = SqliteStore::open(&path, NOW).await.unwrap_err();
    assert!(matches!(err, OpenError::Foreign { .. }), "{err}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_a_new_one_begun() {
    let (dir, path) = fresh();
    fs::write(
        &path,
        b"this is not a database, it only lies where one should be",
    )
    .unwrap();
    let store = SqliteStore::open(&path, NOW).await.unwrap();
    store.audit(entry(String::new())).await.unwrap();
    assert_eq!(store.audit_tail(10).await.unwrap().len(), 1);
    drop(store);
    let aside = "store.sqlite.damaged-1700000000000";
    assert_eq!(names_in(dir.path()), ["store.sqlite", aside]);
    let kept = fs::read(dir.path().join(aside)).unwrap();
    assert!(kept.starts_with(b"this is not"));
}

#[tokio::test]
async fn damage_inside_the_file_is_found_when_it_is_opened() {
    let (dir, path) = fresh();
    let store = SqliteStore::open(&path, NOW).await.unwrap();
    for n in 0..200 {
        store
            .audit(entry(format!("{n} {}", "x".repeat(500))))
            .await
            .unwrap();
    }
    drop(store);
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.seek(SeekFrom::Start(4096)).unwrap();
    file.write_all(&[0xff; 8 * 4096]).unwrap();
    drop(file);
    let store = SqliteStore::open(&path, NOW).await.unwrap();
    assert!(store.audit_tail(10).await.unwrap().is_empty());
    drop(store);
    assert_eq!(
        names_in(dir.path()),
        ["store.sqlite", "store.sqlite.damaged-1700000000000"]
    );
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named_with_advice() {
    let (dir, _) = fresh();
    let err = SqliteStore::open(&dir.path().join("none/store.sqlite"), NOW)
        .await
        .unwrap_err();
    assert!(matches!(err, OpenError::File { .. }));
    assert!(err.to_string().contains("check that its folder exists"));
}

#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    let (_dir, path) = fresh();
    let _store = SqliteStore::open(&path, NOW).await.unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn the_newest_configuration_is_kept_and_survives_a_restart() {
    let (_dir, path) = fresh();
    let (id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let version = |seq| KeptConfig {
        seq,
        bytes: vec![u8::try_from(seq).unwrap(); 3],
        confirmed: Timestamp::from_millis(seq * 10),
    };
    let store = SqliteStore::open(&path, NOW).await.unwrap();
    for seq in [3, 5, 4] {
        store.keep_config(id, version(seq)).await.unwrap();
    }
    drop(store);
    let store = SqliteStore::open(&path, NOW).await.unwrap();
    assert_eq!(store.kept_config(id).await.unwrap(), Some(version(5)));
    assert_eq!(store.kept_config(other).await.unwrap(), None);
    let later = KeptConfig {
        confirmed: Timestamp::from_millis(99),
        ..version(5)
    };
    store.keep_config(id, later.clone()).await.unwrap();
    store.keep_config(id, version(5)).await.unwrap();
    assert_eq!(store.kept_config(id).await.unwrap(), Some(later));
    assert_eq!(store.kept_configs().await.unwrap(), [id]);
}

#[tokio::test]
async fn many_callers_at_once_are_all_written() {
    let (_dir, path) = fresh();
    let limits = Limits {
        audit_rows: 1000,
        ..Limits::default()
    };
    let store = SqliteStore::open_with(&path, NOW, limits).await.unwrap();
    let mut writes = Vec::new();
    for n in 0..600 {
        writes.push(store.audit(entry(n.to_string())));
    }
    for write in join_all(writes).await {
        write.unwrap();
    }
    assert_eq!(store.audit_tail(1000).await.unwrap().len(), 600);
}

#[tokio::test]
async fn a_delete_is_remembered_beyond_a_restart() {
    let (_dir, path) = fresh();
    let request = RequestId::new(Uuid::from_u128(1));
    let volume = VolumeId::new(Uuid::from_u128(2));
    let store = SqliteStore::open(&path, NOW).await.unwrap();
    assert_eq!(store.recall_deleted(request).await.unwrap(), None);
    store.remember_deleted(request, volume).await.unwrap();
    store.remember_deleted(request, volume).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&path, NOW).await.unwrap();
    assert_eq!(store.recall_deleted(request).await.unwrap(), Some(volume));
}
