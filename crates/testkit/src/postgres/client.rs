//! The client: a `psql` outside every node, in the switch's network namespace, as a program on the LAN.
//!
//! [`Writer`] inserts rows and notes each number for which the server said "committed". Numbers are never used twice,
//! so afterwards the noted ones must be a subset of those in the table: whatever the client was told is there, is
//! there.
//!
//! The service is on one worker, its address changes when it moves, and a machine without power answers nothing at
//! all: every address has a connection of its own that is tried over and over, so that waiting for the dead one
//! delays nobody.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::lab::{Lab, Swarm};
use crate::process::{Cmd, tool};
use crate::session::Session;

/// How long one statement may take before the client takes the server for dead and connects anew.
const STATEMENT_LIMIT: Duration = Duration::from_secs(3);
/// The same of one question whose answer a test needs: nobody counts its seconds.
const QUESTION_LIMIT: Duration = Duration::from_secs(60);
/// How many seconds a connection may take: of a client that tries all addresses over and over, and of a question.
const CONNECT_S: u32 = 2;
const QUESTION_CONNECT_S: u32 = 10;
/// Pause between two attempts to connect.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Where the database may be reached from, and at which addresses it may be.
#[derive(Debug, Clone)]
pub struct Lan {
    lab: Lab,
    /// Of the workers; the service publishes its port on the one that runs it.
    addresses: Vec<String>,
    /// Which of them answered last: it is asked first, so that a dead one costs its time-out once.
    last: Arc<AtomicUsize>,
}

impl Lan {
    /// The client's view of a swarm whose workers may run the service.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn of(lab: &Lab, swarm: &Swarm) -> Result<Self> {
        let addresses = swarm.workers().iter().map(|worker| worker.address());
        Ok(Self {
            lab: lab.clone(),
            addresses: addresses.collect::<Result<_>>()?,
            last: Arc::default(),
        })
    }

    fn psql(&self, address: &str, connect_s: u32) -> Cmd {
        let server = format!(
            "host={address} port=5432 user=postgres dbname=postgres connect_timeout={connect_s}"
        );
        self.lab.client(tool::PSQL).arg(server).args([
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
        ])
    }

    /// Runs `sql` on whichever worker answers; its output, trimmed.
    ///
    /// # Errors
    /// Nobody answers, or the statement fails.
    pub fn query(&self, sql: &str) -> Result<String> {
        let said = self.first_answer(|psql| psql.arg("-c").arg(sql))?;
        Ok(said.trim().to_owned())
    }

    /// Runs `sql` and lets psql draw the table.
    ///
    /// # Errors
    /// As [`Lan::query`].
    pub fn show(&self, sql: &str) -> Result<String> {
        let drawn = ["-P", "tuples_only=off", "-P", "format=aligned", "-c", sql];
        let said = self.first_answer(|psql| psql.args(drawn))?;
        Ok(said.trim_end().to_owned())
    }

    fn first_answer(&self, complete: impl Fn(Cmd) -> Cmd) -> Result<String> {
        let mut failed = anyhow!("the service has no address");
        let last = self.last.load(Ordering::Relaxed);
        let all = self.addresses.iter().enumerate();
        for (index, address) in all.cycle().skip(last).take(self.addresses.len()) {
            let psql = complete(self.psql(address, QUESTION_CONNECT_S)).limit(QUESTION_LIMIT);
            match psql.run() {
                Ok(said) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(said);
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Makes the table [`Writer`] writes to.
    ///
    /// # Errors
    /// As [`Lan::query`].
    pub fn create_ledger(&self) -> Result<()> {
        let sql = "CREATE TABLE ledger \
                   (n bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())";
        self.query(sql).map(drop)
    }

    /// Compares what a writer was told with what is in its table.
    ///
    /// # Errors
    /// As [`Lan::query`].
    pub fn compare(&self, told: &Told) -> Result<Kept> {
        let table = self.query("SELECT n FROM ledger")?;
        let rows: HashSet<u64> = table.lines().map(str::parse).collect::<Result<_, _>>()?;
        let sum = "SELECT md5(string_agg(n::text, ',' ORDER BY n)) FROM ledger";
        Ok(Kept {
            acknowledged: told.count(),
            found: told.numbers().filter(|n| rows.contains(n)).count(),
            rows: rows.len(),
            checksum: self.query(sum)?,
        })
    }
}

/// What became of the rows a writer wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Rows whose commit was acknowledged to the client.
    pub acknowledged: usize,
    /// Of those, rows that are in the table.
    pub found: usize,
    /// Rows in the table; some may have been committed without the client learning it.
    pub rows: usize,
    /// md5 over the table.
    pub checksum: String,
}

/// What the writer was told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    acknowledged: Vec<Acknowledged>,
}

/// One commit.
#[derive(Debug, Clone)]
struct Acknowledged {
    number: u64,
    by: String,
    at: Instant,
}

impl Told {
    /// Number of acknowledged rows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.acknowledged.len()
    }

    /// The acknowledged numbers, in the order in which they were acknowledged.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.acknowledged.iter().map(|one| one.number)
    }

    /// The highest acknowledged number.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.numbers().max()
    }

    /// When a row was first acknowledged after this moment.
    #[must_use]
    pub fn first_since(&self, moment: Instant) -> Option<Instant> {
        let all = self.acknowledged.iter().map(|one| one.at);
        all.filter(|at| *at > moment).min()
    }

    /// When the server at this address first acknowledged a row after this moment.
    #[must_use]
    pub fn first_after(&self, address: &str, moment: Instant) -> Option<Instant> {
        let all = self.acknowledged.iter();
        let mut by = all.filter(|one| one.by == address && one.at > moment);
        by.next().map(|one| one.at)
    }

    /// When the server at this address first acknowledged a row.
    #[must_use]
    pub fn first_by(&self, address: &str) -> Option<Instant> {
        let first = self.acknowledged.iter().find(|one| one.by == address);
        first.map(|one| one.at)
    }
}

/// Inserts rows until told to stop.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    lan: Lan,
    stop: AtomicBool,
    next: AtomicU64,
    /// After each row.
    pause: Duration,
    heard: Mutex<Heard>,
}

#[derive(Debug)]
struct Heard {
    told: Told,
    notes: File,
}

impl Writer {
    /// Starts inserting numbers from `first` on into the table of [`Lan::create_ledger`]; each acknowledged number is
    /// a line of the file `notes`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn start(lan: &Lan, first: u64, notes: &Path) -> Result<Self> {
        Self::paced(lan, first, notes, Duration::ZERO)
    }

    /// As [`Writer::start`], with a pause after each row: for what watches a service for minutes.
    ///
    /// # Errors
    /// As [`Writer::start`].
    pub fn paced(lan: &Lan, first: u64, notes: &Path, pause: Duration) -> Result<Self> {
        let notes = OpenOptions::new()
            .create(true)
            .append(true)
            .open(notes)
            .with_context(|| format!("open {}", notes.display()))?;
        let told = Told::default();
        let shared = Arc::new(Shared {
            lan: lan.clone(),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(first),
            pause,
            heard: Mutex::new(Heard { told, notes }),
        });
        let threads = lan.addresses.iter().map(|address| {
            let (shared, address) = (Arc::clone(&shared), address.clone());
            thread::spawn(move || shared.write(&address))
        });
        let threads = threads.collect();
        Ok(Self { shared, threads })
    }

    /// What it was told so far.
    #[must_use]
    pub fn told(&self) -> Told {
        self.shared.look(|heard| heard.told.clone())
    }

    /// Number of rows acknowledged so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.look(|heard| heard.told.count())
    }

    /// Stops it after the statement under way.
    ///
    /// # Errors
    /// An acknowledged number could not be noted.
    pub fn finish(mut self) -> Result<Told> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            ended.map_err(|_| anyhow!("the writing client panicked"))??;
        }
        Ok(self.told())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn look<T>(&self, act: impl FnOnce(&mut Heard) -> T) -> T {
        act(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Connects to one address over and over and inserts as long as the connection lasts.
    fn write(&self, address: &str) -> Result<()> {
        while !self.stopped() {
            if let Ok(mut session) = Session::start(self.lan.psql(address, CONNECT_S)) {
                while !self.stopped() && self.insert(&mut session, address)? {
                    thread::sleep(self.pause);
                }
            }
            thread::sleep(RECONNECT_PAUSE);
        }
        Ok(())
    }

    /// Inserts one row. False: it was not acknowledged; it may be in the table or not.
    fn insert(&self, session: &mut Session, address: &str) -> Result<bool> {
        // Used once whatever comes of it.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let sql = format!("INSERT INTO ledger (n) VALUES ({number}) RETURNING n;");
        let answer = session.ask(&sql, STATEMENT_LIMIT);
        if !answer.is_ok_and(|answer| answer == number.to_string()) {
            return Ok(false);
        }
        let one = Acknowledged {
            number,
            by: address.to_owned(),
            at: Instant::now(),
        };
        self.look(|heard| {
            heard.told.acknowledged.push(one);
            writeln!(heard.notes, "{number}").context("note an acknowledged row")
        })?;
        Ok(true)
    }
}
