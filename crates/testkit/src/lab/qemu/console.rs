//! Commands in a guest, over a serial port between it and QEMU: no network and no vSocket is needed for them, so they work before
//! and after everything else does.
//!
//! One command at a time and machine; what takes long is put in the background by its script. An answer that comes after
//! its command was given up carries another id and is passed over.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use uuid::Uuid;

use crate::lab::state::lock;

/// A guest's command line.
#[derive(Debug, Clone)]
pub(super) struct Console {
    socket: PathBuf,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: i32,
    pub(super) text: String,
}

impl Console {
    pub(super) fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Runs a script in the guest.
    pub(super) fn run(&self, script: &str, limit: Duration) -> Result<Said> {
        let deadline = Instant::now() + limit;
        let _turn = lock(&self.socket.with_extension("lock"))?;
        let connect = || format!("connect to {}", self.socket.display());
        let stream = UnixStream::connect(&self.socket).with_context(connect)?;
        let id = Uuid::new_v4().simple().to_string();
        // Whole lines: nothing is left over of one that was cut off.
        let line = format!("\n{id} {}\n", encode(script.as_bytes()));
        (&stream).write_all(line.as_bytes())?;
        let mut reader = BufReader::new(&stream);
        let mut line = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(
                !left.is_zero(),
                "the guest at {} did not finish within {limit:?}: {script}",
                self.socket.display()
            );
            stream.set_read_timeout(Some(left))?;
            match reader.read_until(b'\n', &mut line) {
                Ok(0) => bail!("the machine of {} ended", self.socket.display()),
                Ok(_) if line.last() == Some(&b'\n') => {
                    if let Some(said) = answer(&String::from_utf8_lossy(&line), &id)? {
                        return Ok(said);
                    }
                    line.clear();
                }
                Ok(_) => {}
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(e) => return Err(e).context("read from the guest"),
            }
        }
    }

    /// Whether the guest takes commands.
    pub(super) fn answers(&self, limit: Duration) -> bool {
        self.run("true", limit).is_ok_and(|said| said.code == 0)
    }
}

/// The answer in a line, if it is to this id.
fn answer(line: &str, id: &str) -> Result<Option<Said>> {
    let mut words = line.split_whitespace();
    if words.next() != Some(id) {
        return Ok(None);
    }
    let code = words.next().and_then(|code| code.parse().ok());
    let code = code.with_context(|| format!("the guest answered '{line}'"))?;
    let text = decode(words.next().unwrap_or_default())?;
    Ok(Some(Said {
        code,
        text: String::from_utf8_lossy(&text).into_owned(),
    }))
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64: scripts and outputs have line ends, the line has one command each.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (at, byte)| {
            word | u32::from(*byte) << (16 - 8 * at)
        });
        for at in 0..4 {
            let digit = usize::try_from(word >> (18 - 6 * at) & 63).unwrap_or_default();
            let there = at <= chunk.len();
            let digit = DIGITS.get(digit).filter(|_| there).copied();
            text.push(char::from(digit.unwrap_or(b'=')));
        }
    }
    text
}

fn decode(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut word, mut bits) = (0u32, 0u32);
    for digit in text.trim_end_matches('=').bytes() {
        let value = DIGITS.iter().position(|one| *one == digit);
        let value = value.with_context(|| format!("no base64: {text:.80}"))?;
        word = (word << 6 | u32::try_from(value)?) & 0xff_ffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(word >> bits & 0xff)?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_again_and_known_texts_are_right() {
        for text in ["", "f", "fo", "foo", "foob", "fooba", "foobar", "ä\n\0"] {
            let there_and_back = decode(&encode(text.as_bytes())).unwrap();
            assert_eq!(there_and_back, text.as_bytes());
        }
        assert_eq!(encode(b"foob"), "Zm9vYg==");
        assert_eq!(encode(b"fooba"), "Zm9vYmE=");
        assert!(decode("*").is_err());
    }

    #[test]
    fn only_the_answer_to_the_command_counts() {
        assert_eq!(answer("other 0 Zm9v\n", "id").unwrap(), None);
        let said = answer("id 3 Zm9v\n", "id").unwrap().unwrap();
        assert_eq!((said.code, said.text.as_str()), (3, "foo"));
        let silent = answer("id 0\n", "id").unwrap().unwrap();
        assert_eq!(silent.text, "");
    }
}
