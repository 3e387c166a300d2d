//! The one door to other programs: absolute path from a fixed list, no shell, arguments as a slice, empty
//! environment, capped output, time limit.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use tokio::io::{AsyncRead, AsyncReadExt, copy, sink};
use tokio::process::Command;
use tokio::time::timeout;

/// Where system programs live. The same folders, in the same order of precedence, as the original searched (its later
/// folders won).
pub(crate) const PROGRAM_DIRS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What one program may print before the rest is thrown away: enough for any error, too little to hurt.
const OUTPUT_CAP: u64 = 16 * 1024;

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit code; `None` after a signal.
    pub(crate) code: Option<i32>,
    /// For messages, in the original's words (`exit status 1`).
    pub(crate) status: String,
    /// Standard output, capped.
    pub(crate) stdout: String,
    /// Standard error, capped.
    pub(crate) stderr: String,
}

/// The program of that name in the fixed folders.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    PROGRAM_DIRS
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| access(path, AccessFlags::X_OK).is_ok() && path.is_file())
}

/// Runs `program` and waits; beyond `limit` it is killed and the error is [`io::ErrorKind::TimedOut`].
pub(crate) async fn run<A: AsRef<OsStr>>(
    program: &Path,
    args: &[A],
    limit: Duration,
) -> io::Result<Finished> {
    if !program.is_absolute() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        // The tools' messages are read by people who search for them.
        .env("LC_ALL", "C")
        .env("PATH", PROGRAM_DIRS.join(":"))
        // No cache of what was on a disk minutes ago: by it `mkfs.btrfs` calls the UUID of a format that was cut off
        // taken, by the very disk that it is to format again. Named in libblkid(3), "BLKID_FILE".
        .env("BLKID_FILE", "/dev/null")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let all = async {
        let (stdout, stderr, status) = tokio::join!(capped(out), capped(err), child.wait());
        Ok::<_, io::Error>((stdout?, stderr?, status?))
    };
    let (stdout, stderr, status) = timeout(limit, all)
        .await
        .map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Finished {
        code: status.code(),
        status: describe(status),
        stdout,
        stderr,
    })
}

/// Reads to the end, so the program never blocks on a full pipe, and keeps the beginning.
async fn capped(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<String> {
    let Some(mut pipe) = pipe else {
        return Ok(String::new());
    };
    let mut kept = Vec::new();
    (&mut pipe).take(OUTPUT_CAP).read_to_end(&mut kept).await?;
    copy(&mut pipe, &mut sink()).await?;
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

fn describe(status: ExitStatus) -> String {
    status
        .code()
        .map_or_else(|| status.to_string(), |code| format!("exit status {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_at_its_limit() {
        let sleep = program("sleep").unwrap();
        let error = run(&sleep, &["600"], Duration::from_millis(50))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn output_is_capped_and_the_program_still_ends() {
        let seq = program("seq").unwrap();
        let done = run(&seq, &["1", "100000"], Duration::from_secs(30))
            .await
            .unwrap();
        assert_eq!(done.code, Some(0));
        assert_eq!(done.stdout.len() as u64, OUTPUT_CAP);
    }

    #[tokio::test]
    async fn a_relative_path_is_never_run() {
        let relative = Path::new("mkfs.ext4");
        assert!(
            run::<&str>(relative, &[], Duration::from_secs(1))
                .await
                .is_err()
        );
    }
}
