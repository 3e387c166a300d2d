//! The second process of the store's tests: opens the file it is given, writes one row of the audit after the other, and
//! says of each that it is written. It ends when it is killed or nobody listens any more.
#![forbid(unsafe_code)]

use std::env;
use std::error::Error;
use std::io::{Write, stdout};
use std::path::PathBuf;

use tokio::runtime::Builder;
use vdvs_domain::Timestamp;
use vdvs_engine::ports::{AuditEntry, AuditOutcome, Store};
use vdvs_store::SqliteStore;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("usage: second-writer FILE")?;
    let runtime = Builder::new_current_thread().build()?;
    runtime.block_on(write(PathBuf::from(path)))
}

async fn write(path: PathBuf) -> Result<(), Box<dyn Error>> {
    let store = SqliteStore::open(&path, NOW).await?;
    let mut out = stdout();
    for n in 1u64.. {
        store.audit(row(n)).await?;
        writeln!(out, "acknowledged {n}")?;
        out.flush()?;
    }
    Ok(())
}

fn row(n: u64) -> AuditEntry {
    AuditEntry {
        at: NOW,
        who: "second-writer".to_owned(),
        verb: "create",
        object: n.to_string(),
        volume: None,
        outcome: AuditOutcome::Done,
        detail: String::new(),
    }
}
