//! A container: reads everything back, then writes numbered blocks and flushes them, until it is ended or meets an error.

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::guest::{BLOCKS, DATA, Guest, Kernel, Machine, PartOfGuest, value_of};

/// Between two writes, in milliseconds.
const PACE: (u64, u64) = (100, 3000);
/// So long a mount namespace may outlive its container, in milliseconds: dockerd unmounts, and the disk is in use.
const LINGER: (u64, u64) = (0, 9000);

/// A container's process. Cloning gives the same.
#[derive(Debug, Clone)]
pub(super) struct Process {
    life: PartOfGuest,
    ended: CancellationToken,
}

impl Process {
    /// Starts, with its mounts in a namespace of its own; none: one of the paths is not there.
    pub(super) fn start(
        guest: &Guest,
        machine: &Machine,
        task: &str,
        paths: &[PathBuf],
    ) -> Option<Self> {
        let user = guest.number();
        let kernel = Arc::clone(&machine.kernel);
        let opened: Vec<Option<u32>> = paths.iter().map(|path| kernel.open(path, user)).collect();
        let minors: Vec<u32> = opened.iter().copied().flatten().collect();
        let process = Self {
            life: machine.life.child(),
            ended: CancellationToken::new(),
        };
        let all = minors.len() == paths.len();
        let (running, work) = (process.clone(), guest.clone());
        let task = task.to_owned();
        guest.spawn(&machine.life, async move {
            if all {
                let program = Box::pin(program(&work, &kernel, &task, &minors));
                running.life.run(program).await;
            }
            let (lingers, how_long) = {
                let mut dice = work.dice();
                (dice.once_in(4), dice.millis(LINGER.0, LINGER.1))
            };
            if lingers {
                running.ended.cancel();
                sleep(how_long).await;
            }
            for minor in minors {
                kernel.close(minor, user).await;
            }
            running.ended.cancel();
        });
        all.then_some(process)
    }

    pub(super) fn end(&self) {
        self.life.end();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled() || self.life.is_over()
    }

    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

/// What runs in it. Ends only with an error.
async fn program(guest: &Guest, kernel: &Kernel, task: &str, minors: &[u32]) {
    for minor in minors {
        if let Err(errno) = read_back(guest, kernel, *minor).await {
            guest.note(format_args!("{task} cannot read: error {errno}"));
            return;
        }
    }
    if minors.is_empty() {
        pending::<()>().await;
    }
    loop {
        let (pace, more) = {
            let mut dice = guest.dice();
            (dice.millis(PACE.0, PACE.1), dice.below(3))
        };
        sleep(pace).await;
        kernel.life.step().await;
        for minor in minors {
            if let Err(errno) = write(kernel, *minor, more).await {
                guest.note(format_args!("{task} cannot write: error {errno}"));
                return;
            }
        }
    }
}

/// Reads every block of the data and tells what it holds.
async fn read_back(guest: &Guest, kernel: &Kernel, minor: u32) -> Result<(), i32> {
    let disk = kernel.disk_of(minor)?;
    let mut largest = 0;
    for block in DATA..DATA + BLOCKS {
        let value = value_of(&kernel.get(minor, block).await?);
        guest.inner.checker.read(guest.vm(), &disk, block, value);
        largest = value.max(largest);
    }
    kernel.begin_after(minor, largest);
    Ok(())
}

/// A few numbers, and a flush more often than not.
async fn write(kernel: &Kernel, minor: u32, more: u64) -> Result<(), i32> {
    for _ in 0..=more {
        kernel.put(minor)?;
    }
    match more {
        0 => Ok(()),
        _ => kernel.sync(minor).await,
    }
}
