//! Files, in a folder of our own below the one that was named: what swap, the store and the sockets stand on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};
use nix::libc::{F_WRLCK, flock};
use tokio::runtime::Builder;
use vdvs_engine::ports::{AuditQuery, Clock, Store};
use vdvs_store::{Limits, SqliteStore};

use super::{Answer, Finding};
use crate::clock::SystemClock;
use crate::hosts::chain;

/// Where nothing was named.
const DEFAULT: &str = "/tmp";
/// Everything that is made, so that all of it goes again.
const NAMES: [&str; 6] = [
    "a",
    "b",
    "socket",
    "store.sqlite",
    "store.sqlite-journal",
    "lock",
];

/// Tries one thing in our folder.
type Try = fn(&Path) -> io::Result<String>;

pub(super) fn all(dir: Option<&Path>) -> Vec<Finding> {
    let parent = dir.unwrap_or(Path::new(DEFAULT));
    let own = parent.join(format!(".vdvs-probe-{}", process::id()));
    if let Err(e) = fs::create_dir(&own) {
        let why = format!("cannot make {}: {e}", own.display());
        return vec![Finding::new(6, "folder", Answer::No, why)];
    }
    let folder = format!("tried in {}", parent.display());
    let mut found = vec![Finding::new(6, "folder", Answer::Yes, folder)];
    let tries: [(&str, Try); 7] = [
        ("exclusive create", exclusive),
        ("write and fsync", write),
        ("rename", rename),
        ("fsync of a folder", fsync_folder),
        ("flock", flocks),
        ("fcntl lock", fcntl_lock),
        ("unix socket", unix_socket),
    ];
    found.extend(tries.map(|(name, run)| Finding::of(6, name, run(&own))));
    found.push(Finding::of(6, "store", store(&own)));
    found.push(Finding::of(6, "cleaning up", clean(&own)));
    found
}

fn new(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
}

fn exclusive(dir: &Path) -> io::Result<String> {
    let path = dir.join("a");
    drop(new(&path)?);
    match new(&path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let listed = fs::read_dir(dir)?.count();
            Ok(format!("a second one is refused; {listed} listed"))
        }
        Err(e) => Err(e),
        Ok(_) => Err(io::Error::other("made twice")),
    }
}

fn write(dir: &Path) -> io::Result<String> {
    let path = dir.join("a");
    let mut file = OpenOptions::new().write(true).truncate(true).open(&path)?;
    file.write_all(b"probe")?;
    file.sync_all()?;
    file.set_len(1 << 20)?;
    let mut head = [0; 5];
    File::open(&path)?.read_exact(&mut head)?;
    match &head {
        b"probe" => Ok("read back, and grown to 1 MiB".to_owned()),
        other => Err(io::Error::other(format!("read back {other:?}"))),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether this very call works is asked"
)]
fn rename(dir: &Path) -> io::Result<String> {
    drop(new(&dir.join("b"))?);
    fs::rename(dir.join("a"), dir.join("b"))?;
    let there = fs::exists(dir.join("a"))?;
    let long = fs::metadata(dir.join("b"))?.len() == 1 << 20;
    if there || !long {
        return Err(io::Error::other("it did not replace the other file"));
    }
    Ok("over another file".to_owned())
}

fn fsync_folder(dir: &Path) -> io::Result<String> {
    File::open(dir)?.sync_all()?;
    Ok(String::new())
}

fn flocks(dir: &Path) -> io::Result<String> {
    let path = dir.join("lock");
    let first = new(&path)?;
    let second = File::open(&path)?;
    let held = Flock::lock(first, FlockArg::LockExclusiveNonblock).map_err(|(_, e)| e)?;
    let refused = Flock::lock(second, FlockArg::LockExclusiveNonblock).is_err();
    drop(held);
    match refused {
        true => Ok("a second one is refused".to_owned()),
        false => Err(io::Error::other("given twice")),
    }
}

fn fcntl_lock(dir: &Path) -> io::Result<String> {
    let file = OpenOptions::new().write(true).open(dir.join("lock"))?;
    let whole = flock {
        l_type: i16::try_from(F_WRLCK).map_err(io::Error::other)?,
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_SETLK(&whole))?;
    Ok("given; whether it is kept from other hosts is not shown".to_owned())
}

fn unix_socket(dir: &Path) -> io::Result<String> {
    let path = dir.join("socket");
    let listener = UnixListener::bind(&path)?;
    let mut near = UnixStream::connect(&path)?;
    let (mut far, _) = listener.accept()?;
    near.write_all(b"x")?;
    far.read_exact(&mut [0])?;
    Ok(String::new())
}

/// The store, as the agent has it: its thread, its runtime, its journal.
fn store(dir: &Path) -> Result<String, String> {
    let runtime = Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    let path: PathBuf = dir.join("store.sqlite");
    runtime.block_on(async {
        let limits = Limits::default();
        let store = SqliteStore::open_with(&path, SystemClock.now(), limits).await;
        let store = store.map_err(|e| chain(&e))?;
        let page = store.audit_page(AuditQuery::default()).await;
        page.map(|_| "opened, locked, written".to_owned())
            .map_err(|e| chain(&e))
    })
}

fn clean(dir: &Path) -> io::Result<String> {
    for name in NAMES {
        match fs::remove_file(dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
    }
    fs::remove_dir(dir)?;
    Ok("nothing is left".to_owned())
}
