//! The program itself and what it is allowed.

use std::env::consts::ARCH;
use std::thread;

use nix::sys::resource::{Resource, getrlimit};

use super::{Answer, Finding};

/// As many threads as the agent has at most.
const THREADS: usize = 64;

#[allow(unexpected_cfgs, reason = "the runtime's own name for how it waits")]
pub(super) fn program() -> Vec<Finding> {
    let env = if cfg!(target_env = "musl") {
        "musl"
    } else {
        "gnu"
    };
    let poll = if cfg!(mio_unsupported_force_poll_poll) {
        "poll"
    } else {
        "epoll"
    };
    let detail = format!("it started: {ARCH} {env}, waits by {poll}");
    vec![Finding::new(1, "program", Answer::Yes, detail)]
}

pub(super) fn limits() -> Vec<Finding> {
    let limit = |name, what| {
        let shown = |n: u64| match n {
            u64::MAX => "none".to_owned(),
            n => n.to_string(),
        };
        let got = getrlimit(what)
            .map(|(soft, hard)| format!("{} (at most {})", shown(soft), shown(hard)));
        Finding::of(13, name, got)
    };
    let mut found = vec![
        limit("limit of descriptors", Resource::RLIMIT_NOFILE),
        limit("limit of memory", Resource::RLIMIT_AS),
        limit("limit of a stack", Resource::RLIMIT_STACK),
    ];
    found.push(Finding::of(13, "threads", threads()));
    found
}

fn threads() -> Result<String, String> {
    let mut running = Vec::new();
    let mut failed = None;
    for number in 0..THREADS {
        match thread::Builder::new().stack_size(256 * 1024).spawn(|| ()) {
            Ok(thread) => running.push(thread),
            Err(e) => {
                failed = Some(format!("only {number} could be started: {e}"));
                break;
            }
        }
    }
    for thread in running {
        thread.join().ok();
    }
    failed.map_or_else(|| Ok(format!("{THREADS} can be started")), Err)
}
