//! The installer's one door to other programs: absolute path, no shell, a time limit, and the output's end for people.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A service that starts or stops takes seconds; a hanging service manager must not hang its caller for ever.
const LIMIT: Duration = Duration::from_secs(90);
/// How often the program is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// What is kept of its words.
const OUTPUT_MAX: u64 = 16 * 1024;

/// Runs `program`; what it printed, trimmed, if it succeeds.
///
/// # Errors
/// It does not start, fails (its words are in the error), or takes too long and was killed.
pub(super) fn run(program: &Path, args: &[&str]) -> io::Result<String> {
    let mut child = command(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let out = reader(child.stdout.take());
    let err = reader(child.stderr.take());
    let until = Instant::now() + LIMIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        thread::sleep(LOOK);
    };
    let (out, err) = (joined(out), joined(err));
    if status.success() {
        return Ok(out);
    }
    let said = if err.is_empty() { out } else { err };
    Err(io::Error::other(format!(
        "{} {}: {status}: {said}",
        program.display(),
        args.join(" ")
    )))
}

/// Reads on the side, so that the program never blocks on a full pipe.
fn reader(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut pipe) = pipe {
            // What cannot be read is not shown; how the program ended decides.
            (&mut pipe).take(OUTPUT_MAX).read_to_end(&mut kept).ok();
            io::copy(&mut pipe, &mut io::sink()).ok();
        }
        String::from_utf8_lossy(&kept).trim().to_owned()
    })
}

fn joined(reader: thread::JoinHandle<String>) -> String {
    reader.join().unwrap_or_default()
}

#[expect(clippy::disallowed_methods, reason = "the installer's process module")]
fn command(program: &Path) -> Command {
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_program_said() {
        assert_eq!(
            run(Path::new("/bin/sh"), &["-c", "echo yes"]).unwrap(),
            "yes"
        );
        let error = run(Path::new("/bin/sh"), &["-c", "echo no way >&2; exit 3"]).unwrap_err();
        assert!(error.to_string().contains("no way"), "{error}");
    }
}
