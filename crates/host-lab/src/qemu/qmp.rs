//! QMP, QEMU's monitor protocol: one JSON object per line; commands are answered in order, events come in between.
//!
//! A connection is made for each piece of work and given back: the monitor serves one client at a time, and a labhv
//! that is killed must not leave it taken.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The greeting comes at once from a QEMU that runs; one that is stopped says nothing.
const GREETING: Duration = Duration::from_secs(5);
/// A command: milliseconds, or the time of requests that are under way on a busy disk.
const COMMAND: Duration = Duration::from_secs(30);
/// Between two tries to connect.
const AGAIN: Duration = Duration::from_millis(20);
/// Longest line. The list of all devices and nodes of a machine with 60 disks is below 200 KiB.
const MAX_LINE: u64 = 4 * 1024 * 1024;

/// QEMU refused, or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens, or nobody greets: nothing was asked.
    #[error("QEMU's monitor '{0}' does not answer")]
    Unreachable(PathBuf, #[source] io::Error),
    /// Asked, and no answer: what was asked may have happened.
    #[error("QEMU did not answer '{command}'")]
    NoAnswer {
        /// The command.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It said no; nothing happened.
    #[error("QEMU refused '{command}': {text}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's class of error, `GenericError` or `DeviceNotFound`.
        class: String,
        /// QEMU's words.
        text: String,
    },
}

impl QmpError {
    /// QEMU's words, when it refused.
    pub(crate) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Refused { text, .. } => Some(text),
            _ => None,
        }
    }

    /// There is no device of that id.
    pub(crate) fn is_device_not_found(&self) -> bool {
        matches!(self, Self::Refused { class, .. } if class == "DeviceNotFound")
    }
}

/// A connection, ready for commands.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
    /// Events that came while an answer was awaited.
    events: Vec<Value>,
}

impl Qmp {
    /// Connects and leaves the monitor's capabilities as they are.
    ///
    /// # Errors
    /// [`QmpError::Unreachable`]
    pub fn connect(path: &Path) -> Result<Self, QmpError> {
        let unreachable = |e| QmpError::Unreachable(path.to_owned(), e);
        let stream = dial(path).map_err(unreachable)?;
        stream
            .set_write_timeout(Some(COMMAND))
            .map_err(unreachable)?;
        let mut qmp = Self {
            reader: BufReader::new(stream),
            events: Vec::new(),
        };
        let greeting = qmp.read(Instant::now() + GREETING).map_err(unreachable)?;
        if greeting.get("QMP").is_none() {
            return Err(unreachable(io::Error::other("not a QMP monitor")));
        }
        qmp.run("qmp_capabilities", &json!({}))
            .map_err(|e| unreachable(io::Error::other(e)))?;
        Ok(qmp)
    }

    /// Runs a command and returns what QEMU answers.
    ///
    /// # Errors
    /// [`QmpError`]
    pub fn run(&mut self, command: &str, arguments: &Value) -> Result<Value, QmpError> {
        let silent = |source| QmpError::NoAnswer {
            command: command.to_owned(),
            source,
        };
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        self.reader
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(silent)?;
        let deadline = Instant::now() + COMMAND;
        loop {
            let mut said = self.read(deadline).map_err(silent)?;
            if let Some(answer) = said.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = said.get("error") {
                let text = |key: &str| {
                    let text = error.get(key).and_then(Value::as_str);
                    text.unwrap_or_default().to_owned()
                };
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    class: text("class"),
                    text: text("desc"),
                });
            }
            self.events.push(said);
        }
    }

    /// Waits for an event of this name about this device, which may have come already.
    ///
    /// # Errors
    /// [`QmpError::NoAnswer`] at the deadline.
    pub(crate) fn await_event(
        &mut self,
        name: &str,
        device: &str,
        deadline: Instant,
    ) -> Result<(), QmpError> {
        let is = |event: &Value| {
            let about = event.get("data").and_then(|data| data.get("device"));
            event.get("event").and_then(Value::as_str) == Some(name)
                && about.and_then(Value::as_str) == Some(device)
        };
        let come = self.events.iter().any(is);
        self.events.clear();
        if come {
            return Ok(());
        }
        loop {
            let said = self.read(deadline).map_err(|source| QmpError::NoAnswer {
                command: name.to_owned(),
                source,
            })?;
            if is(&said) {
                return Ok(());
            }
        }
    }

    fn read(&mut self, deadline: Instant) -> io::Result<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.reader.get_mut().set_read_timeout(Some(left))?;
        let mut line = Vec::new();
        let mut limited = self.reader.by_ref().take(MAX_LINE);
        limited.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

/// A QEMU that has just been started may not listen yet.
fn dial(path: &Path) -> io::Result<UnixStream> {
    let deadline = Instant::now() + GREETING;
    loop {
        match UnixStream::connect(path) {
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused && Instant::now() < deadline => {
                sleep(AGAIN);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread::{JoinHandle, spawn};

    use tempfile::{TempDir, tempdir};

    use super::*;

    /// A monitor that greets and then answers each command with the next of these lines.
    fn monitor(answers: &'static [&'static str]) -> (TempDir, PathBuf, JoinHandle<Vec<String>>) {
        let dir = tempdir().unwrap();
        let path = dir.path().join("qmp");
        let listener = UnixListener::bind(&path).unwrap();
        let served = spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut writer = stream.try_clone().unwrap();
            writer.write_all(b"{\"QMP\": {}}\n").unwrap();
            let mut commands = BufReader::new(stream).lines();
            let mut asked = Vec::new();
            for answer in ["{\"return\": {}}"].iter().chain(answers) {
                asked.push(commands.next().unwrap().unwrap());
                writer.write_all(answer.as_bytes()).unwrap();
                writer.write_all(b"\n").unwrap();
            }
            asked
        });
        (dir, path, served)
    }

    #[test]
    fn events_between_a_command_and_its_answer_are_kept_for_who_waits() {
        let event = "{\"event\":\"DEVICE_DELETED\",\"data\":{\"device\":\"d1\"}}\n{\"return\": {}}";
        let answers: &[&str] = Box::leak(Box::new([event]));
        let (_dir, path, served) = monitor(answers);
        let mut qmp = Qmp::connect(&path).unwrap();
        qmp.run("device_del", &json!({ "id": "d1" })).unwrap();
        let soon = Instant::now() + Duration::from_secs(5);
        qmp.await_event("DEVICE_DELETED", "d1", soon).unwrap();
        let asked = served.join().unwrap();
        assert!(asked[1].contains("device_del"), "{asked:?}");
    }

    #[test]
    fn a_refusal_is_told_from_silence() {
        let (_dir, path, served) =
            monitor(&["{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}"]);
        let mut qmp = Qmp::connect(&path).unwrap();
        let refused = qmp.run("blockdev-del", &json!({})).unwrap_err();
        assert_eq!(refused.refusal(), Some("no"));
        served.join().unwrap();
        let silent = qmp.run("query-status", &json!({})).unwrap_err();
        assert!(matches!(silent, QmpError::NoAnswer { .. }), "{silent}");
        let nobody = Qmp::connect(Path::new("/nonexistent")).unwrap_err();
        assert!(matches!(nobody, QmpError::Unreachable(..)));
    }
}
