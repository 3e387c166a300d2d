//! The client of the story: a `psql` outside every node, in the switch's network namespace, as a program on the LAN.
//!
//! [`Writer`] inserts one row after the other and notes each number for which the server said "committed". Numbers are
//! never used twice, so afterwards the noted ones must be a subset of those in the table: whatever the client was told
//! is there, is there.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use vdvs_testkit::lab::Lab;
use vdvs_testkit::process::{Cmd, tool};
use vdvs_testkit::session::Session;

/// How long one statement may take before the client takes the server for dead and connects anew.
const STATEMENT_LIMIT: Duration = Duration::from_secs(3);
/// Pause between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Where the database may be reached from, and at which addresses it may be.
#[derive(Debug, Clone)]
pub(crate) struct Lan {
    /// The lab whose switch the client is plugged into.
    pub(crate) lab: Lab,
    /// Addresses of the workers; the service publishes its port on the one that runs it.
    pub(crate) addresses: Vec<String>,
}

impl Lan {
    fn psql(&self, address: &str) -> Cmd {
        self.lab
            .client(tool::PSQL)
            .arg(format!("host={address} port=5432 user=postgres dbname=postgres connect_timeout=2"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
    }

    /// Runs `sql` on whichever worker answers; its output, trimmed.
    pub(crate) fn query(&self, sql: &str) -> Result<String> {
        let mut last = anyhow!("the service has no address");
        for address in &self.addresses {
            match self.psql(address).arg("-c").arg(sql).limit(STATEMENT_LIMIT * 3).run() {
                Ok(out) => return Ok(out.trim().to_owned()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Runs `sql` and lets psql draw the table.
    pub(crate) fn show(&self, sql: &str) -> Result<String> {
        let mut last = anyhow!("the service has no address");
        for address in &self.addresses {
            let cmd = self.psql(address).args(["-P", "tuples_only=off", "-P", "format=aligned"]);
            match cmd.arg("-c").arg(sql).limit(STATEMENT_LIMIT * 3).run() {
                Ok(out) => return Ok(out.trim_end().to_owned()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// What the writer was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told {
    /// Acknowledged numbers, ascending.
    pub(crate) acknowledged: Vec<u64>,
    /// When each of them was acknowledged.
    at: Vec<Instant>,
}

impl Told {
    /// When the first number after `last` was acknowledged.
    pub(crate) fn resumed_after(&self, last: u64) -> Option<Instant> {
        let place = self.acknowledged.iter().position(|n| *n > last)?;
        self.at.get(place).copied()
    }
}

/// Inserts rows until told to stop.
#[derive(Debug)]
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    told: Arc<Mutex<Told>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Writer {
    /// Starts inserting into table `ledger (n bigint primary key)`; each acknowledged number is a line of `notes`.
    pub(crate) fn start(lan: Lan, first: u64, notes: &Path) -> Result<Self> {
        let notes = OpenOptions::new()
            .create(true)
            .append(true)
            .open(notes)
            .with_context(|| format!("open {}", notes.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::new(Mutex::new(Told::default()));
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&told));
        let thread = thread::spawn(move || write(&lan, first, notes, &stopped, &shared));
        Ok(Self { stop, told, thread: Some(thread) })
    }

    /// What it was told so far.
    pub(crate) fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of rows acknowledged so far.
    pub(crate) fn count(&self) -> usize {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).acknowledged.len()
    }

    /// Stops it after the statement under way.
    pub(crate) fn finish(mut self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow!("the writing client panicked"))??;
        }
        Ok(self.told())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn write(
    lan: &Lan,
    first: u64,
    mut notes: File,
    stop: &AtomicBool,
    told: &Mutex<Told>,
) -> Result<()> {
    let mut next = first;
    while !stop.load(Ordering::Relaxed) {
        for address in &lan.addresses {
            let Ok(mut session) = Session::start(lan.psql(address)) else { continue };
            while !stop.load(Ordering::Relaxed) {
                let number = next;
                // Used once whatever comes of it: without an answer it may be in the table or not.
                next += 1;
                let sql = format!("INSERT INTO ledger (n) VALUES ({number}) RETURNING n;");
                match session.ask(&sql, STATEMENT_LIMIT) {
                    Ok(answer) if answer == number.to_string() => {
                        note(told, number);
                        writeln!(notes, "{number}").context("note an acknowledged row")?;
                    }
                    _ => break,
                }
            }
        }
        thread::sleep(RECONNECT_PAUSE);
    }
    Ok(())
}

fn note(told: &Mutex<Told>, number: u64) {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    told.at.push(Instant::now());
    told.acknowledged.push(number);
}
